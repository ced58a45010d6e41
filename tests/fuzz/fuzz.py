"""Fuzzes the parsers of chimirror: `make fuzz`, or `make fuzz ARGS="frames 60"`.

A target is a function `fuzz_NAME(data)` that raises for a broken property. atheris
drives it by coverage where it is installed, Hypothesis elsewhere. Each target starts
from its inputs in tests/fuzz/corpus/NAME, which test_fuzz_corpus.py replays. An input
that breaks a property is written to build/fuzz: copy it to the corpus with its cure.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
FOUND = HERE.parents[1] / "build" / "fuzz"
MODULES = (
    "fuzz_requests",
    "fuzz_frames",
    "fuzz_json",
    "fuzz_files",
    "fuzz_client",
    "fuzz_tools",
    "fuzz_chat",
    "fuzz_chat_client",
    "fuzz_services",
    "fuzz_authorizers",
)
SECONDS = 20
MAX_SIZE = 4096  # bytes of an input
MAX_MEMORY = 1024  # MiB of a fuzzing process
MAX_TIME = 5  # seconds for one input
BATCH = 500  # examples of Hypothesis between two looks at the clock
SEED = 12  # of both drivers

Target = Callable[[bytes], None]


def targets() -> dict[str, Target]:
    """Return all targets by name."""
    return {
        name.removeprefix("fuzz_"): function
        for module in map(importlib.import_module, MODULES)
        for name, function in vars(module).items()
        if name.startswith("fuzz_") and callable(function)
    }


def seeds(name: str) -> list[Path]:
    """Return the inputs of a target in the corpus."""
    return sorted((CORPUS / name).glob("*"))


def has_atheris() -> bool:
    return importlib.util.find_spec("atheris") is not None


def run_atheris(name: str, seconds: int) -> None:
    """Fuzz one target by coverage. Ends this process."""
    import atheris

    with atheris.instrument_imports(
        include=["chimirror", "tomllib", "websockets", "chat"]
    ):
        target = targets()[name]
    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    argv = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-max_len={MAX_SIZE}",
        f"-timeout={MAX_TIME}",
        f"-rss_limit_mb={MAX_MEMORY}",
        f"-seed={SEED}",
        f"-artifact_prefix={FOUND}/{name}-",
        "-print_final_stats=1",
        "-verbosity=0",
        str(found),
        *[str(CORPUS / name)] * (CORPUS / name).is_dir(),
    ]
    atheris.Setup(argv, target)
    atheris.Fuzz()


def run_hypothesis(name: str, seconds: int) -> None:
    """Fuzz one target with random inputs and edited seeds.

    Raises:
        Exception: of the target, after its input has been written.
    """
    from hypothesis import HealthCheck, given, seed, settings
    from hypothesis import strategies as st

    target = targets()[name]
    known = [path.read_bytes() for path in seeds(name)] or [b""]
    edited = st.builds(
        lambda old, at, size, new: (
            old[: at % (len(old) + 1)] + new + old[at % (len(old) + 1) + size :]
        ),
        st.sampled_from(known),
        st.integers(0, MAX_SIZE),
        st.integers(0, 8),
        st.binary(max_size=8),
    )
    last = b""

    def once(data: bytes) -> None:
        nonlocal last
        last = data
        target(data)

    check = settings(
        max_examples=BATCH,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )(given(st.one_of(edited, st.binary(max_size=200)))(once))
    end, number = monotonic() + seconds, SEED
    try:
        while monotonic() < end:
            seed(number)(check)()
            number += 1
    except Exception:
        FOUND.mkdir(parents=True, exist_ok=True)
        (FOUND / f"{name}-hypothesis").write_bytes(last)
        raise
    print(f"{(number - SEED) * BATCH} examples")


def run_all(names: list[str], seconds: int, driver: str) -> int:
    """Run each target in a process of its own. Returns 1 if one has failed."""
    failed = []
    for name in names:
        argv = [sys.executable, "-P", __file__, "--one", name, str(seconds)]
        with tempfile.TemporaryDirectory() as scratch:
            result = subprocess.run(
                [*argv, "--driver", driver],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=scratch,
                text=True,
                errors="replace",
                timeout=seconds + 120,
            )
        runs = [
            words[1]
            for line in result.stdout.splitlines()
            if (words := line.split())[:1] == ["stat::number_of_executed_units:"]
        ]
        said = f"{runs[0]} inputs" if runs else result.stdout.strip()[-60:]
        print(f"{name:20} {'FAILED' if result.returncode else said}", flush=True)
        if result.returncode:
            print(result.stdout[-3000:])
            failed.append(name)
    return 1 if failed else 0


def main() -> int:
    default = "atheris" if has_atheris() else "hypothesis"
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="(all)")
    parser.add_argument("--list", action="store_true", help="list the targets and exit")
    parser.add_argument("--driver", choices=("atheris", "hypothesis"), default=default)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    words = list(args.targets)
    seconds = int(words.pop()) if words and words[-1].isdigit() else SECONDS
    if args.one:
        run = run_atheris if args.driver == "atheris" else run_hypothesis
        run(words[0], seconds)
        return 0
    known = list(targets())
    if unknown := set(words) - set(known):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; see --list")
    if args.list:
        print("\n".join(known))
        return 0
    print(f"{args.driver}, {seconds} s each, seed {SEED}")
    return run_all(words or known, seconds, args.driver)


if __name__ == "__main__":
    root = HERE.parents[1]
    sys.path += [str(HERE), str(HERE.parent / "support")]
    sys.path += [str(root / "examples"), str(root / "build" / "examples")]
    os.environ.pop("PYTHONSAFEPATH", None)
    sys.exit(main())

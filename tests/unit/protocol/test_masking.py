"""Every way to unmask gives the same bytes, with and without the C function."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.protocol import frame_format

if TYPE_CHECKING:
    from chimirror.protocol.frame_format import Unmask

SIZES = (0, 1, 2, 3, 4, 5, 63, 64, 125, 1023, 1024, 1025, 1026, 1027, 65536, 100_003)
SERVICES = (
    frame_format.by_integers,
    frame_format.by_stripes,
    frame_format.load_native(sys.path),
)


def by_the_book(payload: bytes, mask: bytes) -> bytes:
    """RFC 6455, section 5.3, word for word."""
    return bytes(octet ^ mask[i % 4] for i, octet in enumerate(payload))


MASKS = (b"\x00\x00\x00\x00", b"\x01\x02\x03\x04", b"\xff\x00\x80\x7f")


@pytest.mark.parametrize("unmask", SERVICES)
def test_sizes(unmask: Unmask) -> None:
    for size, mask in itertools.product(SIZES, MASKS):
        payload = bytes(i * 7 % 256 for i in range(size))
        expected = by_the_book(payload, mask)
        assert unmask(payload, mask) == expected
        with memoryview(payload) as view, memoryview(mask) as key:
            assert unmask(view, key) == expected
        assert unmask(bytearray(payload), bytearray(mask)) == expected


@given(st.binary(max_size=3000), st.binary(min_size=4, max_size=4))
def test_all_ways_agree(payload: bytes, mask: bytes) -> None:
    expected = by_the_book(payload, mask)
    assert [unmask(payload, mask) for unmask in SERVICES] == [expected] * len(SERVICES)


def test_the_c_function_is_there() -> None:
    assert frame_format.load_native(sys.path) is not frame_format.by_stripes


def test_the_package_can_still_be_imported() -> None:
    """An earlier load of the C module does not disturb the import of websockets."""
    ours = frame_format.load_native(sys.path)
    from websockets import speedups

    assert speedups.apply_mask(b"abcde", b"\1\2\3\4") == ours(b"abcde", b"\1\2\3\4")


def test_without_websockets(tmp_path: Path) -> None:
    assert frame_format.load_native([str(tmp_path)]) is frame_format.by_stripes


def test_a_directory_in_place_of_the_module(tmp_path: Path) -> None:
    (tmp_path / "websockets" / "speedups").mkdir(parents=True)
    assert frame_format.load_native([str(tmp_path)]) is frame_format.by_stripes


def test_a_module_that_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "websockets").mkdir()
    (tmp_path / "websockets" / "speedups.abi3.so").write_bytes(b"not a library")
    assert frame_format.load_native([str(tmp_path)]) is frame_format.by_stripes


def test_the_c_function_is_loaded_once_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_format, "_spent", 0)
    monkeypatch.setattr(frame_format, "unmask", frame_format._at_first)
    for _ in range(frame_format._BUDGET // (frame_format._CALL + 64)):
        frame_format.unmask(bytes(64), b"abcd")
    assert frame_format.unmask is frame_format._at_first
    assert frame_format.unmask(bytes(64), b"abcd") == b"abcd" * 16
    assert frame_format.unmask is not frame_format._at_first
    assert frame_format.unmask(bytes(6), b"abcd") == b"abcdab"


def test_a_large_payload_loads_the_c_function_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frame_format, "_spent", 0)
    monkeypatch.setattr(frame_format, "unmask", frame_format._at_first)
    assert frame_format.unmask(bytes(1 << 17), b"abcd") == b"abcd" * (1 << 15)
    assert frame_format.unmask is not frame_format._at_first


def test_it_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that has kept the first function gets the C function, too."""
    monkeypatch.setattr(frame_format, "_spent", frame_format._BUDGET)
    monkeypatch.setattr(frame_format, "unmask", frame_format._at_first)
    kept = frame_format.unmask
    assert kept(b"abcd", b"\0\0\0\0") == b"abcd"
    loaded = frame_format.unmask
    assert kept(b"abcd", b"\1\1\1\1") == b"`cbe"
    assert frame_format.unmask is loaded

"""Every way to unmask gives the same bytes, whatever can be loaded."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimirror.wire import masking

if TYPE_CHECKING:
    from chimirror.wire.masking import Unmask

SIZES = (0, 1, 2, 3, 4, 5, 63, 64, 125, 1023, 1024, 1025, 1026, 1027, 65536, 100_003)
WAYS = (masking.by_integers, masking.by_stripes, masking.native(sys.path))


def by_the_book(payload: bytes, mask: bytes) -> bytes:
    """RFC 6455, section 5.3, word for word."""
    return bytes(octet ^ mask[i % 4] for i, octet in enumerate(payload))


MASKS = (b"\x00\x00\x00\x00", b"\x01\x02\x03\x04", b"\xff\x00\x80\x7f")


@pytest.mark.parametrize("unmask", WAYS)
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
    assert [unmask(payload, mask) for unmask in WAYS] == [expected] * len(WAYS)


def test_the_c_function_is_there() -> None:
    assert masking.native(sys.path) is not masking.by_stripes


def test_the_package_can_still_be_imported() -> None:
    """Its own import of the module is not disturbed by ours before it."""
    ours = masking.native(sys.path)
    from websockets import speedups

    assert speedups.apply_mask(b"abcde", b"\1\2\3\4") == ours(b"abcde", b"\1\2\3\4")


def test_without_websockets(tmp_path: Path) -> None:
    assert masking.native([str(tmp_path)]) is masking.by_stripes


def test_a_directory_in_place_of_the_module(tmp_path: Path) -> None:
    (tmp_path / "websockets" / "speedups").mkdir(parents=True)
    assert masking.native([str(tmp_path)]) is masking.by_stripes


def test_a_module_that_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "websockets").mkdir()
    (tmp_path / "websockets" / "speedups.abi3.so").write_bytes(b"not a library")
    assert masking.native([str(tmp_path)]) is masking.by_stripes


def test_the_c_function_comes_when_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_spent", 0)
    monkeypatch.setattr(masking, "unmask", masking._at_first)
    for _ in range(masking._BUDGET // (masking._CALL + 64)):
        masking.unmask(bytes(64), b"abcd")
    assert masking.unmask is masking._at_first
    assert masking.unmask(bytes(64), b"abcd") == b"abcd" * 16
    assert masking.unmask is not masking._at_first
    assert masking.unmask(bytes(6), b"abcd") == b"abcdab"


def test_a_large_payload_gets_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_spent", 0)
    monkeypatch.setattr(masking, "unmask", masking._at_first)
    assert masking.unmask(bytes(1 << 17), b"abcd") == b"abcd" * (1 << 15)
    assert masking.unmask is not masking._at_first


def test_it_is_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for one who has kept the function that was there at first."""
    monkeypatch.setattr(masking, "_spent", masking._BUDGET)
    monkeypatch.setattr(masking, "unmask", masking._at_first)
    kept = masking.unmask
    assert kept(b"abcd", b"\0\0\0\0") == b"abcd"
    loaded = masking.unmask
    assert kept(b"abcd", b"\1\1\1\1") == b"`cbe"
    assert masking.unmask is loaded

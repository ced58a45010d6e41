"""Tests the frames of examples/chat: any cut, hostile lengths, what is no message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import chat_pb2 as pb
from chat.framing import (
    HEADER,
    FrameDecoder,
    FrameError,
    decode_message,
    encode_frame,
)
from chat.limits import MAX_FRAME

MESSAGES = st.one_of(
    st.builds(
        lambda name, key: pb.FromClient(login=pb.Login(name=name, public_key=key)),
        st.text(st.characters(codec="utf-8"), max_size=20),
        st.binary(max_size=40),
    ),
    st.builds(
        lambda chat, sealed: pb.FromClient(
            content=pb.SealedContent(chat=chat, sealed=sealed)
        ),
        st.integers(0, (1 << 64) - 1),
        st.binary(max_size=300),
    ),
    st.just(pb.FromClient(keep_alive=pb.KeepAlive())),
)


def frames_of(decoder: FrameDecoder) -> list[bytes]:
    """Return all complete frames."""
    return list(iter(decoder.next_frame, None))


@given(st.lists(MESSAGES, max_size=8), st.data())
def test_any_cut_gives_the_same_messages(
    messages: list[pb.FromClient], data: st.DataObject
) -> None:
    stream = b"".join(map(encode_frame, messages))
    decoder, found = FrameDecoder(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        decoder.feed(stream[:size])
        stream = stream[size:]
        found += frames_of(decoder)
    assert [decode_message(pb.FromClient, frame) for frame in found] == messages
    assert decoder.size == 0


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=20))
def test_random_bytes_are_frames_or_an_error(chunks: list[bytes]) -> None:
    decoder = FrameDecoder(limit=16)
    fed = given_back = 0
    for chunk in chunks:
        decoder.feed(chunk)
        fed += len(chunk)
        try:
            frames = frames_of(decoder)
        except FrameError:
            return
        assert all(0 < len(frame) <= 16 for frame in frames)
        given_back += sum(HEADER + len(frame) for frame in frames)
        assert decoder.size == fed - given_back < HEADER + 16


@pytest.mark.parametrize("length", [0, MAX_FRAME + 1, 1 << 31, (1 << 32) - 1])
def test_a_hostile_length_is_an_error_at_once_and_for_ever(length: int) -> None:
    decoder = FrameDecoder()
    header = length.to_bytes(HEADER, "big")
    decoder.feed(header[:3])
    assert decoder.next_frame() is None
    decoder.feed(header[3:])
    for _ in range(2):
        with pytest.raises(FrameError, match=rf"^a frame of {length} bytes \(1 to"):
            decoder.next_frame()


def test_a_frame_of_the_maximum_size_passes() -> None:
    message = pb.FromClient(content=pb.SealedContent(chat=1, sealed=b"x" * 65_526))
    frame = encode_frame(message)
    assert len(frame) == HEADER + MAX_FRAME
    decoder = FrameDecoder()
    decoder.feed(frame)
    found = decoder.next_frame()
    assert found is not None
    assert decode_message(pb.FromClient, found) == message


@pytest.mark.parametrize("size", [0, 65_527])
def test_no_frame_has_no_content_or_too_much(size: int) -> None:
    message = pb.FromClient()
    if size:
        message.content.chat = 1
        message.content.sealed = b"x" * size
    with pytest.raises(FrameError, match=r"^a message of "):
        encode_frame(message)


@pytest.mark.parametrize(
    "frame",
    [
        b"\x0a\x05ab",  # a field that is longer than its message
        b"\x0a\x04\x0a\x02\xff\xfe",  # a name that is not UTF-8
        b"\x07",  # a wire type that does not exist
        b"\x0b" * 200,  # groups within groups
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_message(frame: bytes) -> None:
    with pytest.raises(
        FrameError, match=rf"^{len(frame)} bytes that are no FromClient$"
    ):
        decode_message(pb.FromClient, frame)

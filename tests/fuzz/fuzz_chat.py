"""Fuzz targets for the chat of the examples: frames, names, content, a whole server."""

from __future__ import annotations

import chat_pb2 as pb
from chat.encryption import ChatMember, ContentError, EncryptedChat, KeyPair
from chat.framing import FrameDecoder, FrameError, decode_message, encode_frame
from chat.limits import KEY_SIZE, MAX_NAME, NONCE_SIZE
from chat.names import InvalidName, name_key, normalize_name
from chat_peer import NONCE, frame_of
from fake_chat import FakeChat, FakeClient
from fuzz_input import FuzzInput, pieces

ADA, BOB = KeyPair(), KeyPair()
NAMES = ("ada", "bob", "Ada", "carol", "", "no name", "dora")
MAX_CONNECTIONS = 8
MAX_STEPS = 200


def fuzz_chat_frames(data: bytes) -> None:
    """Frames, cut anywhere, are the same frames. Each is a message or an error."""
    source = FuzzInput(data)
    cuts, stream = source.cuts(), source.rest()
    frames = frames_of([stream])
    assert frames == frames_of(pieces(stream, cuts))
    for frame in frames:
        try:
            message = decode_message(pb.FromClient, frame)
        except FrameError as error:
            assert str(error).isprintable()
        else:
            again = encode_frame(message)
            assert decode_message(pb.FromClient, again[4:]) == message


def frames_of(chunks: list[bytes]) -> list[bytes]:
    decoder, found = FrameDecoder(limit=100), []
    for chunk in chunks:
        decoder.feed(chunk)
        try:
            while (frame := decoder.next_frame()) is not None:
                found.append(frame)
        except FrameError as error:
            assert str(error).isprintable()
            break
        assert decoder.size < 104
    return found


def fuzz_chat_name(data: bytes) -> None:
    """A text is a name in its normal form, or has a printable error."""
    text = data.decode("utf-8", "replace")
    try:
        name = normalize_name(text)
    except InvalidName as error:
        assert str(error).isprintable()
        return
    assert 0 < len(name) <= MAX_NAME
    assert name.isprintable()
    assert normalize_name(name) == name
    assert name_key(name) == name_key(name_key(name))


def fuzz_chat_content(data: bytes) -> None:
    """What a partner encrypts, and what a server invents, is a text or an error."""
    own = ChatMember("ada", ADA.public_key, b"a" * NONCE_SIZE)
    partner = ChatMember("bob", BOB.public_key, b"b" * NONCE_SIZE)
    chat = EncryptedChat(ADA, own, partner)
    box = BOB.share_with(ADA.public_key)
    context = pb.Content(context=chat._partner_context).SerializeToString()
    plain = context + data[1:] if data[:1] == b"\0" else data
    sealed = bytes(box.encrypt(plain))
    for received in (data, sealed, sealed):
        try:
            opened = chat.open(received)
        except ContentError as error:
            assert str(error).isprintable()
        else:
            assert opened.missing >= 0


def fuzz_chat_server(data: bytes) -> None:
    """Whatever clients do, users and chats fit together, and nothing is left."""
    source = FuzzInput(data)
    chat = FakeChat()
    clients = [chat.connect()]
    for _ in range(MAX_STEPS):
        if source.position >= len(data):
            break
        client = clients[source.byte() % len(clients)]
        kind = source.byte() % 16
        if kind == 0 and len(clients) < MAX_CONNECTIONS:
            clients.append(chat.connect())
        elif kind <= 8:
            client.send(message_of(kind, client, source))
        else:
            act(kind, client, source)
        chat.check()
        if source.byte() % 4:
            chat.loop.run_ready()
            chat.check()
    chat.end()


def message_of(kind: int, client: FakeClient, source: FuzzInput) -> bytes:
    """Return what a client sends: a message, several, or any bytes."""
    number = source.byte() & 7 or client.chat
    name = NAMES[source.byte() % len(NAMES)]
    match kind:
        case 1 | 2:
            token = client.tokens.get(name.lower(), b"") if kind == 2 else b""
            key = name.ljust(KEY_SIZE).encode()
            login = pb.Login(name=name, public_key=key, resume_token=token)
            frames = frame_of(login=login)
        case 3:
            frames = frame_of(start_chat=pb.StartChat(name=name, nonce=NONCE))
        case 4:
            accepted = source.byte() % 4 > 0
            answer = pb.AnswerChat(chat=number, accepted=accepted, nonce=NONCE)
            frames = frame_of(answer_chat=answer)
        case 5:
            content = pb.SealedContent(chat=number, sealed=bytes(source.byte() * 128))
            frames = frame_of(content=content) * (1 + source.byte() % 32)
        case 6:
            frames = frame_of(exit_chat=pb.ExitChat(chat=number))
        case 7:
            listing = frame_of(list_users=pb.ListUsers())
            frames = listing * source.byte() + frame_of(keep_alive=pb.KeepAlive())
        case _:
            frames = source.take(source.byte() % 32)
    return frames


def act(kind: int, client: FakeClient, source: FuzzInput) -> None:
    """Let a client read or not, end, or fall silent."""
    match kind:
        case 9 | 10:
            client.stop_taking()
        case 11 | 12:
            client.take()
        case 13:
            client.close_sending()
        case 14:
            client.lose()
        case _:
            client.loop.advance(source.byte() / 4)

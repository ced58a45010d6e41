"""One encrypted connection in memory: handshake, data, failures, ends."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest
import trustme

from chimirror.tls.certificates import CertificateFiles, Certificates
from chimirror.tls.channel import MAX_DATA, TlsChannel
from tls_peers import TLS_1_2, TLS_1_3, TlsClient, client_context, write_certificate

AUTHORITY = trustme.CA()
VERSIONS = pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    file = write_certificate(path, AUTHORITY, "localhost")
    return Certificates([CertificateFiles(file, file)]).context()


def whole(data: bytes) -> list[bytes]:
    return [data]


def single(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def exchange(
    client: TlsClient,
    channel: TlsChannel,
    cut: Callable[[bytes], list[bytes]] = whole,
) -> bytes:
    """Pass bytes both ways until neither end has more. Returns the received data."""
    received = b""
    while data := client.outgoing.read():
        for piece in cut(data):
            received += channel.receive(piece)
        for piece in cut(channel.take_output()):
            client.incoming.write(piece)
        if not client.is_established:
            client.shake_hands()
    return received


def connected(
    context: ssl.SSLContext,
    version: ssl.TLSVersion | None = None,
    cut: Callable[[bytes], list[bytes]] = whole,
) -> tuple[TlsClient, TlsChannel]:
    client = TlsClient(client_context(AUTHORITY, version))
    channel = TlsChannel(context)
    client.shake_hands()
    assert exchange(client, channel, cut) == b""
    assert client.is_established
    assert channel.is_established
    return client, channel


@VERSIONS
@pytest.mark.parametrize("cut", [whole, single])
def test_data_passes_in_pieces_of_any_size(
    context: ssl.SSLContext,
    version: ssl.TLSVersion,
    cut: Callable[[bytes], list[bytes]],
) -> None:
    client, channel = connected(context, version, cut)
    sent = bytes(range(256)) * 160  # 40 KiB: several records
    client.write(sent)
    assert exchange(client, channel, cut) == sent
    assert channel.send([sent[:1], memoryview(sent)[1:], b""]) == len(sent)
    for piece in cut(channel.take_output()):
        client.incoming.write(piece)
    assert client.read() == sent
    assert channel.take_output() == b""


@VERSIONS
def test_request_may_follow_the_handshake_at_once(
    context: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    """The last bytes of the handshake and the first data arrive together."""
    client, channel = TlsClient(client_context(AUTHORITY, version)), TlsChannel(context)
    client.shake_hands()
    while not client.is_established:
        assert channel.receive(client.outgoing.read()) == b""
        client.incoming.write(channel.take_output())
        client.shake_hands()
    client.write(b"request")
    assert channel.receive(client.outgoing.read()) == b"request"


def test_no_data_before_the_handshake_is_complete(context: ssl.SSLContext) -> None:
    """Not even a handshake that lacks one byte gives data."""
    client, channel = TlsClient(client_context(AUTHORITY)), TlsChannel(context)
    client.shake_hands()
    channel.receive(client.outgoing.read())
    client.incoming.write(channel.take_output())
    client.shake_hands()
    finished = client.outgoing.read()
    client.write(b"request")
    for byte in single(finished)[:-1]:
        assert channel.receive(byte) == b""
        assert not channel.is_established
    assert channel.receive(finished[-1:]) == b""
    assert channel.is_established
    assert channel.receive(client.outgoing.read()) == b"request"


def test_send_is_bounded(context: ssl.SSLContext) -> None:
    client, channel = connected(context)
    data = bytes(MAX_DATA - 1)
    assert channel.send([data, b"ab", b"c"]) == MAX_DATA
    client.incoming.write(channel.take_output())
    assert client.read() == data + b"a"
    assert channel.send([]) == channel.send([b""]) == 0
    assert channel.take_output() == b""


@VERSIONS
def test_close_notify_of_the_client(
    context: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    client, channel = connected(context, version)
    client.write(b"last")
    client.close()
    assert exchange(client, channel) == b"last"
    assert channel.is_peer_closed
    assert not channel.failure
    assert channel.receive(b"\x17\x03\x03\0\x01x") == b""  # is not even read


@VERSIONS
def test_input_after_our_close_notify_is_read(
    context: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    client, channel = connected(context, version)
    channel.send([b"last"])
    channel.close()
    channel.close()
    client.write(b"more")
    assert exchange(client, channel) == b"more"
    assert client.read() == b"last"
    assert client.is_closed
    assert not channel.failure
    with pytest.raises(OSError):
        channel.send([b"late"])


@VERSIONS
def test_data_before_a_failure_is_returned(
    context: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    client, channel = connected(context, version)
    client.write(b"before")
    broken = b"\x17\x03\x03\0\x28" + bytes(40)
    assert channel.receive(client.outgoing.read() + broken) == b"before"
    assert channel.failure == "decryption failed or bad record mac"
    client.incoming.write(channel.take_output())
    with pytest.raises(ssl.SSLError, match="bad record mac"):
        client.read()
    with pytest.raises(OSError):
        channel.send([b"after"])
    channel.close()


def test_alert_of_the_client(context: ssl.SSLContext) -> None:
    """A client that does not trust the certificate says so."""
    client = TlsClient(client_context(trustme.CA()))
    channel = TlsChannel(context)
    client.shake_hands()
    channel.receive(client.outgoing.read())
    client.incoming.write(channel.take_output())
    with pytest.raises(ssl.SSLCertVerificationError):
        client.tls.do_handshake()
    assert channel.receive(client.outgoing.read()) == b""
    assert channel.failure == "tlsv1 alert unknown ca"
    assert not channel.is_established


GARBAGE = {
    b"\x16\x03\x01\0\x05hello": "unexpected message",
    b"\x16GET / HTTP/1.1\r\n\r\n": "wrong version number",
    b"\x16\x03\x01\xff\xff" + bytes(400): "packet length too long",
    b"\x16" + bytes(64): "wrong version number",
}


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda data: data[:6].hex())
def test_garbage(context: ssl.SSLContext, garbage: bytes) -> None:
    channel = TlsChannel(context)
    assert channel.receive(garbage) == b""
    assert GARBAGE[garbage] in channel.failure
    channel.close()


def test_no_common_cipher(context: ssl.SSLContext) -> None:
    theirs = client_context(AUTHORITY, TLS_1_2)
    theirs.set_ciphers("AES128-SHA:@SECLEVEL=0")
    client, channel = TlsClient(theirs), TlsChannel(context)
    client.shake_hands()
    channel.receive(client.outgoing.read())
    assert channel.failure == "no shared cipher"
    assert channel.take_output()  # the alert


@pytest.mark.filterwarnings("ignore:.*TLSv1:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    theirs = client_context(AUTHORITY)
    theirs.set_ciphers("ALL:@SECLEVEL=0")
    theirs.minimum_version = theirs.maximum_version = version
    client, channel = TlsClient(theirs), TlsChannel(context)
    client.shake_hands()
    channel.receive(client.outgoing.read())
    assert channel.failure == "unsupported protocol"


def test_new_keys_are_answered(context: ssl.SSLContext) -> None:
    client, channel = connected(context, TLS_1_3)
    client.request_keys()
    client.write(b"data")
    assert exchange(client, channel) == b"data"
    channel.send([b"answer"])
    client.incoming.write(channel.take_output())
    assert client.read() == b"answer"


@pytest.mark.parametrize(
    ("offered", "selected"),
    [(("http/1.1",), "http/1.1"), (("h2", "http/1.1"), "http/1.1"), (("h2",), None)],
)
def test_alpn(
    context: ssl.SSLContext, offered: tuple[str, ...], selected: str | None
) -> None:
    client = TlsClient(client_context(AUTHORITY, alpn=offered))
    channel = TlsChannel(context)
    client.shake_hands()
    exchange(client, channel)
    assert client.is_established
    assert client.tls.selected_alpn_protocol() == selected

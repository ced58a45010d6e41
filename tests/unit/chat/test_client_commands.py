"""Tests the commands of a client of examples/chat, without console and connection."""

from __future__ import annotations

from chat.encryption import fingerprint
from chat_pb2 import SealedContent, User, Users
from recorded_client import RecordedClient, client, logged_in

__all__ = ["client"]  # fixtures


# Names and the login.


def test_a_name_is_asked_for() -> None:
    client = RecordedClient()
    assert client.state.prompt() == "name: "
    assert client.type("")[0].startswith("error: a name")
    assert client.type("two words")[0].startswith("error: a name")
    client.type(" alice ")
    assert client.state.login().login.name == "alice"
    assert client.events == ["log in"]
    assert not client.accepts("users")
    shown = client.get(logged_in=logged_in())
    assert shown[0] == "You are logged in as alice."
    assert fingerprint(client.state.keys.public_key) in shown[1]
    assert client.state.prompt() == "alice> "


def test_the_login_after_a_lost_connection(client: RecordedClient) -> None:
    other = client.start()
    key = client.state.keys.public_key
    assert client.state.on_disconnected() == "bob"
    assert client.state.prompt() == "alice (not connected)> "
    (said,) = client.type("message hello")
    assert said == "error: not connected: message was not executed"
    assert len(client.type("help")) > 5
    login = client.state.login().login
    assert (login.name, login.public_key, login.resume_token) == ("alice", key, b"x")
    assert client.get(logged_in=logged_in()) == ["You are logged in again as alice."]
    late = SealedContent(chat=1, sealed=other.seal("late"))
    assert client.get(content=late) == []


# Commands.


def test_help_has_all_commands(client: RecordedClient) -> None:
    names = {line.split()[0] for line in client.type("help")}
    assert names >= {"users", "start_chat", "message", "exit_chat", "update_messages"}
    assert names >= {"disconnect", "help", "yes", "no"}
    assert all(len(line) < 80 for line in client.shown)


def test_an_unknown_command(client: RecordedClient) -> None:
    (said,) = client.type("massage hello")
    assert said == "error: 'massage' is no command; help lists the commands"
    assert len(client.type("x" * 5000)[0]) < 200
    assert client.type("   ") == []


def test_users(client: RecordedClient) -> None:
    client.type("users")
    assert client.take().HasField("list_users")
    assert not client.accepts("disconnect")
    users = [User(name="alice"), User(name="bob", available=True), User(name="eve")]
    assert client.get(users=Users(users=users)) == [
        "  alice (you)",
        "  bob (available)",
        "  eve (not available)",
    ]
    assert client.accepts("disconnect")


def test_update_messages(client: RecordedClient) -> None:
    assert "no longer needed" in client.type("update_messages")[0]
    assert client.sent == []


def test_disconnect(client: RecordedClient) -> None:
    client.type("disconnect")
    assert client.events == ["log in", "disconnect"]


def test_arguments_are_asked_for(client: RecordedClient) -> None:
    assert "Write the name" in client.type("start_chat")[0]
    assert client.state.prompt() == "start_chat: "
    assert client.type("") == ["start_chat is cancelled."]
    client.type("start_chat ")
    client.type("bob")
    assert client.take().start_chat.name == "bob"
    other = client.begin(4, client.state.asked.nonce if client.state.asked else b"")
    assert "Write the text" in client.type("message")[0]
    client.type("  help me, please ")
    text = other.open(client.take().content.sealed).text
    assert text == "  help me, please "


def test_outside_a_chat(client: RecordedClient) -> None:
    for line in ("message", "message hello", "exit_chat"):
        assert client.type(line)[0].startswith("error: you are in no chat")
    for line in ("yes", "no"):
        assert client.type(line) == ["error: no user asks you for a chat"]
    assert client.type("start_chat two words")[0].startswith("error: a name")
    assert client.sent == []

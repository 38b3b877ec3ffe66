"""`simswap-jax app`: what it refuses, who can reach it, and that its examples are drawn."""

import asyncio
from types import SimpleNamespace

import pytest

from simswap_jax.app import server
from simswap_jax.app.server import ServerOptions, is_loopback, say_where
from simswap_jax.app.studio import examples
from simswap_jax.cli import app as verb
from simswap_jax.errors import UserError
from simswap_jax.inference import swapper


@pytest.mark.parametrize(
    "words, code, named",
    [
        ([], "model-missing", "--model"),
        (["--model", "nowhere"], "", "nowhere"),
        (["--port", "70000"], "port-range", "70000"),
        (["--max-upload", "0"], "upload-range", "0"),
        (["--host", "256.1.1.1"], "cannot-listen", "256.1.1.1"),
        (["--allowed-host", "https://faces.example"], "allowed-host-form", "https://faces.example"),
        (["--allowed-host", "faces.example:443"], "allowed-host-form", "faces.example:443"),
        (["--root-path", "swap"], "root-path-form", "swap"),
        (["--root-path", "/a b"], "root-path-form", "/a b"),
    ],
)
def test_the_command_says_what_is_missing(words, code, named, monkeypatch, tmp_path):
    monkeypatch.setattr(swapper, "PRETRAINED", tmp_path)
    with pytest.raises(UserError, match=named) as caught:
        verb.main([*(["--port", "0"] if "--port" not in words else []), *words])
    assert code in ("", caught.value.code)
    assert "\n" not in str(caught.value)


def test_other_computers_can_use_it_only_if_asked(caplog):
    say_where(ServerOptions(), 1)
    assert "Everybody" not in caplog.text
    say_where(ServerOptions(host="0.0.0.0"), 1)
    assert "no password" in caplog.text
    assert verb.parser().parse_args([]).host == ServerOptions().host == server.HOST == "127.0.0.1"
    assert ServerOptions(host="0.0.0.0").address().hosts is None
    assert [is_loopback(host) for host in ("localhost", "::1", "127.0.0.2", "0.0.0.0", "box")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_names_and_the_path_of_a_proxy():
    flags = ["--allowed-host", "Faces.example", "[::2]", "--root-path", "/swap/"]
    given = verb.parser().parse_args(flags)
    options = ServerOptions(allowed_hosts=tuple(given.allowed_host), root_path=given.root_path)
    assert options.address().root == "/swap"
    assert options.address().hosts == {"faces.example", "::2", "127.0.0.1", "localhost", "::1"}
    assert ServerOptions(root_path="/").address() == ServerOptions().address()
    opened = ServerOptions(host="0.0.0.0", allowed_hosts=("faces.example",)).address().hosts
    assert {"faces.example", "localhost"} < opened


def test_what_waits_for_a_tab_can_be_counted_and_thrown_away():
    """With a stand-in of gradio's queue, whose real one `test_attack.py` uses."""

    class Queue:
        pending_messages_per_session = {"a": [], "b": []}  # noqa: RUF012
        pending_event_ids_session = {"a": {"1", "2"}, "c": {"3"}}  # noqa: RUF012

        async def clean_events(self, session_hash):
            assert session_hash in "bc"

    queue = Queue()
    event = SimpleNamespace(inputs=[1, 2])
    memory = server.GradioMemory(SimpleNamespace(_queue=queue, fns={0: event}))
    assert [memory.arguments(number) for number in (0, 1)] == [2, None]
    assert [memory.unread(tab) for tab in "abc"] == [2, 0, None]
    asyncio.run(memory.keep_only({"a"}))
    assert (set(queue.pending_messages_per_session), set(queue.pending_event_ids_session)) == ({"a"}, {"a"})


def test_example_files_exist_only_as_drawings(tmp_path):
    found = examples(tmp_path, photos=False)
    assert len(found.sources) == 6
    assert {path.suffix for path in [*found.sources, *found.targets]} == {".png"}
    assert all(path.parent == tmp_path for path in found.targets)
    assert found.credit == ""


def test_a_model_of_photos_has_the_people_who_ship_as_examples(tmp_path):
    found = examples(tmp_path, photos=True)
    assert (len(found.sources), len(found.targets)) == (10, 10)
    assert all(path.is_file() and path.parent == tmp_path for path in [*found.sources, *found.targets])
    assert "CC BY" in found.credit

"""`simswap-jax app`: what it refuses, who can reach it, and that its examples are drawn."""

from pathlib import Path

import pytest

from simswap_jax.app import server as command
from simswap_jax.app.examples import draw_examples
from simswap_jax.cli import main as cli
from simswap_jax.inference import swapper


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "give --model FOLDER"),
        (["--model", "nowhere"], "nowhere"),
        (["--port", "70000"], "it goes from 0"),
        (["--max-upload", "0"], "at least 1"),
        (["--host", "256.1.1.1"], "cannot listen on 256.1.1.1"),
    ],
)
def test_the_command_says_what_is_missing(words, said, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(swapper, "DEFAULT_MODELS", ())
    assert cli.main(["app", *(["--port", "0"] if "--port" not in words else []), *words]) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert len(printed.err.strip().splitlines()) == 1


def test_other_computers_can_use_it_only_if_asked(capsys):
    command.say_where("127.0.0.1", 1)
    assert "Everybody" not in capsys.readouterr().out
    command.say_where("0.0.0.0", 1)
    assert "no password" in capsys.readouterr().out
    assert command.parser().parse_args([]).host == "127.0.0.1"
    assert [command.is_loopback(host) for host in ("localhost", "::1", "127.0.0.2", "0.0.0.0", "box")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_example_files_exist_only_as_drawings(tmp_path):
    sources, targets = draw_examples(tmp_path, photos=True)
    assert len(sources) == 6
    assert {path.suffix for path in [*sources, *targets]} == {".png"}
    assert all(Path(path).parent == tmp_path for path in targets)

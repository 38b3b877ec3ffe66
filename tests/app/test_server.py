"""`simswap-jax app`: what it refuses, who can reach it, and that its examples are drawn."""

from pathlib import Path

import pytest

from simswap_jax.app import server
from simswap_jax.app.server import ServerOptions, is_loopback, say_where
from simswap_jax.app.studio import draw_examples
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
    ],
)
def test_the_command_says_what_is_missing(words, code, named, monkeypatch, tmp_path):
    monkeypatch.setattr(swapper, "PRETRAINED", tmp_path)
    with pytest.raises(UserError, match=named) as caught:
        verb.main([*(["--port", "0"] if "--port" not in words else []), *words])
    assert code in ("", caught.value.code)
    assert "\n" not in str(caught.value)


def test_other_computers_can_use_it_only_if_asked(caplog):
    say_where("127.0.0.1", 1)
    assert "Everybody" not in caplog.text
    say_where("0.0.0.0", 1)
    assert "no password" in caplog.text
    assert verb.parser().parse_args([]).host == ServerOptions().host == server.HOST == "127.0.0.1"
    assert ServerOptions(host="0.0.0.0").names() is None
    assert [is_loopback(host) for host in ("localhost", "::1", "127.0.0.2", "0.0.0.0", "box")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_example_files_exist_only_as_drawings(tmp_path):
    sources, targets = draw_examples(tmp_path, photos=True)
    assert len(sources) == 6
    assert {path.suffix for path in [*sources, *targets]} == {".png"}
    assert all(Path(path).parent == tmp_path for path in targets)

"""Experiments are found by name; files and the folder of before are still understood."""

import ast
from pathlib import Path

import pytest

from simswap_jax import experiments
from simswap_jax.cli import train as command
from tests.support.errors import raises_user_error
from tests.support.progress import log_lines

WORKDIR = ["--workdir", "x"]


@pytest.mark.parametrize("words", [["--config", "celeba_112:eighth"], ["--config=celeba_112:eighth"]])
def test_a_name_with_an_option_is_enough(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made, _ = command.parse([*words, *WORKDIR, "--config.batch_size=3"])
    assert (made.steps, made.losses.identity, made.batch_size) == (2_400, 30.0, 3)


def test_a_file_by_its_path_is_read_and_wins_over_what_ships(tmp_path):
    """Also one that has the name of an experiment that ships, in a folder of the former name."""
    file = tmp_path / experiments.FORMER_FOLDER / "celeba_112.py"
    file.parent.mkdir()
    text = Path(experiments.FOLDER / "simswap_224.py").read_text()
    file.write_text(
        text.replace("get_config()", 'get_config(word="")').replace(
            "return config", "config.seed = len(word); return config"
        )
    )
    with log_lines() as lines:
        made, _ = command.parse(["--config", f"{file}:four", *WORKDIR])
    assert (made.seed, made.data.size, lines) == (4, 224, [])


def test_the_folder_of_before_is_understood_with_one_warning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with log_lines() as lines:
        made, _ = command.parse(["--config", f"{experiments.FORMER_FOLDER}/celeba_112.py:fifth", *WORKDIR])
    assert made.steps == 900
    assert len(lines) == 1
    assert lines[0].endswith("write --config celeba_112:fifth")


@pytest.mark.parametrize(
    ("said", "code", "named"),
    [
        ("simswap_225", "experiment-unknown", ["'simswap_225'", "simswap_224"]),
        ("celeba:second", "experiment-unknown", ["celeba_64", "celeba_112"]),
        ("zzz", "experiment-unknown", ["'zzz'", *experiments.names()]),
        ("celeba_112:ninth", "command-line", ["'ninth'", "eighth"]),
        ("nowhere/else.py", "experiment-file", ["nowhere/else.py"]),
    ],
)
def test_what_is_not_there_is_one_sentence_with_the_nearest(said, code, named):
    with raises_user_error(code, *named):
        command.parse(["--config", said, *WORKDIR])


def test_the_list_has_every_experiment_with_its_first_sentence(capsys):
    assert command.main(["--list"]) == 0
    printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert set(printed) == {path.stem for path in experiments.FOLDER.glob("[a-z]*.py")}
    doc = ast.get_docstring(ast.parse((experiments.FOLDER / "simswap_224.py").read_text()))
    assert doc.startswith(f"{printed['simswap_224']}.")

"""The door of the command line: what it says, where, and in which letters."""

import errno
import importlib
import logging
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from simswap_jax import __version__
from simswap_jax.cli import main as cli
from simswap_jax.errors import UserError


@pytest.fixture
def command(monkeypatch):
    """A command ``work`` that does what the test says."""

    def install(run):
        monkeypatch.setitem(cli.VERBS, "work", ("somewhere:main", "work"))
        monkeypatch.setattr(cli, "import_module", lambda name: SimpleNamespace(main=run))

    return install


def test_usage_and_version(capsys):
    assert cli.main([]) == 2
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(verb in said for verb in cli.VERBS)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"
    assert cli.main(["fly"]) == 2
    assert "'fly'" in capsys.readouterr().err


def test_every_command_names_a_function():
    for target, _ in cli.VERBS.values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_log_lines_go_to_the_output_or_beside_json(command, capsys):
    def run(arguments):
        logging.getLogger("simswap_jax.somewhere").info("halfway")

    command(run)
    assert cli.main(["work"]) == 0
    assert capsys.readouterr() == ("halfway\n", "")
    assert cli.main(["work", "--json"]) == 0
    assert capsys.readouterr() == ("", "halfway\n")


@pytest.mark.parametrize(
    "words",
    [
        ["gs://b/x"],
        ["--workdir", "gs://b/x"],
        ["--workdir=gs://b/x"],
        ["--model", "A=gs://b/x"],
        ["--c.d.root=s3://b/x"],
    ],
)
def test_an_address_is_refused_before_the_command_begins(command, capsys, words):
    command(lambda arguments: pytest.fail("it began"))
    assert cli.main(["work", *words]) == 2
    said = capsys.readouterr().err
    assert "://b/x is an address" in said
    assert len(said.splitlines()) == 1


def test_a_file_and_its_contract_are_no_address(command):
    asked = []
    command(asked.extend)
    assert cli.main(["work", "--external", "A=net.onnx:/home/anna/contract.yaml"]) == 0
    assert asked == ["--external", "A=net.onnx:/home/anna/contract.yaml"]


@pytest.mark.parametrize("kind", [errno.EACCES, errno.EPERM, errno.ENAMETOOLONG])
def test_a_path_that_the_system_refuses_is_one_sentence(command, capsys, kind):
    def refused(arguments):
        raise OSError(kind, os.strerror(kind), "/elsewhere/x.png")

    command(refused)
    assert cli.main(["work"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"simswap-jax: /elsewhere/x.png cannot be used ({os.strerror(kind)}); ")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no file is named"), OSError(errno.EIO, "a disk", "x.png")])
def test_other_errors_of_the_system_keep_their_traceback(command, error):
    def broken(arguments):
        raise error

    command(broken)
    with pytest.raises(OSError, match=str(error.strerror)):
        cli.main(["work"])


def test_mistakes_and_interrupts_have_a_status(command, capsys):
    def mistaken(arguments):
        raise UserError("that is wrong.", "wrong")

    def interrupted(arguments):
        raise KeyboardInterrupt

    command(mistaken)
    assert cli.main(["work"]) == 2
    assert capsys.readouterr().err == "simswap-jax: that is wrong.\n"
    command(interrupted)
    assert cli.main(["work"]) == 130
    command(lambda arguments: 3)
    assert cli.main(["work"]) == 3


def test_output_that_nobody_reads_is_no_traceback(command, capsys):
    def broken(arguments):
        raise BrokenPipeError

    command(broken)
    assert cli.main(["work"]) == 1
    assert capsys.readouterr() == ("", "")


def test_a_console_with_few_letters_gets_all_lines():
    program = (
        "import logging\n"
        "from types import SimpleNamespace\n"
        "from simswap_jax.cli import main as cli\n"
        "def run(words):\n"
        "    print('→ Zoë'); logging.getLogger('simswap_jax').info('成龍 ≤ 3')\n"
        "cli.VERBS['work'] = ('somewhere:main', '')\n"
        "cli.import_module = lambda name: SimpleNamespace(main=run)\n"
        "raise SystemExit(cli.main(['work']))\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert done.stdout.decode("cp1252").splitlines() == ["? Zoë", "?? ? 3"]
    assert done.stderr == b""


def test_it_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "simswap_jax", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{__version__}\n"

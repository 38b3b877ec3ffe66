"""What the parsers of all commands have in common: one line for a mistake, short usage, groups, completion."""

import re
import shlex
import subprocess
from importlib import import_module

import pytest

from simswap_jax.cli import command_parser, completion, nearest, train
from simswap_jax.cli import main as cli
from simswap_jax.io.user_folders import compilation_cache
from simswap_jax.training.config import default_config
from simswap_jax.training.experiment import flat
from tests.support.errors import raises_user_error

EXPERIMENT = "simswap_224"
PARSED = [verb for verb in cli.VERBS if verb != "train"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["swap", "--sorce", "a.jpg"], "there is no --sorce; did you mean --source?"),
        (["swap", "--source", "a.jpg"], "the following arguments are required: --target, --output"),
        (["swap", "--source", "a", "--target", "b", "--output", "c", "--strength", "much"], "invalid float value"),
        (["evaluate", "--jugde=x"], "there is no --jugde; did you mean --judge?"),
        (["prepare", "--zzzzzz"], "there is no --zzzzzz ("),
        (["preflight", "--hardwear", "x"], "did you mean --hardware?"),
        (["app", "here"], "unrecognized arguments: here"),
    ],
)
def test_a_mistake_is_one_line_with_the_nearest_flag(capsys, words, said):
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert lines[0].startswith(f"simswap-jax {words[0]}: ")
    assert f"simswap-jax {words[0]} --help" in lines[0]


def test_abbreviations_and_what_follows_two_dashes_are_understood():
    parse = command_parser("work", "Works.")
    parse.add_argument("--strength", type=float)
    parse.add_argument("rest", nargs="*")
    assert parse.parse_args(["--stren=0.5"]).strength == 0.5
    assert parse.parse_args(["--strength", "-1"]).strength == -1.0
    assert parse.parse_args(["--", "--other"]).rest == ["--other"]


def test_the_usage_names_what_is_required():
    help_of_swap = import_module("simswap_jax.cli.swap").parser().format_help()
    assert help_of_swap.startswith("usage: simswap-jax swap --source PATH … --target PATH … --output PATH [options]\n")
    assert import_module("simswap_jax.cli.app").parser().format_help().startswith("usage: simswap-jax app [options]\n")
    assert "export model --output FILE [options]" in import_module("simswap_jax.cli.export").parser().format_help()


@pytest.mark.parametrize("verb", ["swap", "evaluate", "prepare"])
def test_long_helps_are_in_groups(verb):
    parse = import_module(f"simswap_jax.cli.{verb}").parser()
    ungrouped = [action.dest for action in parse._action_groups[1]._group_actions]
    assert ungrouped == ["help"]
    assert len(parse._action_groups) >= 5


def test_every_command_is_in_one_group_of_the_help(capsys):
    grouped = [name for names in cli.GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(cli.VERBS)
    assert cli.main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"{heading}:" in said for heading in cli.GROUPS)
    assert cli.main(["swpa"]) == 2
    assert "did you mean swap?" in capsys.readouterr().err


def test_nearest_is_silent_where_nothing_is_near():
    assert nearest("--sorce", ["--source", "--target"]) == "; did you mean --source?"
    assert nearest("abc", ["xyz"]) == ""


def test_flags_of_prepare_have_their_usual_names_too():
    parse = import_module("simswap_jax.cli.prepare").parser()
    usual = parse.parse_args(["--min-size", "90", "--max-pose", "0.1", "--min-similarity", "0.3"])
    own = parse.parse_args(["--least-picture", "90", "--most-turned", "0.1", "--wrong-below", "0.3"])
    assert usual == own
    assert (own.least_picture, own.most_turned, own.wrong_below) == (90, 0.1, 0.3)


# ---- Experiments ----


@pytest.mark.parametrize(
    ("field", "code", "said"),
    [
        ("losses.lpips=1", "config-field", "config.losses has adversarial, feature_matching"),
        ("losses.identty=1", "config-field", "did you mean losses.identity?"),
        ("batchsize=1", "config-field", "did you mean batch_size?"),
        ("zzz=1", "config-field", "--print-config shows all"),
        ("steps=many", "command-line", "many"),
    ],
)
def test_an_unknown_field_names_those_that_there_are(field, code, said):
    with raises_user_error(code, said):
        train.parse(["--config", EXPERIMENT, "--workdir", "x", f"--config.{field}"])


def test_an_experiment_without_variants_says_so():
    with raises_user_error("command-line", "has no variants"):
        train.parse(["--config", f"{EXPERIMENT}:small", "--workdir", "x"])


def test_printed_fields_make_the_same_experiment(capsys):
    words = ["--config", EXPERIMENT, "--config.batch_size=6", "--config.data.root=some where"]
    assert cli.main(["train", *words, "--print-config"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "--config.data.root='some where'" in printed
    made, _ = train.parse([*words, "--workdir=."])
    assert len(printed) == len(flat(made.to_dict()))
    again, _ = train.parse(["--config", EXPERIMENT, "--workdir=.", *shlex.split("\n".join(printed))])
    assert again.to_dict() == made.to_dict()


def test_train_alone_is_a_mistake_and_its_help_is_not(capsys):
    assert cli.main(["train"]) == 2
    assert "--config and --workdir are missing" in capsys.readouterr().err
    assert cli.main(["train", "--help"]) == 0
    assert "--print-config" in capsys.readouterr().out


# ---- Completion ----


def test_completion_knows_every_flag_and_field():
    words = completion.flags()
    assert words.keys() == cli.VERBS.keys()
    assert {"--source", "--target", "--strength"} <= set(words["swap"])
    assert words["completion"] == ["--help", "bash", "fish", "zsh"]
    assert set(re.findall(r"^  (--[a-z-]+)(?= |$)", train.USAGE, re.M)) <= set(words["train"])
    assert {f"--config.{name}=" for name in flat(default_config().to_dict())} < set(words["train"])


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_a_script_for_every_shell(capsys, shell):
    assert cli.main(["completion", shell]) == 0
    said = capsys.readouterr().out
    assert all(verb in said for verb in cli.VERBS)
    assert "strength" in said


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (["simswap-jax", "ev"], ["evaluate"]),
        (["simswap-jax", "swap", "--stre"], ["--strength"]),
        (["simswap-jax", "train", "--config.optimizer.learn"], ["--config.optimizer.learning_rate="]),
        (["simswap-jax", "completion", "z"], ["zsh"]),
    ],
)
def test_bash_completes(capsys, typed, found):
    cli.main(["completion", "bash"])
    script = capsys.readouterr().out
    asked = f"""{script}
COMP_WORDS=({" ".join(typed)}); COMP_CWORD={len(typed) - 1}
compopt() {{ :; }}
_simswap_jax; printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == found


# ---- What is compiled is kept ----


def test_compiled_programs_are_kept_where_the_user_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    environment = {}
    cli.keep_compiled(environment)
    assert environment["JAX_COMPILATION_CACHE_DIR"] == str(compilation_cache())
    assert compilation_cache().is_relative_to(tmp_path)
    for chosen in ("", "elsewhere"):
        environment = {"JAX_COMPILATION_CACHE_DIR": chosen}
        cli.keep_compiled(environment)
        assert environment == {"JAX_COMPILATION_CACHE_DIR": chosen}


def test_programs_of_other_processors_are_kept_apart(monkeypatch):
    here = compilation_cache()
    monkeypatch.setattr("simswap_jax.io.user_folders._processor", lambda: "another")
    assert compilation_cache().parent == here.parent
    assert compilation_cache() != here

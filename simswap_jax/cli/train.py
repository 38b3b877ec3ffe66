"""`simswap-jax train --config NAME --workdir FOLDER --config.field=value …`."""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import ml_collections
from absl import flags
from ml_collections import config_flags

from simswap_jax import experiments
from simswap_jax.cli import nearest
from simswap_jax.errors import UserError
from simswap_jax.training.experiment import REMOVED_FIELDS, RENAMED_FIELDS, flat

STOPPED = 3  # exit status: asked to stop, saved, not at the end

USAGE = """usage: simswap-jax train --config EXPERIMENT --workdir FOLDER [--config.field=value …]
       simswap-jax train --list

Trains, or resumes where FOLDER stopped. Ctrl-C and SIGTERM save and end with status 3; the same command resumes at the
next batch. A second Ctrl-C stops at once, without saving.

what is trained:
  --config NAME_OR_FILE       an experiment that ships, by name (simswap_224), or a file of yours: a Python program with
                              get_config(); what stands behind a colon is handed to it (celeba_112:eighth)
  --config.FIELD=VALUE        another value for a field of it, as often as you like
  --list                      print the experiments that ship, and do nothing
  --print-config              print all fields with their values, and do nothing
where everything goes:
  --workdir FOLDER            gets report.html (curves, open it while it trains), metrics.jsonl, samples, checkpoints
                              and, at the end, model (the model folder)

fields that are changed most (--print-config has all, docs/reference/config.md explains them):
  data                        --config.data.root=FOLDER  --config.data.held_out=0.1
  length and size             --config.steps=10000  --config.batch_size=32
  optimizer                   --config.optimizer.learning_rate=2e-4
  how often                   --config.log_every=100  --config.sample_every=1000  --config.checkpoint_every=1000
  identity network            --config.identity.weights=FILE_OR_NAME
  from another model          --config.init_from=WORKDIR_OR_MODEL
"""
PRINT = "--print-config"


def parse(arguments: Sequence[str]) -> tuple[ml_collections.ConfigDict, Path]:
    """The experiment and the workdir of a command line.

    Raises:
      UserError: a flag is unknown or missing, or the experiment file cannot be read.
    """
    arguments = with_files(arguments)
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_file(
            "config", None, "the experiment", flag_values=values, sys_argv=["train", *arguments]
        )
        flags.DEFINE_string("workdir", None, "where everything goes", flag_values=values)
        left = values(["train", *arguments])[1:]
        config, workdir = values.config, values.workdir
        if config is not None:
            config.to_dict()  # a file that could not be read says so only when it is used
    except UserError:
        raise
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        refuse_unknown_fields(arguments)
        said = str(error.args[0] if error.args else error).strip()
        if "Traceback (" in said:  # of the experiment file; its last line says what
            said = said.splitlines()[-1].removeprefix(f"{UserError.__module__}.{UserError.__name__}: ")
        said = " ".join(said.split())
        if "get_config() takes 0" in said:
            said = "this experiment has no variants; leave out the colon and what follows it."
        raise UserError(f"the command line cannot be read: {said}", "command-line") from error
    except Exception as error:  # the experiment file is a program: anything may come out of it
        last = str(error).strip().splitlines()[-1:] or [""]
        raise UserError(
            f"the experiment file cannot be run ({type(error).__name__}: {last[0].strip()}).", "experiment-file"
        ) from error
    if left:
        raise UserError(f"'{left[0]}' is not understood; fields are set as --config.name=value.", "flag-not-understood")
    if config is None or workdir is None:
        raise UserError(
            f"--{'config' if config is None else 'workdir'} is missing; simswap-jax train --help shows an example.",
            "command-line-incomplete",
        )
    return config, Path(workdir)


def with_files(arguments: Sequence[str]) -> list[str]:
    """A command line whose ``--config`` is the path of a file, where it was the name of an experiment that ships.

    Raises:
      UserError: no experiment has that name.
    """
    found, before = [], ""
    for word in arguments:
        flag, equals, value = word.partition("=")
        if equals and flag in ("--config", "-config"):
            word = f"{flag}={experiments.located(value)}"
        elif before in ("--config", "-config") and not word.startswith("-"):
            word = experiments.located(word)
        found.append(word)
        before = word
    return found


def refuse_unknown_fields(arguments: Sequence[str]) -> None:
    """Name the first ``--config.field`` that the experiment has not, and the nearest that it has.

    Raises:
      UserError: there is one.
    """
    named = [word.removeprefix("--config.").partition("=")[0] for word in arguments if word.startswith("--config.")]
    without = [word for word in arguments if not word.startswith("--config.")]
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_file("config", None, "", flag_values=values, sys_argv=["train", *without])
        flags.DEFINE_string("workdir", None, "", flag_values=values)
        values(["train", *without])
        fields = list(flat(values.config.to_dict()))
    except Exception:  # the experiment itself cannot be read, which is said by whoever asked
        return
    for name in named:
        if name not in fields and name not in RENAMED_FIELDS and name not in REMOVED_FIELDS:
            raise UserError(f"there is no field config.{name}{alternative(name, fields)}", "config-field")


def alternative(name: str, fields: Sequence[str]) -> str:
    """What a field that is not there may have meant: the nearest of its section, else what the section has."""
    section, _, last = name.rpartition(".")
    beside = [field.removeprefix(f"{section}.") for field in fields if section and field.startswith(f"{section}.")]
    if near := nearest(last, beside) if beside else nearest(name, fields):
        return near.replace("mean ", f"mean {section}.") if beside else near
    return f"; config.{section} has {', '.join(beside)}." if beside else f"; {PRINT} shows all."


def print_config(arguments: Sequence[str]) -> int:
    """Print an experiment as flags that make it; returns 0.

    Raises:
      UserError: as ``parse``.
    """
    others = [word for word in arguments if word != PRINT]
    config, _ = parse(others if any(word.startswith("--workdir") for word in others) else [*others, "--workdir=."])
    for name, value in flat(config.to_dict()).items():
        print(f"--config.{name}={shlex.quote(str(value))}")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Run the command. 0: all steps made; 3: stopped before the end (Ctrl-C, SIGTERM), saved; 1: others failed."""
    if not arguments:
        print(
            "simswap-jax train: --config and --workdir are missing; simswap-jax train --help shows an example.",
            file=sys.stderr,
        )
        return 2
    if any(word in ("-h", "--help") for word in arguments):
        print(USAGE)
        return 0
    if "--list" in arguments:
        print("\n".join(f"{name:<22} {what}" for name, what in experiments.described().items()))
        return 0
    if PRINT in arguments:
        return print_config(arguments)
    config, workdir = parse(arguments)
    from simswap_jax.training import distributed
    from simswap_jax.training.loop import train
    from simswap_jax.training.sharding import use_cpu_cores

    if distributed.distributed_config(config.processes) is not None:
        return run_with_others(lambda: train(config, workdir).finished)
    if config.devices == 0 and config.fsdp == 1:
        use_cpu_cores(config.batch_size // max(1, config.accumulate))
    return 0 if train(config, workdir, distributed.hard_exit).finished else STOPPED


def run_with_others(run: Callable[[], bool]) -> int:
    """``main`` where several processes train: one that fails ends at once, so that the others do not wait for it."""
    import jax

    from simswap_jax.training import distributed

    try:
        return 0 if run() else STOPPED
    except UserError as error:
        print(f"simswap-jax: {error}", file=sys.stderr)
        # Whoever started them tries again after 1 (a late host), and not after 2 (a mistake).
        distributed.hard_exit(1 if isinstance(error, distributed.ProcessesMissing) else 2)
    except jax.errors.JaxRuntimeError as error:
        if "Gloo" not in str(error):
            raise
        print(
            "simswap-jax: another process ended, or cannot be reached any more; see what it said last, then start all "
            "of them again: they resume from the newest checkpoint.",
            file=sys.stderr,
        )
        distributed.hard_exit(1)

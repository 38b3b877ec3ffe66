"""`simswap-jax train --config FILE --workdir FOLDER --config.field=value …`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import ml_collections
from absl import flags
from ml_collections import config_flags

from simswap_jax.errors import UserError

STOPPED = 3  # exit status: asked to stop, saved, not at the end

USAGE = """usage: simswap-jax train --config EXPERIMENT.py --workdir FOLDER [--config.field=value …]

Trains, or resumes where FOLDER stopped. Ctrl-C and SIGTERM save and end with status 3; the same command resumes at the
next batch.
  --config    an experiment file: a Python program with get_config()
  --workdir   gets checkpoints, metrics.jsonl, samples and, at the end, model (the model folder)
Any field of the experiment can be changed: --config.data.root=FOLDER --config.batch_size=32 --config.steps=10000
"""


def parse(arguments: Sequence[str]) -> tuple[ml_collections.ConfigDict, Path]:
    """The experiment and the workdir of a command line.

    Raises:
      UserError: a flag is unknown or missing, or the experiment file cannot be read.
    """
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
        said = " ".join(str(error.args[0] if error.args else error).split())
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


def main(arguments: Sequence[str]) -> int:
    """Run the command. 0: all steps made; 3: stopped before the end (Ctrl-C, SIGTERM), saved; 1: others failed."""
    if not arguments or any(word in ("-h", "--help") for word in arguments):
        print(USAGE)
        return 0
    config, workdir = parse(arguments)
    from simswap_jax.training import distributed
    from simswap_jax.training.loop import train
    from simswap_jax.training.sharding import use_cpu_cores

    if distributed.distributed_config(config.processes) is not None:
        return run_with_others(lambda: train(config, workdir).finished)
    if config.devices == 0 and config.fsdp == 1:
        use_cpu_cores(config.batch_size // max(1, config.accumulate))
    return 0 if train(config, workdir).finished else STOPPED


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

"""``simswap-jax COMMAND …``: one file a command; nothing heavy is imported before the command is known."""

import contextlib
import errno
import os
import sys
from collections.abc import MutableMapping, Sequence
from importlib import import_module

from simswap_jax import __version__
from simswap_jax.cli import nearest
from simswap_jax.errors import UserError, printable
from simswap_jax.hardware.libtpu import silence
from simswap_jax.io.atomic import refuse_address
from simswap_jax.io.progress import log_lines
from simswap_jax.io.user_folders import compilation_cache

# command → (module:function taking the remaining arguments, what it does)
VERBS: dict[str, tuple[str, str]] = {
    "demo": ("simswap_jax.cli.demo:main", "render people, train, swap and evaluate: all of it in minutes"),
    "prepare": ("simswap_jax.cli.prepare:main", "turn photos of people into aligned faces and training records"),
    "train": ("simswap_jax.cli.train:main", "train from an experiment file, or resume"),
    "swap": ("simswap_jax.cli.swap:main", "swap faces in photos and videos"),
    "evaluate": ("simswap_jax.cli.evaluate:main", "measure swaps of held-out identities with independent networks"),
    "compare": ("simswap_jax.cli.compare:main", "train the methods SimSwap is compared with: one table and page"),
    "sweep": ("simswap_jax.cli.sweep:main", "train and evaluate the paper's ablations: one table and figure"),
    "import": ("simswap_jax.cli.import_weights:main", "convert PyTorch weights to a model folder"),
    "preflight": (
        "simswap_jax.cli.preflight:main",
        "estimate memory and speed on TPUs/GPUs before you rent them",
    ),
    "export": ("simswap_jax.cli.export:main", "convert a model folder to PyTorch or ONNX"),
    "push": ("simswap_jax.cli.push:main", "put a model folder on the Hugging Face Hub"),
    "app": ("simswap_jax.cli.app:main", "open the web page: upload, choose a face, swap, compare, download"),
    "doctor": (
        "simswap_jax.cli.doctor:main",
        "say what works here, which weight files are found, or which marks a file has",
    ),
    "completion": ("simswap_jax.cli.completion:main", "print what completes these commands in bash, zsh or fish"),
}

# heading → the commands below it
GROUPS = {
    "swap": ("swap", "app"),
    "train": ("prepare", "train", "sweep", "preflight"),
    "measure": ("evaluate", "compare"),
    "weights": ("import", "export", "push"),
    "get to know": ("demo", "doctor", "completion"),
}

COMPILING = (
    "demo",
    "train",
    "sweep",
    "compare",
    "swap",
    "app",
    "evaluate",
)  # commands whose programs are kept for the next time
REFUSED = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)  # what the system answers to a path of the user's
MOST_CACHED = 4 * 2**30  # bytes of compiled programs
MOST_LETTERS = 4000  # of a sentence; longer only where a name is absurd


def usage() -> str:
    """The text of ``simswap-jax --help``."""
    grouped = [name for names in GROUPS.values() for name in names]
    groups = {**GROUPS, "more": [verb for verb in VERBS if verb not in grouped]}
    parts = [
        "\n".join([f"{heading}:", *(f"  {verb:<11} {VERBS[verb][1]}" for verb in verbs)])
        for heading, verbs in groups.items()
        if verbs
    ]
    return "\n\n".join(["usage: simswap-jax COMMAND …   (simswap-jax COMMAND --help says more)", *parts]) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
      arguments: the command line without the program's name; that of the process if None.

    Returns:
      The exit status: 0 done, 2 a mistake of the user's (one sentence on stderr), 130 interrupted.
    """
    write_any_text()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else 2
    if words[0] == "--version":
        print(__version__)
        return 0
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        meant = nearest(verb, VERBS) or f"; choose one of {', '.join(VERBS)}."
        print(f"simswap-jax: there is no command '{verb}'{meant}", file=sys.stderr)
        return 2
    silence()
    if verb in COMPILING:
        keep_compiled()
    module, function = VERBS[verb][0].split(":")
    try:
        for word in rest:  # of a flag and its value, or a name and its folder, each part
            for part in word.split("="):
                refuse_address(part)
        with log_lines(to_stderr="--json" in rest):  # standard output is JSON then
            return int(getattr(import_module(module), function)(rest) or 0)
    except UserError as error:
        print(f"simswap-jax: {printable(error, MOST_LETTERS)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("simswap-jax: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has ended, as head does
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in REFUSED or error.filename is None:
            raise
        reason = f"({error.strerror}); check the name, and that you may read or write there."
        print(f"simswap-jax: {printable(error.filename, MOST_LETTERS)} cannot be used {reason}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if "home directory" not in str(error):  # pathlib's words for a ~ that stands for nothing
            raise
        print("simswap-jax: a path begins with ~, but this user has no home folder; write it out.", file=sys.stderr)
        return 2


def keep_compiled(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let JAX keep what it compiles in the user's cache; call it before JAX is imported.

    Args:
      environment: the process's. ``JAX_COMPILATION_CACHE_DIR`` names another folder, or "" for none.
    """
    folder = compilation_cache()
    if folder is None or "JAX_COMPILATION_CACHE_DIR" in environment:
        return
    environment["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    environment.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(MOST_CACHED))


def write_any_text() -> None:
    """Write UTF-8 into files and pipes, and show letters that a console has not as ``?`` instead of failing.

    Who names an encoding in ``PYTHONIOENCODING`` gets that one.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # a stream that is replaced, or closed
            named = bool(os.environ.get("PYTHONIOENCODING")) or stream.isatty()
            stream.reconfigure(encoding=None if named else "utf-8", errors="replace")  # type: ignore[union-attr]


if __name__ == "__main__":
    raise SystemExit(main())

"""`simswap-jax VERB …`: one thin door per package. Nothing heavy is imported before the verb is known."""

import sys
from collections.abc import Sequence
from importlib import import_module

from simswap_jax import __version__
from simswap_jax.errors import UserError

# verb → (module:function taking the remaining arguments, what it does)
VERBS: dict[str, tuple[str, str]] = {
    "demo": ("simswap_jax.contrib.rendered.demo:main", "render people, train, swap, judge: the whole job in minutes"),
    "prepare": ("simswap_jax.cli.prepare:main", "photos of people → aligned faces and records to train on"),
    "train": ("simswap_jax.cli.train:main", "train from an experiment file, or go on where it stopped"),
    "swap": ("simswap_jax.cli.swap:main", "re-draw target faces with the identity of a source"),
    "evaluate": ("simswap_jax.evaluation.evaluate:main", "judge swaps of held-out people"),
    "sweep": ("simswap_jax.evaluation.sweep:main", "the paper's ablation: many trainings, one table and figure"),
    "import": ("simswap_jax.cli.import_weights:main", "PyTorch weights → model folder"),
    "preflight": (
        "simswap_jax.hardware.preflight:main",
        "compile the step for hardware that is not here: does it fit, how fast",
    ),
    "export": ("simswap_jax.cli.export:main", "model folder → PyTorch or ONNX"),
    "app": ("simswap_jax.app.server:main", "a page in the browser: upload, choose a face, swap, compare, download"),
    "doctor": ("simswap_jax.cli.doctor:main", "which weight files are here; which marks a picture carries"),
}


def usage() -> str:
    """The text of `simswap-jax --help`."""
    rows = "\n".join(f"  {verb:<10} {what}" for verb, (_, what) in VERBS.items())
    return f"usage: simswap-jax VERB …   (simswap-jax VERB --help says more)\n\n{rows}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
      arguments: the command line without the program's name; that of the process if None.

    Returns:
      The exit status: 0 done, 2 a mistake of the user's (one sentence on stderr), 130 interrupted.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else 2
    if words[0] == "--version":
        print(__version__)
        return 0
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        print(f"simswap-jax: there is no verb '{verb}'; choose one of {', '.join(VERBS)}.", file=sys.stderr)
        return 2
    module, function = VERBS[verb][0].split(":")
    try:
        return int(getattr(import_module(module), function)(rest) or 0)
    except UserError as error:
        print(f"simswap-jax: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("simswap-jax: interrupted.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())

"""One generator of several that share their first stages: the mean of their weights ("model soup").

    python examples/average_models.py MODEL MODEL [MODEL …] --output runs/average [--shares 1 1]

After Wortsman et al., ICML 2022. Stages of one run lie close enough for their mean to be a generator, too. What it
keeps of the target and takes of the source lies between theirs, often better than either:
docs/experiments/celeba.md has the numbers. Models that were trained apart from each other do not average.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.weights import model_folder
from simswap_jax.weights.model_folder import ModelFolder


def average(models: Sequence[ModelFolder], shares: Sequence[float]) -> ModelFolder:
    """The weighted mean of generators, running statistics of batch norms included; all else is the first one's.

    Args:
      models: of one architecture and one identity network.
      shares: one each, in proportion; positive.

    Raises:
      UserError: the models differ in more than weights, or the shares do not fit them.
    """
    first = models[0]
    if len(shares) != len(models) or min(shares) <= 0:
        raise UserError(f"{len(models)} models need {len(models)} shares, each above 0.", "average-shares")
    for other in models[1:]:
        if (other.generator, other.identity_sha256) != (first.generator, first.identity_sha256):
            raise UserError("these generators differ in architecture or identity network.", "average-of-different")
    weights = np.asarray(shares, np.float64) / sum(shares)

    def mean(*leaves: np.ndarray) -> np.ndarray:
        if not np.issubdtype(leaves[0].dtype, np.floating):  # counts
            return leaves[0]
        return np.tensordot(weights, np.stack([np.asarray(leaf, np.float64) for leaf in leaves]), 1).astype(np.float32)

    return replace(first, variables=jax.tree.map(mean, *(model.variables for model in models)))


def held_out_by_all(models: Sequence[ModelFolder]) -> dict[str, float]:
    """The shares of people and pictures that no training saw: the smallest; none where a card does not say.

    They are held out by name, so that of several shares the smallest one's are among all the others'.
    """
    shares = {name: [model.card.get(name) for model in models] for name in ("held_out", "held_out_pictures")}
    return {name: min(each) for name, each in shares.items() if None not in each}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read model folders, write their average."""
    parse = argparse.ArgumentParser(description="average the weights of generators")
    parse.add_argument("models", nargs="+", help="model folders, or names of models that ship")
    parse.add_argument("--shares", type=float, nargs="+", help="of each in the mean (default: equal)")
    parse.add_argument("--output", type=Path, required=True)
    parse.add_argument("--dtype", choices=sorted(model_folder.DTYPES), default="float32", help="of the written weights")
    given = parse.parse_args(arguments)
    models = [model_folder.read(name, with_identity=False) for name in given.models]
    made = average(models, given.shares or [1.0] * len(models))
    card = {name: value for name, value in made.card.items() if name not in ("held_out", "held_out_pictures")}
    card |= held_out_by_all(models)
    card |= {"average_of": [str(name) for name in given.models], "shares": given.shares or "equal"}
    print(model_folder.write(given.output, replace(made, card=card), include_identity=False, dtype=given.dtype))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None

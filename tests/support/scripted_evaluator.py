"""An evaluator from outside that knows its scores by step before it looks; ``config.validation.evaluator`` names it."""

import jax
import numpy as np

from simswap_jax.errors import UserError
from simswap_jax.training.validation import Measured

SCORES = {2: 1.0, 4: 3.0, 6: 2.0}


class Scripted:
    def measure(self, method, state):
        step = int(state.step)
        sizes = [float(abs(np.asarray(leaf)).sum()) for leaf in jax.tree.leaves(state.ema)]
        tile = np.full((8, 8, 3), step, np.uint8)
        values = {"retrieval": SCORES.get(step, 0.0), "size": sum(sizes), "expression_error": float("nan")}
        return Measured(values, {"result": [tile, tile]}, [f"step {step}", "the same"])


def build(config, people, held_out):
    assert set(held_out) < set(people.names)
    if len(held_out) < config.validation.pairs:
        raise UserError(f"{len(held_out)} people are held out; hold out more.", "scripted-refusal")
    return Scripted()

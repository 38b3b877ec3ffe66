"""An update that is not finite is not made; too many of them in a row end the training."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from simswap_jax.training.state import PyTree, TrainState

SKIPPED = "skipped"


def finite_or_unmoved(before: TrainState, after: TrainState, witnesses: PyTree) -> tuple[TrainState, jax.Array]:
    """``after``, or ``before`` with only the step counted where a witness is infinite or not a number.

    Args:
      before, after: the state before and after the update.
      witnesses: arrays that are finite if the update is: the losses, the gradients' norms, the new statistics.

    Returns:
      the state to go on with and float32 1 if the update was skipped, else 0.
    """
    fine = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(witnesses)]))
    kept = jax.tree.map(lambda new, old: jnp.where(fine, new, old), after, before)
    return replace(kept, step=after.step), 1.0 - fine.astype(jnp.float32)


class Watch:
    """Counts skipped updates in a row.

    Looks at a step one step late, so that asking does not wait for the step that was just begun.

    Args:
      limit: so many in a row are too many; 0 looks at nothing.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._in_a_row = 0
        self._before: jax.Array | None = None

    def too_many(self, metrics: Mapping[str, Any]) -> bool:
        """Take note of one step's metrics; whether the steps up to the one before it were too many."""
        if not self.limit:
            return False
        before, self._before = self._before, metrics[SKIPPED]
        if before is not None:
            self._in_a_row = self._in_a_row + 1 if jax.device_get(before) else 0
        return self._in_a_row >= self.limit

"""Batches of single pictures, as an experiment has them: what the methods that train identity networks see."""

import jax
import ml_collections

from simswap_jax.data import loader
from simswap_jax.data.dataset import People


def batches_of_pictures(
    config: ml_collections.ConfigDict, people: People, start: loader.State | None = None
) -> loader.Batches:
    """Give this process's endless {"image": uint8 [B, H, W, 3], "person": int32 [B]}, shuffled, from a position."""
    data = config.data
    iterator = loader.picture_batches(
        people,
        config.batch_size,
        data.size,
        config.seed,
        data.flip,
        host_index=jax.process_index(),
        host_count=jax.process_count(),
    )
    if start is not None:
        iterator.set_state(start)
    return iterator

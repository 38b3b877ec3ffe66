"""Random numbers of a batch that do not depend on how devices share it."""

from collections.abc import Callable

import jax


def drawn(
    draw: Callable[[jax.Array, tuple[int, ...]], jax.Array],
    key: jax.Array,
    shape: tuple[int, ...],
    axis_name: str | None,
) -> jax.Array:
    """``draw(key, shape)`` for this device's samples.

    Args:
      draw: such as ``jax.random.uniform``.
      key: the same on every device.
      shape: of this device's part; its first axis counts samples.
      axis_name: the mapped axis that shares the batch under ``pmap``. Every device then draws for the whole batch and
        takes its own rows, so that a batch sees the same numbers on one device and on many.
    """
    if axis_name is None:
        return draw(key, shape)
    count = shape[0]
    whole = draw(key, (count * jax.lax.axis_size(axis_name), *shape[1:]))
    return jax.lax.dynamic_slice_in_dim(whole, jax.lax.axis_index(axis_name) * count, count)

"""Bilinear ×2 and the 3×3 convolution after it, as one convolution of the small map.

Each pixel of an up-sampled map is a mean of pixels of the small one, so each of the four phases of the result (even and
odd rows, even and odd columns) is a 3×3 convolution of the small map: as many FLOPs, and the up-sampled map, four times
as large, is never written or read. On a GPU the layer and its gradient move fewer bytes.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from simswap_jax.models.ops.convolution import convolution, convolve
from simswap_jax.models.ops.platform import by_platform
from simswap_jax.models.ops.resize import upsample_bilinear, upsampled_along

# [phase, tap of the kernel, neighbour (before, itself, after)]: what a pixel of the small map gives a tap of a phase.
PHASES = np.array([[[3, 1, 0], [1, 3, 0], [0, 3, 1]], [[1, 3, 0], [0, 3, 1], [0, 1, 3]]], np.float32) / 4
# [first or last place and phase, tap, 0]: what the phases lack there. Doubling repeats the edge; the convolution sees
# zeros outside of the up-sampled map.
EDGES = np.array([[-1, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, -1]], np.float32)[..., None] / 4
TAPS = np.eye(3, dtype=np.float32)[None]


def upsample_convolve(x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]) -> Float[Array, "b 2*h 2*w o"]:
    """Bilinear ×2 (`upsample_bilinear`), then a 3×3 convolution padded by one zero. [B,H,W,I] → [B,2H,2W,O]."""

    def upsampled_first(x: Array, kernel: Array) -> Array:
        return convolve(upsample_bilinear(x), kernel, 1, 1)

    return by_platform(x, kernel, default=upsampled_first, gpu=in_phases)


def in_phases(x: Array, kernel: Array) -> Array:
    """The same by phases."""
    (batch, height, width, _), outside = x.shape, kernel.shape[3]
    result = convolution(x, combined(kernel, PHASES, PHASES).astype(x.dtype), 1, 1)
    result = result.reshape(batch, height, width, 2, 2, outside)

    # The first and the last row, with the first and the last column in them: e, whose row; f, whose kernel.
    rows = upsampled_along(jnp.stack([x[:, 0], x[:, -1]], 1), 2)
    of_rows = combined(kernel, EDGES, TAPS).astype(x.dtype)
    rows = convolution(jnp.pad(rows, ((0, 0), (0, 0), (1, 1), (0, 0))), of_rows, 1, 0)
    rows = jnp.einsum("bewpeao->ebwapo", rows.reshape(batch, 2, width, 2, 2, 2, outside))
    # The first and the last column, as the phases have them along it.
    columns = jnp.stack([x[:, :, 0], x[:, :, -1]], 2)
    of_columns = combined(kernel, PHASES, EDGES).astype(x.dtype)
    columns = convolution(jnp.pad(columns, ((0, 0), (1, 1), (0, 0), (0, 0))), of_columns, 1, 0)
    columns = jnp.einsum("bheaepo->ebhapo", columns.reshape(batch, height, 2, 2, 2, 2, outside))

    for part, axis, length in ((rows, 1, height), (columns, 2, width)):
        for edge, before in ((0, 0), (1, length - 1)):
            line = jnp.expand_dims(part[edge], axis)
            result += jnp.pad(line, [(before, length - 1 - before) if i == axis else (0, 0) for i in range(6)])
    return result.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, outside)


def combined(kernel: Array, rows: np.ndarray, columns: np.ndarray) -> Array:
    """Kernels made of the taps of one, [3,3,I,O] → float32 [T,U,I,A·B·O].

    Written as sums of the nine taps: as products with ``rows`` and ``columns`` they would be turned about in memory.

    Args:
      kernel: [3,3,I,O].
      rows: [A,3,T], for each of A kernels what a tap gives a row of it.
      columns: [B,3,U], the same for columns.
    """
    inside, outside = kernel.shape[2:]
    taps = lax.split(kernel.astype(jnp.float32).reshape(9, inside, outside), [1] * 9)
    kernels, high, wide = len(rows) * len(columns), rows.shape[2], columns.shape[2]

    def one(row: np.ndarray, column: np.ndarray) -> Array:
        weights = np.outer(row, column).ravel()
        return sum((float(weight) * tap[0] for weight, tap in zip(weights, taps) if weight), jnp.zeros(()))

    made = [
        jnp.stack([jnp.broadcast_to(one(r[:, t], c[:, u]), (inside, outside)) for r in rows for c in columns], 1)
        for t in range(high)
        for u in range(wide)
    ]
    return jnp.stack(made).reshape(high, wide, inside, kernels * outside)

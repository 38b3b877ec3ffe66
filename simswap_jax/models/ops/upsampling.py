"""Bilinear ×2 and the 3×3 convolution after it, as one convolution of the small map.

Each pixel of a doubled map is a mean of pixels of the small one, so each of the four phases of the result (even and odd
rows, even and odd columns) is a 3×3 convolution of the small map: as many FLOPs, and the doubled map, four times as
large, is never written or read. On a GPU the layer and its gradient move a quarter fewer bytes.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from simswap_jax.models.ops.convolution import convolution, convolve
from simswap_jax.models.ops.platform import by_platform
from simswap_jax.models.ops.resize import bilinear_double, doubled_along

# [phase, tap of the kernel, neighbour (before, itself, after)]: what a pixel of the small map gives a tap of a phase.
PHASES = np.array([[[3, 1, 0], [1, 3, 0], [0, 3, 1]], [[1, 3, 0], [0, 3, 1], [0, 1, 3]]], np.float32) / 4
# [first or last place, phase, tap]: what the phases lack there. Doubling repeats the edge; the convolution sees zeros
# outside of the doubled map.
EDGES = np.array([[[-1, 1, 0], [1, 0, 0]], [[0, 0, 1], [0, 1, -1]]], np.float32) / 4


def double_convolve(x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"]) -> Float[Array, "b 2*h 2*w o"]:
    """Bilinear ×2 (`bilinear_double`), then a 3×3 convolution padded by one zero. [B,H,W,I] → [B,2H,2W,O]."""

    def in_turn(x: Array, kernel: Array) -> Array:
        return convolve(bilinear_double(x), kernel, 1, 1)

    return by_platform(x, kernel, default=in_phases, cpu=in_turn, tpu=in_turn)


def in_phases(x: Array, kernel: Array) -> Array:
    """The same by phases."""
    (batch, height, width, inside), outside = x.shape, kernel.shape[3]
    wide = kernel.astype(jnp.float32)

    def summed(form: str, *matrices: np.ndarray) -> Array:
        return jnp.einsum(form, *matrices, wide).astype(x.dtype)

    phases = summed("akt,blu,klio->tuiabo", PHASES, PHASES).reshape(3, 3, inside, 4 * outside)
    result = convolution(x, phases, 1, 1).reshape(batch, height, width, 2, 2, outside)

    # The first and the last row, with the first and the last column in them: e, whose row; f, whose kernel.
    rows = doubled_along(jnp.stack([x[:, 0], x[:, -1]], 1), 2)
    of_rows = summed("fak,klio->lifao", EDGES).reshape(1, 3, inside, 4 * outside)
    rows = convolution(jnp.pad(rows, ((0, 0), (0, 0), (1, 1), (0, 0))), of_rows, 1, 0)
    rows = jnp.einsum("bewpeao->ebwapo", rows.reshape(batch, 2, width, 2, 2, 2, outside))
    # The first and the last column, as the phases have them along it.
    columns = jnp.stack([x[:, :, 0], x[:, :, -1]], 2)
    of_columns = summed("akt,fpl,klio->tifapo", PHASES, EDGES).reshape(3, 1, inside, 8 * outside)
    columns = convolution(jnp.pad(columns, ((0, 0), (1, 1), (0, 0), (0, 0))), of_columns, 1, 0)
    columns = jnp.einsum("bheeapo->ebhapo", columns.reshape(batch, height, 2, 2, 2, 2, outside))

    for part, axis, length in ((rows, 1, height), (columns, 2, width)):
        for edge, before in ((0, 0), (1, length - 1)):
            line = jnp.expand_dims(part[edge], axis)
            result += jnp.pad(line, [(before, length - 1 - before) if i == axis else (0, 0) for i in range(6)])
    return result.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, outside)

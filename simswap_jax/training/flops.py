"""Model FLOPs by formula: two for every multiply-add of a layer, whatever a compiler makes of it.

What is counted are convolutions and matrix products; norms, activations and losses are left out, as is anything that is
computed a second time (rematerialisation). MFU = model FLOPs of a step / (seconds a step × the chips' published peak).
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from simswap_jax.training.simswap import SimSwap

# Passes through a network that a step needs, in units of its forward pass. A gradient to a layer's input and one to
# its weights cost a forward pass each.
GENERATOR = 3  # forward, gradient to maps and weights
IDENTITY_OF_RESULT = 2  # forward, gradient to the picture; its weights are frozen
IDENTITY_OF_SOURCE = 1  # forward
# Result and target forward (shared by both players, 2), the generator's gradient to the result (1), the
# discriminators' to maps and weights for result and target (4).
DISCRIMINATOR = 7
# Forward and gradient to the picture (2), then of either both gradients (4).
PENALTY = 6


def forward(function: Callable[..., Any], *arguments: Any) -> int:
    """FLOPs of the convolutions and matrix products of one call.

    Args:
      function: is traced, not run.
      arguments: arrays or ``ShapeDtypeStruct``.
    """
    return _of_jaxpr(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of_jaxpr(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        kind = equation.primitive.name
        if kind == "conv_general_dilated":
            total += 2 * products(equation)
        elif kind == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contracted)
        elif equation.params.get("branches_platforms"):
            # Of the forms of one operation (`models.ops.platform`) the plain one is the last.
            total += _of_jaxpr(equation.params["branches"][-1].jaxpr)
        else:
            for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")):
                if hasattr(inner, "jaxpr"):
                    total += _of_jaxpr(inner.jaxpr)
                elif hasattr(inner, "eqns"):
                    total += _of_jaxpr(inner)
    return total


def products(convolution: Any) -> int:
    """Multiply-adds of a traced convolution: [kh, kw, I / groups] for every number of the output, padding included."""
    kernel = convolution.invars[1].aval.shape
    out_features = convolution.params["dimension_numbers"].rhs_spec[0]
    return math.prod(convolution.outvars[0].aval.shape) * math.prod(kernel) // kernel[out_features]


def networks(method: "SimSwap") -> dict[str, int]:
    """FLOPs of one picture's way forward through each network of an experiment."""
    size = method.config.data.size
    picture = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    vector = jax.ShapeDtypeStruct((1, method.generator.config.identity_size), jnp.float32)
    source = jax.ShapeDtypeStruct((1, method.config.data.source_size, method.config.data.source_size, 3), jnp.float32)
    state = jax.eval_shape(method.init, jax.random.PRNGKey(0)).networks
    embed = method.identity.network.embed
    return {
        "generator": forward(method.generator.apply, state["generator"].variables, picture, vector),
        "discriminator": forward(method.discriminator.apply, state["discriminator"].variables, picture),
        "identity, of a result": forward(embed, method.frozen, picture),
        "identity, of a source": 0 if method.config.data.vectors else forward(embed, method.frozen, source),
    }


def simswap_step(method: "SimSwap") -> float:
    """Model FLOPs of one step of SimSwap, an image of the batch."""
    once = networks(method)
    weights = method.config.losses
    penalty = PENALTY / weights.gradient_penalty_every if weights.gradient_penalty else 0.0
    return (
        (GENERATOR + (1 if method.config.corruption.swap else 0)) * once["generator"]
        + (DISCRIMINATOR + penalty) * once["discriminator"]
        + IDENTITY_OF_RESULT * once["identity, of a result"]
        + IDENTITY_OF_SOURCE * once["identity, of a source"]
    )

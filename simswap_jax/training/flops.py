"""Model FLOPs by formula: two for every multiply-add of a layer, whatever a compiler makes of it.

What is counted are convolutions and matrix products; norms, activations and losses are left out, as is anything that is
computed a second time (rematerialisation). MFU = model FLOPs of a step / (seconds a step × the chips' published peak).
"""

import math
from collections.abc import Callable
from typing import Any

import jax

from simswap_jax.models.ops.platform import traced_for
from simswap_jax.training.method import Method

# Passes through a network that a step needs, in units of its forward pass. A gradient to a layer's input and one to
# its weights cost a forward pass each.
FORWARD = 1
DIFFERENTIATED = 2  # forward, gradient to the picture; its weights are frozen
TRAINED = 3  # forward, gradient to maps and weights
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
    # The plain form of an operation; others do the same sums in more multiplications.
    return of_jaxpr(jax.make_jaxpr(traced_for("", function))(*arguments).jaxpr)


def of_jaxpr(jaxpr: Any) -> int:
    """FLOPs of the convolutions and matrix products of a traced program, those of its inner programs included."""
    total = 0
    for equation in jaxpr.eqns:
        kind = equation.primitive.name
        if kind == "conv_general_dilated":
            total += 2 * products(equation)
        elif kind == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contracted)
        else:
            for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")):
                if hasattr(inner, "jaxpr"):
                    total += of_jaxpr(inner.jaxpr)
                elif hasattr(inner, "eqns"):
                    total += of_jaxpr(inner)
    return total


def products(convolution: Any) -> int:
    """Multiply-adds of a traced convolution: [kh, kw, I / groups] for every number of the output, padding included."""
    kernel = convolution.invars[1].aval.shape
    out_features = convolution.params["dimension_numbers"].rhs_spec[0]
    return math.prod(convolution.outvars[0].aval.shape) * math.prod(kernel) // kernel[out_features]


def by_network(method: Method) -> dict[str, int]:
    """FLOPs of one picture's forward pass through each network of a method's step."""
    return {work.name: forward(work.function, *work.arguments) for work in method.work() if work.passes}


def per_image(method: Method) -> float:
    """Model FLOPs of one step, an image of the batch; 0 where the method counts nothing."""
    return float(sum(work.passes * forward(work.function, *work.arguments) for work in method.work() if work.passes))

"""Losses from outside, by name (``config.losses.extra``): what they are given, and how a generator's loss has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

import jax
import jax.numpy as jnp
import ml_collections
from jax import Array
from jaxtyping import Bool, Float

from simswap_jax.errors import UserError, first_line
from simswap_jax.models.normalization import denormalize
from simswap_jax.training.experiment import resolve
from simswap_jax.training.state import PyTree, TrainState
from simswap_jax.training.step import Batch, GeneratorLoss, LossWeights, Networks


@dataclass(frozen=True)
class LossInputs:
    """What a loss from outside is given (``config.losses.extra``), float32, as the generator's step has it.

    Attributes:
      result: I_R, RGB in [0, 1] (not clipped), [B, H, W, 3]; differentiated.
      target: I_T, the same.
      identity: v_S, the source's identity vectors, [B, D], of length one.
      result_identity: v_R, those of the results; differentiated.
      same_person: where source and target show one person, bool [B].
    """

    result: Float[Array, "b h w 3"]
    target: Float[Array, "b h w 3"]
    identity: Float[Array, "b d"]
    result_identity: Float[Array, "b d"]
    same_person: Bool[Array, " b"]


class ExtraLoss(NamedTuple):
    """A loss from outside: its name in the metrics, a function that gives one number, its weight, and whose it is."""

    name: str
    function: Callable[[LossInputs], Array]
    weight: float
    reference: str = ""


TAKES = "it is given one LossInputs and gives one number, the batch's mean (docs/guide/extend.md, 'A loss')"


def extra_losses(config: ml_collections.ConfigDict) -> tuple[ExtraLoss, ...]:
    """The losses of ``config.losses.extra``, each refused at its call where it gives anything but one number.

    Raises:
      UserError: an entry has other fields than function and weight, a weight is no number, or there is no such
        function.
    """
    return tuple(_extra_loss(name, entry) for name, entry in config.losses.extra.items())


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _extra_loss(name: str, entry: Any) -> ExtraLoss:
    fields: dict[str, Any] = dict(entry) if isinstance(entry, ml_collections.ConfigDict) else {}
    weight: Any = fields.get("weight")
    if set(fields) != {"function", "weight"} or not _is_number(weight):
        raise UserError(
            f"config.losses.extra.{name} is {entry!r}; it takes two fields, function='package.module:function' and "
            "weight=NUMBER.",
            "config-extra-loss",
        )
    reference = str(fields["function"])
    function = resolve(reference, f"losses.extra.{name}.function")

    def checked(inputs: LossInputs) -> jax.Array:
        return _one_number(function(inputs), f"the loss '{name}' ({reference})")

    return ExtraLoss(name, checked, float(weight), reference)


def _one_number(value: Any, whose: str) -> jax.Array:
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{whose} gave a {type(value).__name__}; {TAKES}.", "extra-loss-not-scalar") from error
    if array.shape:
        raise UserError(f"{whose} gave an array of shape {array.shape}; {TAKES}.", "extra-loss-not-scalar")
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise UserError(
            f"{whose} gave a number of type {array.dtype}, which no gradient goes through; give a float.",
            "extra-loss-not-float",
        )
    return array.astype(jnp.float32)


def try_extra_losses(
    extra: Sequence[ExtraLoss], batch: int, side: int, dimensions: int, axis: tuple[str, int] | None = None
) -> None:
    """Call each loss and its gradient on shapes alone: what is wrong with it is said before anything is trained.

    Args:
      extra: from `extra_losses`.
      batch: samples that a loss sees at once.
      side: of the pictures, pixels.
      dimensions: of the identity vectors.
      axis: name and size of the mapped axis under ``pmap``, over which a loss may average.

    Raises:
      UserError: it raised an exception, gave anything but one float, or keeps arrays of one call for the next.
    """
    picture = jax.ShapeDtypeStruct((batch, side, side, 3), jnp.float32)
    vector = jax.ShapeDtypeStruct((batch, dimensions), jnp.float32)
    given = {
        "target": picture,
        "identity": vector,
        "same_person": jax.ShapeDtypeStruct((batch,), jnp.bool_),
    }
    for one in extra:

        def loss(differentiated: dict[str, Any], others: dict[str, Any], one: ExtraLoss = one) -> jax.Array:
            return one.function(LossInputs(**differentiated, **others))

        try:
            for _ in range(2):  # the second call meets what the first one left behind
                program = jax.make_jaxpr(jax.grad(loss), axis_env=[axis] if axis else None)
                traced = program({"result": picture, "result_identity": vector}, given)
        except UserError:
            raise
        except Exception as error:
            said = f": {line}" if (line := first_line(error)) else ""
            raise UserError(
                f"the loss '{one.name}' ({one.reference}) raised {type(error).__name__}{said}; {TAKES}.",
                "extra-loss-raised",
            ) from error
        if any(isinstance(constant, jax.core.Tracer) for constant in traced.consts):
            raise UserError(
                f"the loss '{one.name}' ({one.reference}) keeps JAX arrays of its first call, which are of no use in "
                "another; keep NumPy arrays (docs/guide/extend.md, 'A loss').",
                "extra-loss-keeps-arrays",
            )


def with_extra_losses(loss: GeneratorLoss, extra: Sequence[ExtraLoss]) -> GeneratorLoss:
    """A generator's loss to which each extra loss is added with its weight, and its value as ``extra/NAME``.

    A loss that reads ``result_identity`` costs one more backward pass through the frozen identity network.
    """
    if not extra:
        return loss

    def added(
        params: PyTree, networks: Networks, weights: LossWeights, state: TrainState, batch: Batch, frozen: PyTree
    ) -> tuple[Array, Any]:
        total, (result, collections, terms) = loss(params, networks, weights, state, batch, frozen)
        shown, target = (denormalize(each, networks.generator.convention) for each in (result, batch["target"]))
        vectors = networks.identity.embed(frozen, shown)
        inputs = LossInputs(shown, target, batch["identity"], vectors, batch["same_person"])
        values = {f"extra/{one.name}": one.function(inputs) for one in extra}
        total += sum(one.weight * values[f"extra/{one.name}"] for one in extra)
        return total, (result, collections, {**terms, **values, "generator": total})

    return added

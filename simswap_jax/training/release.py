"""The public train script's recipe, ``release``: other weights of the losses, and a projected discriminator."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from simswap_jax.errors import UserError
from simswap_jax.models.projected_discriminator import (
    LEAST,
    MULTIPLE,
    ProjectedConfig,
    ProjectedDiscriminator,
    ProjectedFeatures,
    ProjectedHead,
)
from simswap_jax.training import flops, simswap
from simswap_jax.training.experiment import Experiment
from simswap_jax.training.method import Work
from simswap_jax.training.simswap import SimSwap
from simswap_jax.training.state import PyTree, TrainState, with_variables
from simswap_jax.training.warm_start import RANDOM
from simswap_jax.weights import registry
from simswap_jax.weights.torch_weights import load_projected_discriminator

NEEDS_PEOPLE = False  # built and checked before any picture is read


def default_config() -> ml_collections.ConfigDict:
    """The paper's recipe with what the public train script has in its place."""
    config = simswap.default_config()
    config.method = "release"
    config.generator.convention = "imagenet"
    shape = {name: tuple(x) if isinstance(x, list) else x for name, x in ProjectedConfig().to_dict().items()}
    # weights: a *_net_D.pth, or timm's tf_efficientnet_lite0, whose features the heads then begin on; or "random"
    config.discriminator = Experiment({"weights": "", **shape})
    config.losses.identity = 30.0
    config.losses.gradient_penalty = 0.0  # none
    config.losses.feature_matching_first = 0  # one map only, the backbone's deepest
    config.optimizer.b2 = 0.99
    return config


def check(config: ml_collections.ConfigDict) -> None:
    """Refuse an experiment that cannot be trained against a projected discriminator.

    Raises:
      UserError: with the field, its value and the remedy.
    """
    simswap.check(config)
    if not config.discriminator.weights:
        raise UserError(
            "config.discriminator.weights is empty; name a *_net_D.pth or timm's tf_efficientnet_lite0, or say "
            "'random' for features that nobody trained.",
            "projected-discriminator-without-weights",
        )
    if config.losses.gradient_penalty:
        raise UserError(
            f"config.losses.gradient_penalty is {config.losses.gradient_penalty}, but the method 'release' has none; "
            "set it to 0.",
            "release-gradient-penalty",
        )
    if config.generator.convention != "imagenet":
        raise UserError(
            f"config.generator.convention is '{config.generator.convention}', but the features of a projected "
            "discriminator know ImageNet-normalised pictures only; set it to 'imagenet'.",
            "release-convention",
        )
    size = config.data.size
    if size < LEAST or size % MULTIPLE:
        raise UserError(
            f"config.data.size is {size}, but a projected discriminator needs a multiple of {MULTIPLE} from {LEAST} "
            f"on; use {max(LEAST, round(size / MULTIPLE) * MULTIPLE)}.",
            "release-size",
        )


@dataclass(frozen=True)
class Release(SimSwap):
    """SimSwap against a projected discriminator."""

    discriminator: ProjectedDiscriminator

    def begin(self, state: TrainState) -> TrainState:
        """A fresh state with the discriminator, or its features, of ``config.discriminator.weights``.

        Raises:
          UserError: the file is missing, no such network, or of another shape.
        """
        source = self.config.discriminator.weights
        if source == RANDOM:
            return state
        path = registry.find(source, "judging faces (config.discriminator.weights)")
        network, found = load_projected_discriminator(path)
        own = self.discriminator.config
        there = replace(network.config, dtype=own.dtype)
        if "params" not in found:  # the features alone: their mixtures are fresh, in any width
            there = replace(there, projected=own.projected)
        if there != own:
            raise UserError(
                f"{path} (config.discriminator.weights) holds a discriminator of another shape than "
                "config.discriminator asks for; leave its other fields at their defaults.",
                "projected-discriminator-shape",
            )
        networks = {**state.networks, "discriminator": with_variables(state.networks["discriminator"], found)}
        return replace(state, networks=networks)

    def work(self) -> Sequence[Work]:
        """As SimSwap's. Weights of the features have no gradients, and in the discriminators' update nothing before the
        heads has: of their seven passes (`flops.DISCRIMINATOR`) three are the features'.
        """
        shape, rows = self.discriminator.config, {row.name: row for row in super().work()}
        variables, picture = rows.pop("discriminator").arguments
        features = ProjectedFeatures(shape, parent=None).apply
        seen = (variables["frozen"]["features"], picture)

        def heads(variables: PyTree, maps: Sequence[jax.Array]) -> list[Any]:
            own = {name: tree for name, tree in variables.items() if name != "frozen"}
            return [
                ProjectedHead(shape.head_widths(level), None, jnp.dtype(shape.dtype)).apply(
                    {name: tree[f"head{level}"] for name, tree in own.items()}, x, False
                )
                for level, x in enumerate(maps)
            ]

        _, maps = jax.eval_shape(features, *seen)
        return (
            *rows.values(),
            Work("discriminator, features", features, seen, flops.FORWARD + flops.DIFFERENTIATED),
            Work("discriminator, heads", heads, (variables, maps), flops.DISCRIMINATOR),
        )


def projected_discriminator(config: ml_collections.ConfigDict, axis_name: str | None) -> ProjectedDiscriminator:
    """The discriminator that ``config.discriminator`` describes.

    Raises:
      UserError: its fields do not fit each other.
    """
    fields = config.discriminator.to_dict()
    fields.pop("weights")
    try:
        return ProjectedDiscriminator(ProjectedConfig.from_dict(fields), axis_name)
    except ValueError as error:
        raise UserError(str(error), "config-projected-discriminator") from error


build, from_networks = simswap.functions_of(Release, projected_discriminator)

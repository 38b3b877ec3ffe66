"""Input augmentation of same-person pairs: the generator gets a changed target, so that it has to use the identity.

Where source and target show one person the target is the answer too, and a small generator learns to copy it. It learns
what an identity looks like, and with clean pictures as answers, where the target comes in other colours or with
another's face, and the identity alone says what was there (denoising; back-translation, Sennrich et al. 2016).
Not in the paper. ``use_augmentation`` turns it on.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from simswap_jax.errors import UserError
from simswap_jax.models.normalization import denormalize, normalize
from simswap_jax.training.experiment import AUGMENTATION, Experiment
from simswap_jax.training.method import Batch
from simswap_jax.training.simswap import SimSwap
from simswap_jax.training.state import PyTree, TrainState
from simswap_jax.training.update import per_sample_random

CELLS = 8  # a grid of so many by so many colours, smoothly joined


def use_augmentation(config: ml_collections.ConfigDict, colour: float, swap: float) -> ml_collections.ConfigDict:
    """Augment what an experiment's generator gets. Changes ``config`` and gives it back.

    Args:
      config: of the method ``simswap`` or ``split_batch``.
      colour: strength of the colour perturbation; 1 is strong.
      swap: share of same-person targets on which the generator first draws another's face.
    """
    config.augmentation = AUGMENTATION
    config.augmentation_options = Experiment({"colour": colour, "swap": swap})
    return config


def build(method: SimSwap) -> "InputAugmentation | None":
    """The augmentation of an experiment, from ``config.augmentation_options``; None if it would change nothing.

    Raises:
      UserError: an option is missing or out of its range.
    """
    options = method.config.augmentation_options
    if not {"colour", "swap"} <= set(options):
        raise UserError(
            "config.augmentation needs config.augmentation_options.colour and .swap, which this experiment does not "
            "have; call use_augmentation in its file.",
            "augmentation-without-options",
        )
    if options.colour < 0.0 or not 0.0 <= options.swap <= 1.0:
        raise UserError(
            f"config.augmentation_options.colour is {options.colour} and config.augmentation_options.swap "
            f"{options.swap}; the first must be 0 or more, the second a share, 0 to 1.",
            "augmentation-options",
        )
    return InputAugmentation(method, options.colour, options.swap) if options.colour or options.swap else None


@dataclass(frozen=True)
class InputAugmentation:
    """Same-person targets with another's face, or in other colours, or both, as the generator's input.

    Attributes:
      colour, swap: as in ``use_augmentation``.
    """

    method: SimSwap
    colour: float
    swap: float

    @property
    def generator_passes(self) -> int:
        """Forward passes of the generator that this adds to a step."""
        return 1 if self.swap else 0

    def __call__(self, state: TrainState, batch: Batch, frozen: PyTree, key: jax.Array) -> dict[str, Any]:
        """The batch with another ``generator_input``; ``target`` stays the answer.

        Args:
          state: its averaged generator draws the other face.
          batch: floats, as ``SimSwap.decode`` makes them.
          frozen: variables of the identity network.
          key: of this step.
        """
        method, target, axis_name = self.method, batch["target"], self.method.axis_name
        of_colour, of_choice = jax.random.split(key)
        changed, batch = target, dict(batch)
        if self.swap:
            if "identity" not in batch:
                batch["identity"] = method.networks.identity.embed(frozen, batch.pop("source"))
            other = {"vector": of_the_next(batch["identity"], axis_name)}
            swapped = method.generator.apply(method.averaged_variables(state), target, other)
            coin = per_sample_random(jax.random.uniform, of_choice, (target.shape[0], 1, 1, 1), axis_name)
            changed = jnp.where(coin < self.swap, swapped, changed)
        if self.colour:
            convention = method.generator.convention
            shown = recoloured(denormalize(changed, convention), self.colour, of_colour, axis_name)
            changed = normalize(shown, convention)
        same = batch["same_person"][:, None, None, None]
        return {**batch, "generator_input": jax.lax.stop_gradient(jnp.where(same, changed, target))}


def recoloured(pictures: jax.Array, strength: float, key: jax.Array, axis_name: str | None = None) -> jax.Array:
    """Faces under a colour perturbation: gain, gamma and an overlay of colour, all varying smoothly over the face.

    Args:
      pictures: float [B, H, W, 3] in [0, 1], aligned: the head fills an ellipse about the middle. Outside of it nothing
        changes.
      strength: of gain and gamma; 1 moves gains by about a third of themselves (one standard deviation).
      key: of this step.
      axis_name: the mapped axis under ``pmap``.

    Returns:
      the same shape, in [0, 1].
    """
    count, height, width, _ = pictures.shape
    of_whole, of_grid, of_share, of_overlay = jax.random.split(key, 4)
    whole = per_sample_random(jax.random.normal, of_whole, (count, 1, 1, 8), axis_name)
    grid = per_sample_random(jax.random.normal, of_grid, (count, CELLS, CELLS, 8), axis_name)
    share = per_sample_random(jax.random.uniform, of_share, (count, 1, 1, 1), axis_name)
    overlay_noise = per_sample_random(jax.random.normal, of_overlay, (count, CELLS, CELLS, 4), axis_name)
    head = _head(height, width)
    # Of gain: one for all channels and one each; of gamma: the same.
    moves = strength * head * (whole + share * jax.image.resize(grid, (count, height, width, 8), "cubic"))
    gain = 0.25 * moves[..., 0:1] + 0.2 * moves[..., 1:4]
    gamma = 0.3 * moves[..., 4:5] + 0.15 * moves[..., 5:8]
    moved = jnp.clip(jnp.clip(pictures, 1e-3, 1.0) ** jnp.exp(gamma) * jnp.exp(gain), 0.0, 1.0)
    overlay = jax.nn.sigmoid(1.5 * jax.image.resize(overlay_noise, (count, height, width, 4), "cubic"))
    thick = min(strength, 1.0) * head * share * jnp.clip(1.6 * overlay[..., 3:] - 0.6, 0.0, 0.8)
    return moved + thick * (overlay[..., :3] - moved)


def _head(height: int, width: int) -> jax.Array:
    """1 where an aligned head is, softly 0 outside: [1, H, W, 1]."""
    y = jnp.linspace(-0.52, 0.48, height)[:, None] / 0.52
    x = jnp.linspace(-0.5, 0.5, width)[None, :] / 0.46
    return jnp.clip((1.15 - jnp.sqrt(x * x + y * y)) / 0.3, 0.0, 1.0)[None, :, :, None]


def of_the_next(x: jax.Array, axis_name: str | None = None) -> jax.Array:
    """Each sample's successor in the batch, mostly another person's: [B, …] → [B, …]. The last one's is the first."""
    if axis_name is None:
        return jnp.roll(x, -1, axis=0)
    whole = jnp.roll(jax.lax.all_gather(x, axis_name, tiled=True), -1, axis=0)
    return jax.lax.dynamic_slice_in_dim(whole, jax.lax.axis_index(axis_name) * x.shape[0], x.shape[0])

"""Networks: Flax Linen modules, NHWC. They know nothing of the rest of the project."""

from simswap_jax.models.discriminator import DiscriminatorConfig, DiscriminatorOutput, MultiScaleDiscriminator
from simswap_jax.models.simswap import Generator, GeneratorConfig

__all__ = ["DiscriminatorConfig", "DiscriminatorOutput", "Generator", "GeneratorConfig", "MultiScaleDiscriminator"]

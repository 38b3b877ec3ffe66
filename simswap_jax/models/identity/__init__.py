"""Identity networks: faces in, identity vectors out."""

from simswap_jax.models.identity.config import IdentityConfig
from simswap_jax.models.identity.network import IdentityNetwork, normalise

__all__ = ["IdentityConfig", "IdentityNetwork", "normalise"]

"""Identity networks: faces in, identity vectors out."""

from simswap_jax.models.identity.network import IdentityConfig, IdentityNetwork, normalise

__all__ = ["IdentityConfig", "IdentityNetwork", "normalise"]

"""Identity networks: faces in, identity vectors out."""

from simswap_jax.models.identity.registry import IdentityConfig, IdentityNetwork, normalise

__all__ = ["IdentityConfig", "IdentityNetwork", "normalise"]

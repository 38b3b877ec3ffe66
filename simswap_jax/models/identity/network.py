"""One door to every identity network: how images enter it and how vectors leave it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float

from simswap_jax.models.identity.config import IdentityConfig
from simswap_jax.models.identity.mobilefacenet import MobileFaceNet
from simswap_jax.models.identity.resnet import ArcFace, IResNet
from simswap_jax.models.normalization import normalize
from simswap_jax.models.ops.resize import resize_area, resize_bicubic, resize_nearest


@dataclasses.dataclass(frozen=True)
class IdentityNetwork:
    """An identity network and its pre- and post-processing; weights are handed in at every call.

    Attributes:
      config: shape and value range.
      axis_name: the pmap axis for batch statistics while the network itself is trained.
    """

    config: IdentityConfig
    axis_name: str | None = None

    @functools.cached_property
    def module(self) -> nn.Module:
        """The Flax module: ``module.apply(variables, preprocessed, train=False)`` → raw vectors [B,D]."""
        return _MODULES[self.config.family](self.config, self.axis_name)

    def init(self, key: Array) -> Mapping[str, Any]:
        """Fresh variables."""
        return self.module.init(key, jnp.zeros((1, *self.config.size, 3)))

    def apply(self, variables: Mapping[str, Any], preprocessed: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
        """Raw vectors, float32 [B,D], of pictures that :meth:`preprocess` made; evaluation mode."""
        vectors: Any = self.module.apply(variables, preprocessed)
        return vectors

    def preprocess(self, pictures: Float[Array, "b h w 3"], method: str = "bicubic") -> Float[Array, "b h2 w2 3"]:
        """Face crops as the network wants them.

        Args:
          pictures: RGB in [0,1], [B,H,W,3], aligned.
          method: how to resize: torch's ``"bicubic"`` (training) or ``"nearest"`` (the release's inference), or
            ``"area"``, means; a network whose ``resize`` is ``"area"`` takes means in any case.

        Returns:
          [B, *size, 3] in the network's values. Linear in the pictures: nothing is clipped.
        """
        if method not in _RESIZES:
            raise ValueError(f"{method!r} is no way of resizing; choose one of {', '.join(_RESIZES)}.")
        height, width = self.config.frame
        if pictures.shape[1:3] != (height, width):
            resize = _RESIZES["area" if self.config.resize == "area" else method]
            pictures = resize(pictures, height, width)
        top, left = (height - self.config.size[0]) // 2, (width - self.config.size[1]) // 2
        pictures = pictures[:, top : top + self.config.size[0], left : left + self.config.size[1]]
        return _VALUES[self.config.values](pictures)

    def embed(
        self, variables: Mapping[str, Any], pictures: Float[Array, "b h w 3"], method: str = "bicubic"
    ) -> Float[Array, "b d"]:
        """Identity vectors, L2-normalised float32 [B,D], of aligned face crops in [0,1], [B,H,W,3]."""
        return normalise(self.apply(variables, self.preprocess(pictures, method)))


def normalise(vectors: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """Vectors of length one, float32 [B,D]."""
    vectors = vectors.astype(jnp.float32)
    return vectors / jnp.sqrt(jnp.sum(jnp.square(vectors), -1, keepdims=True) + 1e-24)


_MODULES: dict[str, Callable[..., nn.Module]] = {
    "arcface": ArcFace,
    "iresnet": IResNet,
    "mobilefacenet": MobileFaceNet,
}
_RESIZES: dict[str, Callable[[Array, int, int], Array]] = {
    "bicubic": resize_bicubic,
    "nearest": resize_nearest,
    "area": resize_area,
}
_VALUES: dict[str, Callable[[Array], Array]] = {
    "imagenet": lambda x: normalize(x, "imagenet"),
    "symmetric": lambda x: x * 2.0 - 1.0,
    "symmetric128": lambda x: (x * 255.0 - 127.5) / 128.0,
}

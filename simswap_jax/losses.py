"""The paper's five losses (§3.3), as pure functions of arrays. All compute and return float32 scalars.

Weights are the recipe's business: paper 10 (identity), 10 (reconstruction), 1 (adversarial), 1e-5 (gradient penalty),
10 (weak feature matching).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

Scalar = Float[Array, ""]


def identity(result_vectors: Float[Array, "b d"], source_vectors: Float[Array, "b d"], margin: float = 0.0) -> Scalar:
    """L_id = 1 − cos(v_R, v_S), averaged over the batch; eq. 3.

    Args:
      result_vectors: [B,D], of any length but zero.
      source_vectors: the same.
      margin: what is taken off each sample's loss, down to 0: a result that is so near is pulled no nearer. The
        paper's is 0.
    """
    result, source = result_vectors.astype(jnp.float32), source_vectors.astype(jnp.float32)
    dot = jnp.sum(result * source, -1)
    # The guard keeps a zero vector from making a NaN; it is far below any real length.
    lengths = jnp.sqrt(jnp.sum(jnp.square(result), -1) * jnp.sum(jnp.square(source), -1) + 1e-24)
    distance = 1.0 - dot / lengths
    return jnp.mean(jnp.maximum(distance - margin, 0.0) if margin else distance)


def reconstruction(
    result: Float[Array, "b h w 3"], target: Float[Array, "b h w 3"], same_person: Bool[Array, " b"]
) -> Scalar:
    """L_rec = |I_R − I_T|₁ where source and target are one person, else 0; eq. 4.

    Args:
      result: [B,H,W,3].
      target: [B,H,W,3], the same convention.
      same_person: bool [B].

    Returns:
      The sum over same-person samples of the mean absolute difference, divided by B.
    """
    difference = jnp.abs(result.astype(jnp.float32) - target.astype(jnp.float32))
    return jnp.mean(jnp.mean(difference, (1, 2, 3)) * same_person.astype(jnp.float32))


def adversarial_generator(logits: Sequence[Float[Array, "*_"]]) -> Scalar:
    """Hinge loss of the generator, −mean D(I_R), averaged over the scales' logits."""
    return jnp.mean(jnp.stack([-jnp.mean(one.astype(jnp.float32)) for one in logits]))


def adversarial_discriminator(
    real_logits: Sequence[Float[Array, "*_"]], fake_logits: Sequence[Float[Array, "*_"]]
) -> Scalar:
    """Hinge loss of the discriminators: mean max(0, 1 − D(I_T)) + mean max(0, 1 + D(I_R)), averaged over the scales."""
    each = [
        jnp.mean(jax.nn.relu(1.0 - real.astype(jnp.float32))) + jnp.mean(jax.nn.relu(1.0 + fake.astype(jnp.float32)))
        for real, fake in zip(real_logits, fake_logits, strict=True)
    ]
    return jnp.mean(jnp.stack(each))


def gradient_penalty(
    scale_fn: Callable[[Array], Array],
    real: Float[Array, "b h w 3"],
    fake: Float[Array, "b h w 3"],
    alpha: Float[Array, "b 1 1 1"],
) -> Scalar:
    """L_GP of one scale: mean (‖∇ₓ Σ D(x)‖₂ − 1)², x = α·real + (1−α)·fake; eq. 5.

    Args:
      scale_fn: one scale's logits from its own input.
      real: that scale's own real input, [B,H,W,3]. Pooling is linear: the pooled interpolate is this interpolate of
        the pooled.
      fake: the fake one.
      alpha: uniform random numbers in [0,1), [B,1,1,1].
    """
    real, fake = real.astype(jnp.float32), fake.astype(jnp.float32)
    alpha = jnp.broadcast_to(alpha.astype(jnp.float32), real.shape)
    between = alpha * real + (1.0 - alpha) * fake
    slope = jax.grad(lambda x: jnp.sum(scale_fn(x).astype(jnp.float32)))(between)
    # The root's own gradient is infinite at 0, hence the guard.
    norm = jnp.sqrt(jnp.sum(jnp.square(slope), (1, 2, 3)) + 1e-12)
    return jnp.mean(jnp.square(norm - 1.0))


def weak_feature_matching(
    fake_features: Sequence[Sequence[Float[Array, "*_"]]],
    real_features: Sequence[Sequence[Float[Array, "*_"]]],
    first: int,
    last: int | None = None,
) -> Scalar:
    """L_wFM = Σ over scales, Σ over maps first…, of mean |D_i(I_R) − D_i(I_T)|; eq. 6.

    Args:
      fake_features: the maps of each scale for the result, as in ``DiscriminatorOutput.features``.
      real_features: those for the target.
      first: the first map that counts, from 0: 0 is the ablation's oFM, the number of maps its nFM.
      last: the map before which to stop; ``None`` goes on to the deepest (w̄FM keeps the first maps instead).
    """
    total = jnp.zeros((), jnp.float32)
    for fakes, reals in zip(fake_features, real_features, strict=True):
        for fake, real in list(zip(fakes, reals, strict=True))[first:last]:
            total += jnp.mean(jnp.abs(fake.astype(jnp.float32) - real.astype(jnp.float32)))
    return total

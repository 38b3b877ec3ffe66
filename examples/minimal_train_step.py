"""SimSwap's training step in one file, without the loop: `python examples/minimal_train_step.py` makes 20 steps.

The paper's networks (narrow here), its five losses with their weights, and Adam with β1 = 0. The pictures are noise, so
nothing is learned; put your batches in place of ``batch``.
"""

import jax
import jax.numpy as jnp
import optax

from simswap_jax import losses
from simswap_jax.models import DiscriminatorConfig, Generator, GeneratorConfig, MultiScaleDiscriminator
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork

SIZE, BATCH = 32, 8

generator = Generator(GeneratorConfig(widths=(8, 16), blocks=1, identity_size=16))
discriminator = MultiScaleDiscriminator(DiscriminatorConfig(widths=(8, 16), tail=16, scales=1))
arcface = IdentityNetwork(IdentityConfig(layers=(1,), widths=(8,), size=(16, 16), frame=(16, 16), embedding=16))
optimizer = optax.adam(4e-4, b1=0.0, b2=0.999)


def judge(variables, pictures):
    """The discriminators' maps and logits, scale by scale; their new batch statistics are dropped."""
    return discriminator.apply(variables, pictures, train=True, mutable=["batch_stats"])[0]


def generator_loss(params, state, batch, vectors):
    """Equations 3, 4 and 6 with the weights of section 4."""
    variables = {**state["generator"], "params": params}
    result, statistics = generator.apply(variables, batch["target"], vectors, train=True, mutable=["batch_stats"])
    fake, real = judge(state["discriminator"], result), judge(state["discriminator"], batch["target"])
    total = (
        10.0 * losses.identity(arcface.embed(state["arcface"], result), vectors)
        + 10.0 * losses.reconstruction(result, batch["target"], batch["same_person"])
        + 1.0 * losses.adversarial_generator([scale.logits for scale in fake])
        + 10.0 * losses.weak_feature_matching([s.features for s in fake], [s.features for s in real], first=1)
    )
    return total, (result, statistics)


def discriminator_loss(params, state, batch, result, key):
    """The hinge loss, and equation 5 at points between target and result."""
    variables = {**state["discriminator"], "params": params}
    fake, real = judge(variables, result), judge(variables, batch["target"])
    alpha = jax.random.uniform(key, (BATCH, 1, 1, 1))
    penalty = losses.gradient_penalty(lambda x: judge(variables, x)[0].logits, batch["target"], result, alpha)
    return losses.adversarial_discriminator([s.logits for s in real], [s.logits for s in fake]) + 1e-5 * penalty


@jax.jit
def step(state, batch, key):
    """One update of both players, at the same parameters and the same result."""
    vectors = arcface.embed(state["arcface"], batch["source"])
    of_generator = jax.value_and_grad(generator_loss, has_aux=True)
    (loss_g, (result, statistics)), slopes_g = of_generator(state["generator"]["params"], state, batch, vectors)
    of_discriminator = jax.value_and_grad(discriminator_loss)
    loss_d, slopes_d = of_discriminator(
        state["discriminator"]["params"], state, batch, jax.lax.stop_gradient(result), key
    )
    networks = {}
    for name, slopes in (("generator", slopes_g), ("discriminator", slopes_d)):
        change, state[f"{name}_adam"] = optimizer.update(slopes, state[f"{name}_adam"])
        networks[name] = {**state[name], "params": optax.apply_updates(state[name]["params"], change)}
    networks["generator"] |= statistics
    return {**state, **networks}, {"generator": loss_g, "discriminator": loss_d}


def initial_state(key):
    """Fresh networks, a frozen identity network, and Adam's moments."""
    keys, pictures = jax.random.split(key, 3), jnp.zeros((2, SIZE, SIZE, 3))
    state = {
        "generator": generator.init(keys[0], pictures, jnp.zeros((2, 16))),
        "discriminator": discriminator.init(keys[1], pictures, train=False),
        "arcface": arcface.init(keys[2]),
    }
    moments = {f"{name}_adam": optimizer.init(state[name]["params"]) for name in ("generator", "discriminator")}
    return {**state, **moments}


def main():
    """Twenty steps on noise: batches of one person (the target is the ground truth) and of two, in turn."""
    key = jax.random.key(0, impl="unsafe_rbg")  # compiles ten times as fast as the default
    state = jax.jit(initial_state)(key)
    for number in range(20):
        keys = jax.random.split(jax.random.fold_in(key, number), 3)
        batch = {
            "source": jax.random.uniform(keys[0], (BATCH, 16, 16, 3)),
            "target": jax.random.uniform(keys[1], (BATCH, SIZE, SIZE, 3)),
            "same_person": jnp.full(BATCH, number % 2 == 0),
        }
        state, metrics = step(state, batch, keys[2])
        if number % 5 == 4:
            print(f"step {number + 1:3d}   " + "   ".join(f"{name} {value:.3f}" for name, value in metrics.items()))


if __name__ == "__main__":
    main()

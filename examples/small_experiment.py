"""An experiment that trains in seconds on two CPU cores: eight rendered people, 32 pixels, narrow networks, 20 steps.

It shows that something works, not how well: results at this size are blurs. The other examples change it.
"""

from pathlib import Path

import jax
import ml_collections

from simswap_jax.contrib.rendered import dataset
from simswap_jax.contrib.small_models.recipe import small_model_recipe
from simswap_jax.training.config import default_config
from simswap_jax.weights import identity_folder, model_folder

PEOPLE, PICTURES, SIZE = 8, 4, 32
SHIPPED = Path(dataset.__file__).parent / "pretrained" / "generator"  # whose identity network may be passed on


def small_experiment(folder: Path) -> ml_collections.ConfigDict:
    """Render the people, write the identity network, and give the experiment that trains on both."""
    jax.config.update("jax_default_prng_impl", "unsafe_rbg")  # random numbers that compile fast; others than usual
    dataset.write_people(
        folder / "people",
        dataset.sample_people(1, PEOPLE),
        dataset.person_names(PEOPLE),
        pictures_per_person=PICTURES,
        seed=2,
        size=SIZE,
    )
    shipped = model_folder.read(SHIPPED)
    identity_folder.write(folder / "identity", shipped.identity, shipped.identity_variables, {"licence": "Apache-2.0"})

    config = small_model_recipe(default_config())
    config.data.precompute_embeddings = False  # the step embeds the sources: one program less to compile
    config.data.root, config.identity.weights = str(folder / "people"), str(folder / "identity")
    config.data.size, config.data.source_size, config.data.alignment = SIZE, SIZE, "rendered"
    config.generator.widths, config.generator.blocks = (16, 32), 1
    config.discriminator.widths, config.discriminator.tail, config.discriminator.scales = (8, 16), 16, 1
    config.losses.feature_matching_first = 1
    config.steps, config.batch_size = 20, 8
    config.log_every, config.sample_every, config.checkpoint_every = 5, 0, 20
    return config

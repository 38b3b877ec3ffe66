"""A family and a method that this file defines, outside the package: trained, saved, loaded, swapped with, exported."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from simswap_jax import FaceSwapper
from simswap_jax import losses as paper
from simswap_jax.cli import main as cli
from simswap_jax.inference import photo as photos
from simswap_jax.models.config import DictConfig
from simswap_jax.models.families import Family
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.training import simswap
from simswap_jax.training.experiment import use_generator
from simswap_jax.training.loop import train
from simswap_jax.training.simswap import SimSwap
from simswap_jax.weights import identity_folder, model_folder
from tests.support.clips import Squares
from tests.support.small_model import faces

FAMILY, METHOD = "tests.test_extension:TINT", "tests.test_extension:build"
SIZE = 32


# --- the family ---


@dataclass(frozen=True)
class TintConfig(DictConfig):
    family: ClassVar[str] = FAMILY
    described: ClassVar[str] = "tint"
    identity_size: int = 8
    convention: str = "unit"
    dtype: str = "float32"
    multiple: ClassVar[int] = 1


class Tint(nn.Module):
    """A colour for every identity, laid over the target."""

    @nn.compact
    def __call__(self, target, vector, train=False):
        return nn.sigmoid(nn.Dense(3, name="colour")(vector))[:, None, None, :] * 0.5 + target * 0.5


TINT = Family(
    name=FAMILY,
    config_class=TintConfig,
    takes=frozenset({"vector"}),
    module=lambda config, axis_name: Tint(),
    fields=lambda: {"convention": "unit"},
    from_fields=lambda fields, identity_size: TintConfig(identity_size, fields["convention"]),
    describe=lambda config: "one dense layer",
    warm_start=lambda former, config: None,
)


# --- the method ---


@dataclass(frozen=True)
class WithoutDiscriminators(SimSwap):
    """SimSwap's identity and reconstruction losses alone."""

    def step(self, state, batch, frozen):
        weights, embed = self.config.losses, self.identity.network.embed

        def gradients(at, floats):
            generator = at.networks["generator"]

            def loss(params):
                variables, mutable = {"params": params, **generator.collections}, list(generator.collections)
                vectors = embed(frozen, floats["source"])
                result, statistics = self.generator.apply(
                    variables, floats["target"], {"vector": vectors}, train=True, mutable=mutable
                )
                terms = {
                    "identity": paper.identity(embed(frozen, result), vectors),
                    "reconstruction": paper.reconstruction(result, floats["target"], floats["same_person"]),
                }
                return sum(weights[name] * term for name, term in terms.items()), (statistics, terms)

            made, (statistics, terms) = jax.grad(loss, has_aux=True)(generator.params)
            return {"generator": made}, {"generator": statistics}, terms

        return self.update(gradients, state, self.decode(batch))

    def work(self):
        return ()


default_config = simswap.default_config


def build(config, people, axis_name=None):
    built = simswap.build(config, people, axis_name)
    return WithoutDiscriminators(**{field.name: getattr(built, field.name) for field in dataclasses.fields(SimSwap)})


# --- what they go through ---


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    root = tmp_path_factory.mktemp("people")
    for number, picture in enumerate(faces(12)):
        folder = root / f"person{number % 4}"
        folder.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return root


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    config = IdentityConfig(layers=(1,), widths=(4,), size=(16, 16), frame=(16, 16), embedding=8)
    folder = tmp_path_factory.mktemp("network") / "identity"
    identity_folder.write(
        folder, config, jax.jit(IdentityNetwork(config).init)(jax.random.PRNGKey(1)), {"licence": "ours"}
    )
    return folder


@pytest.mark.parametrize("method", [pytest.param("simswap", marks=pytest.mark.slow), METHOD])
def test_they_train_save_load_swap_a_photo_and_refuse_to_export(method, people, network, tmp_path, monkeypatch, capsys):
    config = default_config()
    config.method, config.steps, config.batch_size = method, 2, 4
    config.data.root, config.data.size, config.data.source_size = str(people), SIZE, 16
    config.data.alignment, config.identity.weights = "simswap-frontal", str(network)
    use_generator(config, FAMILY)
    config.discriminator.widths, config.discriminator.tail, config.discriminator.scales = (4, 4), 4, 1
    config.losses.feature_matching_first = 1
    config.log_every, config.sample_every, config.checkpoint_every = 1, 2, 2
    done = train(config, tmp_path / "run")
    assert done.finished
    assert type(done.method) is (SimSwap if method == "simswap" else WithoutDiscriminators)
    assert (tmp_path / "run" / "samples" / "0000002.png").is_file()

    config.steps = 3
    assert int(train(config, tmp_path / "run").state.step) == 3  # resumed

    model = model_folder.read(done.model)
    assert isinstance(model.generator, TintConfig)
    assert "one dense layer" in (done.model / "README.md").read_text(encoding="utf-8")

    monkeypatch.setattr(photos, "FaceDetector", Squares)
    monkeypatch.setattr(photos.registry, "find", lambda name, purpose: tmp_path / name)
    swapper = FaceSwapper.from_pretrained(done.model)
    photo = np.full((120, 160, 3), 20, np.uint8)
    photo[30:90, 50:110] = (200, 0, 0)
    result = swapper.swap(photo, np.eye(8, dtype=np.float32)[0])
    assert np.abs(result[50:70, 70:90].astype(int) - photo[50:70, 70:90]).mean() > 5
    np.testing.assert_array_equal(result[:10], photo[:10])
    expected = np.asarray(
        model.network.apply(model.variables, jnp.asarray(photo[50:51, 70:71] / 255.0)[None], {"vector": jnp.eye(8)[:1]})
    )
    np.testing.assert_allclose(result[60, 80], expected[0, 0, 0] * 255, atol=1.5)

    assert cli.main(["export", str(done.model), "--output", str(tmp_path / "model.onnx")]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("simswap-jax: ")
    assert FAMILY in said

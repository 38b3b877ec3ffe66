"""What SimSwap refuses before any picture is read."""

import pytest

from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.training import loop
from simswap_jax.training.config import default_config, needs_people
from simswap_jax.training.simswap_checks import check_sees, read_identity
from tests.support.errors import raises_user_error


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The paper's experiment, where its identity network is not and there are no pictures."""
    monkeypatch.setenv("SIMSWAP_JAX_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = default_config()
    made.data.root = str(tmp_path / "nowhere")
    return made


def test_a_missing_identity_network_names_another_that_is_at_hand(config, tmp_path):
    with raises_user_error("public-weights-missing", "arcface_checkpoint.tar") as caught:
        read_identity(config)
    assert "Or train against" not in str(caught.value)
    (tmp_path / "mobilefacenet_casia.ckpt").write_bytes(b"is only looked for")
    with raises_user_error("public-weights-missing", "--config.identity.weights=mobilefacenet_casia.ckpt"):
        read_identity(config)


def test_it_is_looked_for_before_the_pictures(config, tmp_path):
    with raises_user_error("public-weights-missing", "arcface_checkpoint.tar"):
        loop.train(config, tmp_path / "run")


def test_methods_say_whether_they_need_the_people():
    assert not any(map(needs_people, ("simswap", "release", "faceshifter", "faceshifter_hear", "ipgan")))
    assert needs_people("identity")


def test_a_size_that_the_identity_network_cannot_see_is_named():
    network = IdentityNetwork(IdentityConfig(family="iresnet", size=(32, 32), frame=(32, 32), resize="area"))
    check_sees(network, "data.size", 64)
    with raises_user_error("config-identity-size", "config.data.source_size", "112×112"):
        check_sees(network, "data.source_size", 112)

"""What a training says: header, warnings, the line of a step, when it says it."""

from types import SimpleNamespace

import jax
import pytest

from simswap_jax.errors import install_command
from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
from simswap_jax.training import schedules, terminal
from simswap_jax.training.config import default_config
from simswap_jax.training.terminal import Devices, header, is_logged, loss_line, short_count, warnings_of

CPU = Devices("cpu", "cpu", 1)
NETWORK = IdentityNetwork(IdentityConfig())
METRICS = {
    "identity": 0.98,
    "reconstruction": 0.055,
    "adversarial": 0.44,
    "weak_feature_matching": 0.782,
    "generator": 9.8 + 0.55 + 0.44 + 7.82,
    "discriminator": 1.27,
    "gradient_penalty": 7650.0,
}


def test_the_header_says_on_what_what_and_how_long(tmp_path):
    config = default_config()
    config.accumulate, config.steps = 2, 5000
    arrays = {"kernel": jax.ShapeDtypeStruct((3, 3, 100, 50), float)}
    networks = {"generator": SimpleNamespace(params=arrays), "discriminator": SimpleNamespace(params={})}
    method = SimpleNamespace(frozen=arrays, identity=SimpleNamespace(name="arcface.tar", network=NETWORK))
    state = SimpleNamespace(networks=networks)
    rows = {row.what: row.value for row in header(config, method, state, Devices("H100", "gpu", 4), tmp_path)}
    assert rows["devices"] == "4 × H100; jit"
    assert rows["networks"] == "generator 45 k parameters, discriminator 0 parameters, frozen 45 k (arcface.tar)"
    assert rows["batch"] == "16 images, 2 a device in 2 micro-batches; 224×224 pixels, sources 112×112"
    assert rows["schedule"].startswith("5,000 steps; learning rate 0.0004 constant; log every 100, samples every 5,000")
    assert rows["workdir"] == str(tmp_path)


def test_counts_are_short():
    assert [short_count(count) for count in (512, 7_341, 55_123_456)] == ["512", "7.34 k", "55.1 M"]


def test_precision_names_networks_only_where_they_differ():
    config = default_config()
    assert terminal.precision(config) == "float32"
    config.generator.dtype = config.discriminator.dtype = "bfloat16"
    assert terminal.precision(config) == "discriminator bfloat16, generator bfloat16, identity float32"
    own = SimpleNamespace(network=IdentityNetwork(IdentityConfig(dtype="bfloat16")))
    assert terminal.precision(config, own) == "bfloat16"


def test_a_cpu_beside_a_gpu_and_a_large_recipe_are_warned_of(tmp_path):
    (tmp_path / "nvidia0").touch()
    assert list(warnings_of(CPU, 1000, {}, tmp_path / "none")) == []
    (said,) = warnings_of(CPU, 1000, {}, tmp_path)
    assert install_command("cuda") in said
    assert list(warnings_of(CPU, 1000, {"JAX_PLATFORMS": "cpu"}, tmp_path)) == []
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "kfd").touch()
    (said,) = warnings_of(CPU, 1000, {}, tmp_path / "other")
    assert "an AMD GPU" in said
    assert "ROCm" in said
    assert install_command("cuda") not in said
    (said,) = warnings_of(CPU, 66_000_000, {"JAX_PLATFORMS": "cpu"}, tmp_path)
    assert "66 M parameters" in said
    assert list(warnings_of(Devices("NVIDIA H100", "gpu", 8), 66_000_000, {}, tmp_path)) == []


def test_the_first_steps_are_logged_whatever_the_interval():
    assert [step for step in range(1, 2001) if is_logged(step, 1000)] == [1, 2, 5, 10, 20, 50, 100, 1000, 2000]


def test_shares_sum_to_the_total():
    config = default_config()
    split = schedules.loss_shares(schedules.loss_weights(config, 0), METRICS)
    assert sum(split["G"].values()) == pytest.approx(METRICS["generator"])
    assert split["D"] == pytest.approx({"hinge": 1.27, "gp": 0.0765})
    line = loss_line(METRICS, [(1, METRICS)], lambda metrics, step: split)
    assert line == "G 18.61 = id 9.80 + rec 0.55 + adv 0.44 + fm 7.82 │ D 1.35 = hinge 1.27 + gp 0.08"


def test_what_a_margin_takes_off_is_the_rest():
    config = default_config()
    split = schedules.loss_shares(schedules.loss_weights(config, 0), {**METRICS, "generator": 18.0})
    assert split["G"]["rest"] == pytest.approx(18.0 - 18.61)
    assert "fm 7.82 − rest 0.61" in loss_line(METRICS, [(1, METRICS)], lambda metrics, step: split)


def test_steps_with_and_without_a_rest_are_averaged_together():
    config = default_config()
    weights = schedules.loss_weights(config, 0)
    steps = [(1, METRICS), (2, {**METRICS, "generator": 18.0})]
    for each in (steps, steps[::-1]):
        line = loss_line(METRICS, each, lambda metrics, step: schedules.loss_shares(weights, metrics))
        assert line.startswith("G 18.30 = id 9.80 + rec 0.55 + adv 0.44 + fm 7.82 − rest 0.3")


def test_weights_of_a_number_are_those_of_the_step():
    config = default_config()
    config.losses.identity_ramp, config.losses.rest_ramp = 100, 50
    for step in (0, 7, 49, 300):
        of_number, of_step = (schedules.loss_weights(config, at) for at in (step, jax.numpy.asarray(step)))
        for name in ("identity", "reconstruction", "adversarial", "feature_matching"):
            assert isinstance(getattr(of_number, name), float)
            assert getattr(of_number, name) == pytest.approx(float(getattr(of_step, name)), rel=1e-6)


def test_other_methods_name_their_losses_without_norms():
    row = {"loss": 0.2251, "net_gradient": 3.0, "skipped": 0.0}
    assert loss_line(row, [(1, row)]) == "loss 0.225"


def test_there_is_no_bar_outside_a_terminal(capsys):
    with terminal.step_bar(0, 10, 4) as count:
        count()
    assert capsys.readouterr() == ("", "")

"""Fields under the names of former versions: read in experiment files, on the command line and in workdirs."""

import json

import pytest

from simswap_jax.cli import train as command
from simswap_jax.contrib.small_models import robust_identity
from simswap_jax.training import experiment, identity, loop
from simswap_jax.training.config import default_config
from simswap_jax.training.experiment import AUGMENTATION, MUON, PERTURBATION, PROTOTYPES, use_generator
from tests.support.errors import raises_user_error

OLD = pytest.warns(DeprecationWarning, match="former version")


@pytest.mark.parametrize(
    ("former", "value", "today", "expected"),
    [
        ("start", "a", "init_from", "a"),
        ("data.vectors", True, "data.precompute_embeddings", True),
        ("identity.hardened", "b", "identity.robust", "b"),
        ("generator.patch", 2, "generator.unshuffle", 2),
        ("generator.edge_kernel", 3, "generator.stem_kernel", 3),
        ("generator.gated", True, "generator.composition_mask", True),
        ("generator.gate_cell", 2, "generator.mask_stride", 2),
        ("generator.style_gain", 8.0, "generator.adain_init_scale", 8.0),
        ("generator.gated", True, "generator.family", "compact"),
        ("corruption.colour", 0.5, "augmentation_options.colour", 0.5),
        ("corruption.swap", 0.5, "augmentation", AUGMENTATION),
        ("optimizer.muon_learning_rate", 0.02, "optimizer.generator", MUON),
        ("optimizer.muon_learning_rate", 0.02, "optimizer.muon_learning_rate", 0.02),
    ],
)
def test_an_experiment_file_may_use_a_former_name(former, value, today, expected, tmp_path):
    config = default_config()
    section, _, name = former.rpartition(".")
    with OLD:
        setattr(config[section] if section else config, name, value)
    assert config[today] == expected
    config.lock()
    words = ["--config", f"{tmp_path / 'paper.py'}", "--workdir", "x", f"--config.{former}={value}"]
    (tmp_path / "paper.py").write_text("from simswap_jax.training.config import default_config as get_config\n")
    with OLD:
        from_flag, _ = command.parse(words)
    assert from_flag[today] == expected


def test_the_identity_methods_former_names():
    config = identity.default_config()
    with OLD:
        config.network.centres, config.network.robust_radius = "known", 0.7
    assert (config.network.prototypes, config.network.perturbation) == (PROTOTYPES, PERTURBATION)
    assert config.network.perturbation_radius == 0.7
    with OLD:
        config.network.centres = "learned"
    assert config.network.prototypes == ""
    robust = robust_identity.default_config()
    with OLD:
        robust.hardening.stain = 0.3
    assert robust.robust_identity.colour == 0.3


def test_the_former_method_name_is_known():
    config = default_config("hardening")
    assert config.method == "robust_identity"


@pytest.mark.parametrize(("name", "value"), list(experiment.REMOVED_FIELDS.items()))
def test_a_field_that_is_gone_is_understood_at_its_default_only(name, value):
    config = default_config()
    section, _, field = name.rpartition(".")
    holder = config[section] if section else config
    with pytest.warns(DeprecationWarning, match="is gone"):
        setattr(holder, field, value)
    with raises_user_error("config-field-removed", field):
        setattr(holder, field, value + 1)
    assert field not in holder.to_dict()


def former_fields(config):
    """An experiment's fields as the version before wrote them."""
    names = {today: former for former, today in experiment.RENAMED_FIELDS.items()}
    fields = experiment.flat(json.loads(config.to_json()))
    fields.pop("generator.family")
    stored = dict(experiment.COMPACT_FIELDS) if "generator.unshuffle" not in fields else {}
    stored = {names.get(name, name): value for name, value in (stored | fields).items()}
    stored |= {"corruption.colour": 0.0, "corruption.swap": 0.0, "optimizer.muon_learning_rate": 0.0}
    stored |= experiment.REMOVED_FIELDS
    for name in ("augmentation", "optimizer.generator"):
        stored.pop(name)
    tree = {}
    for name, value in stored.items():
        *sections, last = name.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return tree


@pytest.mark.parametrize("family", ["simswap", "compact"])
def test_a_workdir_of_the_version_before_is_the_same_experiment(tmp_path, family):
    config = use_generator(default_config(), family)
    if family == "compact":
        config.generator.composition_mask = True
    (tmp_path / loop.CONFIG).write_text(json.dumps(former_fields(config)))
    with OLD as warned:
        loop.check_workdir_config(tmp_path, config)
    assert len(warned) == 1
    loop.check_workdir_config(tmp_path, config)  # it now stands there under today's names
    former = former_fields(config)
    former["losses"]["gradient_penalty_every"] = 4
    (tmp_path / loop.CONFIG).write_text(json.dumps(former))
    with raises_user_error("config-field-removed", "losses.gradient_penalty_every"):
        loop.check_workdir_config(tmp_path, config)
    former["losses"]["gradient_penalty_every"], former["start"] = 1, "elsewhere"
    (tmp_path / loop.CONFIG).write_text(json.dumps(former))
    with OLD, raises_user_error("workdir-of-another-experiment", "config.init_from", "elsewhere"):
        loop.check_workdir_config(tmp_path, config)


def test_what_was_switched_on_by_a_number_stays_on():
    stored = {"corruption": {"colour": 1.0, "swap": 0.0}, "optimizer": {"muon_learning_rate": 0.01}}
    stored |= {"network": {"centres": "known", "robust_radius": 0.7}, "method": "hardening"}
    with OLD:
        fields = experiment.upgraded(stored)
    assert fields == {
        "augmentation": AUGMENTATION,
        "augmentation_options.colour": 1.0,
        "augmentation_options.swap": 0.0,
        "optimizer.generator": MUON,
        "optimizer.muon_learning_rate": 0.01,
        "network.prototypes": PROTOTYPES,
        "network.perturbation": PERTURBATION,
        "network.perturbation_radius": 0.7,
        "method": "robust_identity",
    }


def test_another_family_brings_its_own_fields():
    config = default_config()
    config.generator.blocks = 2
    use_generator(config, "compact")
    assert (config.generator.blocks, config.generator.unshuffle) == (2, 1)
    assert "preset" not in config.generator.to_dict()
    use_generator(config, "simswap")
    assert "unshuffle" not in config.generator.to_dict()

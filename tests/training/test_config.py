"""Fields under the names of former versions: read in experiment files, on the command line and in workdirs."""

import json

import jax
import numpy as np
import pytest

from simswap_jax.cli import train as command
from simswap_jax.contrib.small_models import robust_identity, split_batch
from simswap_jax.errors import UserError
from simswap_jax.models import DiscriminatorConfig, MultiScaleDiscriminator
from simswap_jax.training import experiment, identity, workdir
from simswap_jax.training.config import check, default_config
from simswap_jax.training.experiment import AUGMENTATION, MUON, PERTURBATION, PROTOTYPES, use_generator
from tests.support.errors import raises_user_error
from tests.support.progress import log_lines

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
    (tmp_path / workdir.CONFIG).write_text(json.dumps(former_fields(config)))
    (tmp_path / "checkpoints" / "4").mkdir(parents=True)
    with OLD as warned:
        workdir.check_workdir_config(tmp_path, config)
    assert len(warned) == 1
    workdir.check_workdir_config(tmp_path, config)  # it now stands there under today's names
    former = former_fields(config)
    former["losses"]["gradient_penalty_every"] = 4
    (tmp_path / workdir.CONFIG).write_text(json.dumps(former))
    with raises_user_error("config-field-removed", "losses.gradient_penalty_every"):
        workdir.check_workdir_config(tmp_path, config)
    former["losses"]["gradient_penalty_every"], former["start"] = 1, "elsewhere"
    (tmp_path / workdir.CONFIG).write_text(json.dumps(former))
    with OLD, raises_user_error("workdir-of-another-experiment", "config.init_from", "elsewhere"):
        workdir.check_workdir_config(tmp_path, config)


@pytest.mark.parametrize(("cell", "differs"), [(0, []), (4, ["generator.colour_cell"])])
def test_a_compact_generators_later_fields_count_with_what_was_done_before_them(cell, differs):
    config = use_generator(default_config(), "compact")
    stored = experiment.flat(json.loads(config.to_json()))
    for name in ("generator.colour_cell", "generator.light_cell"):
        del stored[name]
    config.generator.colour_cell = cell
    wanted = json.loads(config.to_json())
    assert [name for name, *_ in experiment.differing(stored, wanted, default_config())] == differs


def test_an_identity_network_that_there_is_not_is_one_sentence():
    config = identity.default_config()
    config.network.family = "resnet"
    with raises_user_error("config-network", "'resnet'"):
        identity.build(config, None)


def test_a_field_that_neither_experiment_has_makes_no_other_one_of_it():
    """SimSwap's fields with `split_batch` as the method, whose defaults have more."""
    config = default_config()
    config.method, config.data.pairing = split_batch.METHOD, "mixed"
    stored = experiment.flat(json.loads(config.to_json()))
    assert list(experiment.differing(stored, json.loads(config.to_json()), split_batch.default_config())) == []


def test_a_workdir_belongs_to_an_experiment_only_when_something_was_trained(tmp_path):
    config = default_config()
    config.steps, config.data.root = 10, "people"
    workdir.check_workdir_config(tmp_path, config)
    config.identity.weights, config.batch_size = "another.ckpt", 4
    with log_lines() as lines:
        workdir.check_workdir_config(tmp_path, config)
    assert len(lines) == 1
    assert "has no checkpoint yet" in lines[0]
    assert "config.batch_size was 16 and is now 4, and 1 more" in lines[0]
    assert json.loads((tmp_path / workdir.CONFIG).read_text())["batch_size"] == 4
    (tmp_path / workdir.CONFIG).write_text("{")
    with log_lines() as lines:
        workdir.check_workdir_config(tmp_path, config)
    assert "is replaced" in lines[0]
    for left in ("checkpoints/4", "damaged/4-2", "model", "best"):
        place = tmp_path / "other" / left.replace("/", "_") / left
        place.mkdir(parents=True)
        root = tmp_path / "other" / left.replace("/", "_")
        workdir.write_json(root / workdir.CONFIG, json.loads(config.to_json()))
        config.batch_size += 1
        with raises_user_error("workdir-of-another-experiment", "config.batch_size"):
            workdir.check_workdir_config(root, config)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("optimizer.learning_rate", -1.0, "config-too-small"),
        ("optimizer.learning_rate", float("nan"), "config-too-small"),
        ("optimizer.learning_rate", float("inf"), "config-not-finite"),
        ("optimizer.b2", 1.0, "config-out-of-range"),
        ("ema", -0.1, "config-out-of-range"),
        ("losses.identity", -1.0, "config-too-small"),
        ("log_every", 0, "config-too-small"),
        ("checkpoint_every", 0, "config-too-small"),
        ("data.threads", 0, "config-too-small"),
        ("data.same_fraction", 1.5, "config-same-fraction"),
        ("data.size", 64, "config-size-of-discriminators"),
    ],
)
def test_a_number_out_of_its_range_is_refused_before_anything_is_read(field, value, code):
    config = default_config()
    config.data.root = "nowhere"
    check(config)
    config.update_from_flattened_dict({field: value})
    with raises_user_error(code, f"config.{field}"):
        check(config)


def test_the_least_size_of_discriminators_is_the_networks_own():
    """One pixel less is refused by the network itself, too."""
    config = default_config()
    config.data.root = "nowhere"
    fields = config.discriminator
    fields.widths, fields.tail, fields.scales = (4, 4), 4, 3
    network = MultiScaleDiscriminator(DiscriminatorConfig(widths=(4, 4), tail=4, scales=3, norm="none"))
    least = next(size for size in range(30, 120) if not refused(config, size))

    def make(size):
        return jax.eval_shape(network.init, jax.random.PRNGKey(0), jax.ShapeDtypeStruct((1, size, size, 3), np.float32))

    make(least)
    with pytest.raises(ValueError, match="cannot see"):
        make(least - 1)


def refused(config, size):
    config.data.size = size
    try:
        check(config)
    except UserError as error:
        return error.code == "config-size-of-discriminators"
    return False


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

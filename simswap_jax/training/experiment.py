"""An experiment's fields as an object that also answers to the names of former versions; functions found by name."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import ml_collections

from simswap_jax.errors import UserError, first_line

MUON = "simswap_jax.contrib.small_models.muon:muon"


AUGMENTATION = "simswap_jax.contrib.small_models.augmentation:build"


PERTURBATION = "simswap_jax.contrib.small_models.robust_identity:adversarial_pictures"


PROTOTYPES = "simswap_jax.contrib.rendered.dataset:class_prototypes"


# Fields that may differ when a workdir is resumed; everything else makes it another experiment.
FREE = {
    "steps",
    "log_every",
    "sample_every",
    "checkpoint_every",
    "keep",
    "log.tensorboard",
    "log.wandb",
    "processes.count",
    "processes.index",
    "processes.coordinator",
    "processes.wait",
    "devices",
    "parallel",
    "fsdp",
    "nonfinite_limit",
    "validation.every",
    "data.root",
    "data.cache",
    "data.threads",
}

# Former dotted name → today's. Read in experiment files, on the command line and in the config.json of workdirs.
RENAMED_FIELDS = {
    "start": "init_from",
    "data.vectors": "data.precompute_embeddings",
    "generator.patch": "generator.unshuffle",
    "generator.edge_kernel": "generator.stem_kernel",
    "generator.gated": "generator.composition_mask",
    "generator.gate_cell": "generator.mask_stride",
    "generator.style_gain": "generator.adain_init_scale",
    "identity.hardened": "identity.robust",
    "corruption": "augmentation_options",
    "corruption.colour": "augmentation_options.colour",
    "corruption.swap": "augmentation_options.swap",
    "network.centres": "network.prototypes",
    "network.robust_radius": "network.perturbation_radius",
    "hardening": "robust_identity",
    "hardening.radius": "robust_identity.radius",
    "hardening.stain": "robust_identity.colour",
    "hardening.grid": "robust_identity.grid",
    "hardening.ramp": "robust_identity.ramp",
}


# Values whose names changed, by today's field.
RENAMED_VALUES = {
    "method": {"hardening": "robust_identity"},
    "network.prototypes": {"learned": "", "known": PROTOTYPES},
}


# Fields that are gone, with the one value that is still understood: it changes nothing.
REMOVED_FIELDS = {"losses.gradient_penalty_every": 1, "score_every": 0, "keep_best": 1}


# What the small variant of the generator has and the paper's has not, with the paper's values.
COMPACT_FIELDS = {
    "generator.unshuffle": 1,
    "generator.stem_kernel": 7,
    "generator.composition_mask": False,
    "generator.mask_stride": 1,
    "generator.colour_cell": 0,
    "generator.light_cell": 0,
    "generator.adain_init_scale": 1.0,
}


# Sections that former versions put into every experiment, whatever its method.
FORMER_SECTIONS = ("generator", "discriminator", "identity", "losses", "augmentation", "augmentation_options")


FORMER_SHARED = (
    "data.source_size",
    "data.precompute_embeddings",
    "data.pairing",
    "data.same_fraction",
    "identity.robust",
    "identity.dtype",
    "optimizer.discriminator_learning_rate",
    "optimizer.generator",
)


def resolve(reference: str, field: str) -> Any:
    """What ``"package.module:attribute"`` names.

    Args:
      reference: the name.
      field: the experiment's field that holds it, for the sentence.

    Raises:
      UserError: there is no such module or attribute, or the module cannot be imported.
    """
    module, colon, attribute = reference.partition(":")
    try:
        if not colon:
            raise ImportError("it has no colon")
        return getattr(import_module(module), attribute)
    except UserError:
        raise
    except Exception as error:
        expected = isinstance(error, ImportError | AttributeError | ValueError)
        said = str(error) if expected else f"{type(error).__name__}: {first_line(error)}"
        raise UserError(
            f"config.{field} is '{reference}', which cannot be imported ({said}); write package.module:function, and "
            "put the module's folder on PYTHONPATH.",
            "config-cannot-be-imported",
        ) from error


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested fields as dotted names."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def use_generator(config: ml_collections.ConfigDict, family: str) -> ml_collections.ConfigDict:
    """Give an experiment the generator of another family: its fields, where the former had them with their values.

    Changes ``config`` and gives it back.
    """
    _become_family(config.generator, family)
    return config


def _become_family(section: ml_collections.ConfigDict, family: str) -> None:
    from simswap_jax.models import families

    fields = {"family": family, **families.get(family).fields()}
    former = section.to_dict()
    with section.unlocked():
        for name in former.keys() - fields.keys():
            del section[name]
        for name, value in fields.items():
            section[name] = former[name] if name in former and name != "family" else value


def upgraded(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config.json of any version under today's names, flat; a warning names the former ones.

    Raises:
      UserError: a field that is gone had a value that changed something.
    """
    fields, former = {}, []
    for name, value in flat(stored).items():
        today = RENAMED_FIELDS.get(name, name)
        if name in REMOVED_FIELDS:
            _refuse_removed(name, value)
        else:
            fields[today] = RENAMED_VALUES.get(today, {}).get(value, value) if isinstance(value, str) else value
        if today != name or name in REMOVED_FIELDS:
            former.append(name)
    if former:
        _warn(f"config.json has names of a former version: {', '.join(former)}.")
    return _with_functions_named(fields)


def _with_functions_named(fields: dict[str, Any]) -> dict[str, Any]:
    """Numbers that used to switch a part on, with the function that they belong to named."""
    if "generator.widths" in fields and "generator.family" not in fields:
        small = any(fields.get(name, value) != value for name, value in COMPACT_FIELDS.items())
        small = small and not fields.get("generator.preset")  # with a preset, all other fields were ignored
        fields["generator.family"] = "compact" if small else "simswap"
        for name in () if small else COMPACT_FIELDS:
            fields.pop(name, None)
    switches = {
        "augmentation": (("augmentation_options.colour", "augmentation_options.swap"), "", AUGMENTATION),
        "optimizer.generator": (("optimizer.muon_learning_rate",), "adam", MUON),
        "network.perturbation": (("network.perturbation_radius",), "", PERTURBATION),
    }
    for name, (numbers, off, on) in switches.items():
        there = [number for number in numbers if number in fields]
        if there and name not in fields:
            fields[name] = on if any(fields[number] for number in there) else off
            if fields[name] == off and name != "network.perturbation":
                for number in there:
                    del fields[number]
    return fields


def _refuse_removed(name: str, value: Any) -> None:
    if value != REMOVED_FIELDS[name]:
        raise UserError(
            f"config.{name} is {value!r}, but that field is gone; remove it to train as with "
            f"{REMOVED_FIELDS[name]!r}, or use the version that the experiment was made for.",
            "config-field-removed",
        )


def _warn(sentence: str) -> None:
    warnings.warn(f"{sentence} They are still read; see docs/reference/config.md for today's.", DeprecationWarning, 4)


@dataclass(frozen=True)
class _Former:
    """A former field of a section: today's name, a field that only this section has, what to do before it is used."""

    today: str
    beside: str
    prepare: Callable[["Experiment"], None] = lambda section: None


def _prepare_augmentation(config: "Experiment") -> None:
    with config.unlocked():
        config.augmentation = AUGMENTATION
        if not config.augmentation_options:
            config.augmentation_options = Experiment({"colour": 0.0, "swap": 0.0})


def _prepare_muon(section: "Experiment") -> None:
    with section.unlocked():
        section["generator"] = MUON
        super(Experiment, section).__setitem__("muon_learning_rate", 0.0)


def _prepare_perturbation(section: "Experiment") -> None:
    section["perturbation"] = PERTURBATION


def _prepare_compact(section: "Experiment") -> None:
    if section["family"] == "simswap":
        _become_family(section, "compact")


_FORMER = {
    "start": _Former("init_from", "steps"),
    "vectors": _Former("precompute_embeddings", "source_size"),
    **{
        former.removeprefix("generator."): _Former(today.removeprefix("generator."), "family", _prepare_compact)
        for former, today in RENAMED_FIELDS.items()
        if former.startswith("generator.")
    },
    "hardened": _Former("robust", "weights"),
    "corruption": _Former("augmentation_options", "augmentation", _prepare_augmentation),
    "muon_learning_rate": _Former("muon_learning_rate", "discriminator_learning_rate", _prepare_muon),
    "centres": _Former("prototypes", "margin"),
    "robust_radius": _Former("perturbation_radius", "margin", _prepare_perturbation),
    "hardening": _Former("robust_identity", "robust_identity"),
    "stain": _Former("colour", "grid"),
}


_REMOVED = {"gradient_penalty_every": "gradient_penalty", "score_every": "log_every", "keep_best": "keep"}


class Experiment(ml_collections.ConfigDict):
    """Fields of an experiment, or a section of them. They answer to the names of former versions, too, and say so."""

    def __contains__(self, key: str) -> bool:
        return super().__contains__(key) or self._former(key) is not None

    def __getitem__(self, key: str) -> Any:
        if self._is_removed(key):
            return next(value for name, value in REMOVED_FIELDS.items() if name.split(".")[-1] == key)
        return super().__getitem__(self._today(key))

    def __setitem__(self, key: str, value: Any) -> None:
        if self._is_removed(key):
            _refuse_removed(next(name for name in REMOVED_FIELDS if name.split(".")[-1] == key), value)
            _warn(f"config.{key} is gone.")
            return
        if self._former(key) is not None and isinstance(value, str):
            value = next((each[value] for each in RENAMED_VALUES.values() if value in each), value)
        super().__setitem__(self._today(key), value)

    def get_type(self, key: str) -> Any:
        """The type of a field's value."""
        return type(self[key])

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy: its fields are what they are, under today's names."""
        object.__setattr__(self, "_restoring", True)
        try:
            super().__setstate__(state)
        finally:
            object.__delattr__(self, "_restoring")

    def _former(self, key: str) -> _Former | None:
        if "_restoring" in self.__dict__:
            return None
        found = _FORMER.get(key)
        if found is None or key in self._fields or found.beside not in self._fields:
            return None
        today = key == found.today and self._fields.get("generator") == MUON  # a field that its function brings
        return None if today else found

    def _is_removed(self, key: str) -> bool:
        return key not in self._fields and _REMOVED.get(key) in self._fields

    def _today(self, key: str) -> str:
        former = self._former(key)
        if former is None:
            return key
        _warn(f"config.{key} is a name of a former version; today it is {former.today}.")
        former.prepare(self)
        return former.today


def differing(
    stored: dict[str, Any], wanted: dict[str, Any], default: ml_collections.ConfigDict
) -> Iterator[tuple[str, Any, Any]]:
    """(field, former value, value wanted now) of what makes two experiments different ones.

    A field that was not there yet when the workdir was made counts with its default: how it was done before. One of a
    section that former versions gave to every method, and this experiment has not, does not count. Nor does how to
    validate where one of both does not: it changes nothing of the training.
    """
    of_family = COMPACT_FIELDS if stored.get("generator.family") == "compact" else {}
    before, wanted = flat(json.loads(default.to_json())) | of_family | stored, flat(wanted)
    validated = before.get("validation.every") and wanted.get("validation.every")
    sections = {name.split(".")[0] for name in wanted}
    for name in sorted({*stored, *of_family, *wanted}):
        gone = name not in wanted and (
            name in FORMER_SHARED
            or (name.split(".")[0] in FORMER_SECTIONS and name.split(".")[0] not in sections)
            or (name.startswith("generator.") and name not in stored)
            or (name, before[name]) == ("generator.preset", "")
        )
        gone = gone or (name.startswith("validation.") and not validated)
        if name not in FREE and not gone and before.get(name) != wanted.get(name):
            yield name, before.get(name), wanted.get(name)

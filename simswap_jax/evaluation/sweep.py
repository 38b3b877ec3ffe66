"""`simswap-jax sweep`: the paper's ablation as one run, many trainings that end in its table and its figure.

Without `--config` it is the demo's size: rendered people, an identity network trained on some of them, and minutes a
variant on two CPU cores. With `--config` it is any experiment on any data. Stopped, the same command goes on.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import ml_collections

from simswap_jax.cli import train as training
from simswap_jax.contrib.rendered import dataset, demo
from simswap_jax.errors import UserError
from simswap_jax.evaluation import evaluate as evaluation
from simswap_jax.evaluation import options as evaluation_options
from simswap_jax.training import ablations
from simswap_jax.training.loop import train
from simswap_jax.training.sharding import use_cpu_cores

STEPS = 400  # of a variant at the demo's size
FEATURE_MATCHING = 2.0  # the demo's weight is next to none, and what is taken apart has to weigh something
PASSED_ON = ("judge", "pose", "landmarks", "features")  # to the evaluation


def main(arguments: Sequence[str]) -> int:
    """Run the verb. Status 0: done; 3: stopped before the end, the same command goes on."""
    ours, of_config = divided(arguments)
    options = parser().parse_args(ours)
    workdir: Path = options.workdir
    rendered = not of_config
    if rendered:
        use_cpu_cores(demo.BATCH)
        config = demo_experiment(workdir, options)
    else:
        if options.judge is None:
            raise UserError("--judge is missing; name a recogniser that took no part in the training.")
        config, _ = training.parse([*of_config, "--workdir", str(workdir)])
        if config.devices == 0 and config.fsdp == 1:
            use_cpu_cores(config.batch_size // max(1, config.accumulate))
    if config is None:
        return 3
    if options.steps:
        config.steps = options.steps
    variants = chosen(options.variants, ablations.names(ablations.feature_maps(config)))

    models = {}
    for number, name in enumerate(variants, 1):
        folder = workdir / "variants" / name
        print(f"{number}/{len(variants)} {name}", flush=True)
        if not trained(folder, config.steps) and not train(ablations.ablated(config, name), folder).finished:
            return 3
        models[name] = folder / "model"
    evaluation.evaluate(evaluation_options.parser().parse_args(to_evaluate(options, config, models, rendered)))
    return 0


def parser() -> argparse.ArgumentParser:
    """The verb's arguments, but for ``--config`` and ``--config.field=value``."""
    parse = argparse.ArgumentParser("simswap-jax sweep", description=__doc__)
    add = parse.add_argument
    add("--workdir", type=Path, required=True, metavar="FOLDER", help="gets variants/NAME and evaluation")
    add("--variants", metavar="NAMES", help="only these, with commas (default: all of the paper's ablation)")
    add("--steps", type=int, metavar="N", help="of each training (default: the experiment's; 400 at the demo's size)")
    add("--pairs", type=int, default=336, help="how many swaps each is judged by (default 336)")
    add("--people", type=int, default=demo.PEOPLE, help="how many are rendered, at the demo's size")
    add("--identity-steps", type=int, metavar="N", help="of the identity network's training, at the demo's size")
    add("--config", metavar="EXPERIMENT.py", help="an experiment of your own, and --config.field=value as for train")
    for name in PASSED_ON:
        add(f"--{name}", metavar="PATH", help="as for evaluate")
    return parse


def divided(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The verb's own words, and those of the experiment: ``--config FILE`` and ``--config.field=value``."""
    ours: list[str] = []
    of_config: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word == "--config" and words:
            of_config += [word, words.pop(0)]
        elif word.startswith(("--config=", "--config.")):
            of_config.append(word)
        else:
            ours.append(word)
    return ours, of_config


def demo_experiment(workdir: Path, options: argparse.Namespace) -> ml_collections.ConfigDict | None:
    """Render people, train an identity network and the demo's first stage, and give what the demo does from there.

    None if it was stopped.
    """
    people, cache = workdir / "people", workdir / "records"
    if not people.exists():
        print(f"rendering {options.people} people, {demo.EACH} pictures each", flush=True)
        who = dataset.sample_people(demo.PEOPLE_SEED, options.people)
        names = dataset.person_names(options.people)
        dataset.write_people(people, who, names, demo.EACH, demo.ATTRIBUTE_SEED, demo.SIZE)
    network = demo.identity_config(people, cache)
    if options.identity_steps:
        network.steps = options.identity_steps
    print("training an identity network on some of them", flush=True)
    known = train(network, workdir / "identity")
    if not known.finished:
        return None
    config = demo.simswap_config(people, cache, known.model)
    first = demo.first_stage(config)
    if options.steps:
        first.steps = options.steps
    print("training what all variants begin with", flush=True)
    if not train(first, workdir / "first").finished:
        return None
    config.init_from, config.steps = str(workdir / "first"), STEPS
    config.losses.feature_matching = FEATURE_MATCHING
    return config


def chosen(asked: str | None, known: Sequence[str]) -> list[str]:
    """The variants to train, in the paper's order.

    Raises:
      UserError: one is unknown, or fewer than two are left to compare.
    """
    wanted = known if asked is None else [name.strip() for name in asked.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise UserError(f"there is no variant '{name}'; choose among {', '.join(known)}.")
    if not wanted:
        raise UserError(f"--variants names none; choose among {', '.join(known)}.")
    return [name for name in known if name in wanted]


def trained(folder: Path, steps: int) -> bool:
    """Has a variant made its steps? Told by its model's card."""
    try:
        described = json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))
        return int(described["card"]["step"]) >= steps
    except (OSError, ValueError, KeyError, TypeError):
        return False


def to_evaluate(
    options: argparse.Namespace, config: ml_collections.ConfigDict, models: dict[str, Path], rendered: bool
) -> list[str]:
    """The words of the one evaluation of all variants."""
    words = ["--data", str(config.data.root), "--output", str(options.workdir / "evaluation")]
    words += ["--pairs", str(options.pairs), "--protocol", "synthetic" if rendered else "pairs"]
    for name, folder in models.items():
        words += ["--model", f"{name}={folder}"]
    for name in PASSED_ON:
        if getattr(options, name):
            words += [f"--{name}", getattr(options, name)]
    return words

"""What `simswap-jax compare` compares methods on where no data are named: rendered people, with recipes for them."""

import logging
from pathlib import Path

import ml_collections

from simswap_jax.contrib.rendered import dataset, demo
from simswap_jax.data.dataset import held_out
from simswap_jax.evaluation.budget import with_fields
from simswap_jax.evaluation.compare import CompareRequest, Setting, Stage
from simswap_jax.io.progress import StageTimer
from simswap_jax.training.loop import train
from simswap_jax.training.sharding import use_cpu_cores

PEOPLE, IDENTITY_STEPS = 300, 400
LEAST_PEOPLE, LEAST_STEPS = 60, 60
FULL = 60.0  # minutes from which on people and identity network have their full size
EACH, KNOWN_EACH = 24, 240  # pictures of a person, and of one whom DeepFakes draws
HELD_OUT_PICTURES = 0.2
FIRST = 500 / 1700  # of SimSwap's steps: the demo's first stage
LANDMARKS = {
    "generator.landmarks": "simswap_jax.contrib.rendered.landmarks:of_files",
    "generator.points": 39,
    "generator.reach": 1.1,
}
LACKS = "the demo's recipe for two CPU cores: narrow networks, little of the discriminators, input augmentation, Muon"
logger = logging.getLogger(__name__)


def prepare(request: CompareRequest, timer: StageTimer) -> Setting | None:
    """Render the people and train their identity network, unless it is done; None if that was stopped."""
    use_cpu_cores(demo.BATCH)
    people, cache = request.workdir / "people", request.workdir / "records"
    count, steps = sizes(request)
    names = dataset.person_names(count)
    away = set(held_out(names, demo.HELD_OUT))
    known = tuple([name for name in names if name not in away][: request.known_people])
    with timer.stage("people", f"rendering {count} people", people.exists):
        if not people.exists():
            pictures = [KNOWN_EACH if name in known else EACH for name in names]
            who = dataset.sample_people(demo.PEOPLE_SEED, count)
            dataset.write_people(people, who, names, pictures, demo.ATTRIBUTE_SEED, demo.SIZE)
    network = demo.identity_config(people, cache)
    network.steps, network.data.held_out_pictures = steps, HELD_OUT_PICTURES
    network.checkpoint_every = max(1, min(network.checkpoint_every, steps // 4))
    folder = request.workdir / "identity"
    with timer.stage("identity", "training an identity network on them", (folder / "model").exists):
        if not train(network, folder).finished:
            return None
    return Setting(
        data=people,
        fields={
            "data.root": str(people),
            "data.cache": str(cache),
            "data.held_out": demo.HELD_OUT,
            "data.held_out_pictures": HELD_OUT_PICTURES,
            "data.source_size": demo.SIZE,
            "data.alignment": "rendered",
            "identity.weights": str(folder / "model"),
            **LANDMARKS,
        },
        known=known,
        protocols=("synthetic", "synthetic_known"),
        recipes={"simswap": simswap_stages},
        lacks={"simswap": LACKS},
        batch_size=demo.BATCH,
        knows_landmarks=True,
    )


def sizes(request: CompareRequest) -> tuple[int, int]:
    """How many people, and the identity network's steps: fewer where there are few minutes."""
    share = min(1.0, (request.minutes or FULL) / FULL)
    people = request.people or max(LEAST_PEOPLE, round(PEOPLE * share))
    return people, request.identity_steps or max(LEAST_STEPS, round(IDENTITY_STEPS * share))


def simswap_stages(setting: Setting) -> list[Stage]:
    """SimSwap by the demo's recipe, in its two stages."""
    root = Path(setting.fields["data.root"])
    second: ml_collections.ConfigDict = demo.simswap_config(root, root, root)
    stages = [Stage(demo.first_stage(second), FIRST), Stage(second, 1.0 - FIRST)]
    return [Stage(with_fields(stage.config, setting.fields), stage.share) for stage in stages]

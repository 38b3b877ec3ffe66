"""Our training step against PyTorch's (torch_step.py): the same networks, weights, batch and losses, in one run.

    python benchmarks/train_step.py --size 224 --batch 2
    python benchmarks/train_step.py --device gpu --dtype bfloat16 --batch 32     on a GPU
    python benchmarks/train_step.py --preset narrow --size 64 --batch 8          a small model, in a minute
    python benchmarks/train_step.py --device tpu --dtype bfloat16 --batch 32 --ours     without PyTorch beside it

Needs the extra `torch`: pip install -e '.[torch]'; --torch-python names another environment that has it. Each
side runs in a process of its own, in turn, `--rounds` times. Said of each: seconds a step (median), images/s, MFU where
the peak is published, memory (of the process on a CPU, of the device on a GPU), seconds to the end of the first step
with an empty and with a filled compilation cache. The losses of the first step are compared: both do the same work.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve()
NARROW = {"widths": (16, 32, 64, 128), "blocks": 3, "discriminator": (16, 32, 64), "tail": 64}
TOLERANCE = {"float32": 2e-3, "bfloat16": 0.1}  # of a loss, relative; rounding of long sums


def experiment(asked):
    """The experiment of a benchmark: the paper's recipe at a size and a batch."""
    from simswap_jax.training.config import default_config

    config = default_config()
    config.batch_size, config.data.size = asked.batch, asked.size
    config.generator.dtype = config.discriminator.dtype = config.identity.dtype = asked.dtype
    if asked.preset == "narrow":
        config.generator.preset, config.generator.widths = "", NARROW["widths"]
        config.generator.blocks = NARROW["blocks"]
        config.discriminator.widths, config.discriminator.tail = NARROW["discriminator"], NARROW["tail"]
    return config


def method_of(asked):
    """SimSwap against an identity network with fresh weights."""
    import jax

    from simswap_jax.models.identity import IdentityConfig, IdentityNetwork
    from simswap_jax.training import simswap
    from simswap_jax.weights.identity_folder import Identity

    network = IdentityNetwork(IdentityConfig.from_name(asked.identity))
    variables = jax.jit(network.init)(jax.random.PRNGKey(1))
    return simswap.from_networks(experiment(asked), Identity(network, variables, "", asked.identity, ours=True))


def batch_of(asked, config):
    """Smooth random pictures: noise would make the losses a matter of rounding."""
    rng = np.random.default_rng(0)

    def pictures(size):
        coarse = rng.random((asked.batch, 8, 8, 3))
        return (255 * coarse.repeat(size // 8, 1).repeat(size // 8, 2)).astype(np.uint8)

    return {
        "target": pictures(config.data.size),
        "source": pictures(config.data.source_size),
        "same_person": np.arange(asked.batch) % 2 == 0,
    }


def write_problem(asked, folder):
    """The weights under PyTorch's names, the batch and the settings, as torch_step.py reads them."""
    import jax

    from simswap_jax.weights import torch_weights as tw

    method = method_of(asked)
    config = method.config
    state = jax.jit(method.init)(jax.random.PRNGKey(config.seed))
    networks = {name: jax.device_get(network.variables) for name, network in state.networks.items()}
    named = {"generator": tw.generator_state_dict(method.generator, networks["generator"])}
    each = tw.discriminator_state_dicts(method.discriminator, networks["discriminator"])
    named |= {f"d{i + 1}": one for i, one in enumerate(each)}
    named["identity"] = tw.identity_state_dict(method.identity.network, jax.device_get(method.frozen))
    arrays = {f"{name}/{key}": value for name, tree in named.items() for key, value in tree.items()}
    alpha = jax.random.uniform(jax.random.fold_in(state.key, state.step), (asked.batch, 1, 1, 1))
    batch = {**batch_of(asked, config), "alpha": np.asarray(alpha)}
    np.savez(folder / "problem.npz", **arrays, **{f"batch/{name}": value for name, value in batch.items()})
    shape, identity, rates = method.generator.config, method.identity.network.config, config.optimizer
    settings = {
        "device": "cuda" if asked.device == "gpu" else "cpu",
        "dtype": asked.dtype,
        "compile": asked.device == "gpu",
        "threads": asked.threads,
        "steps": asked.steps,
        "warm_up": asked.warm_up,
        "widths": list(shape.widths),
        "blocks": shape.blocks,
        "identity_size": shape.identity_size,
        "discriminator_widths": list(method.discriminator.config.widths),
        "tail": method.discriminator.config.tail,
        "scales": method.discriminator.config.scales,
        "identity_layers": list(identity.layers),
        "identity_widths": list(identity.widths),
        "feature_matching_first": config.losses.feature_matching_first,
        "weights": {
            name: config.losses[name]
            for name in ("identity", "reconstruction", "adversarial", "feature_matching", "gradient_penalty")
        },
        "learning_rate": rates.learning_rate,
        "b1": rates.b1,
        "b2": rates.b2,
        "ema": config.ema,
    }
    (folder / "settings.json").write_text(json.dumps(settings))


def keep_to(cores):
    """Let this process use so many cores and no more, as the other side does."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def jax_side(asked):
    """Train as `simswap-jax train` would and print what was measured as one line of JSON."""
    began = time.perf_counter()
    keep_to(asked.threads)
    import jax

    from simswap_jax.training import chips, flops, sharding
    from simswap_jax.training.runner import Runner

    if asked.device == "cpu" and asked.threads > 1:
        sharding.use_cpu_cores(asked.batch)
    method = method_of(asked)
    runner = Runner(method, asked.batch, devices=0 if asked.device == "cpu" else 1)
    state = runner.init(jax.random.PRNGKey(method.config.seed))
    batch = runner.shard_batch(batch_of(asked, method.config))

    def run(state):
        state, metrics = runner.step(state, batch)
        return state, {name: float(value) for name, value in metrics.items()}

    state, losses = run(state)
    first = time.perf_counter() - began
    seconds, processor = [], []
    for i in range(asked.warm_up + asked.steps):
        wall, busy = time.perf_counter(), time.process_time()
        state, _ = run(state)
        if i >= asked.warm_up:
            seconds.append(time.perf_counter() - wall)
            processor.append(time.process_time() - busy)
    device = jax.devices()[0]
    chip = chips.chip_of(device.device_kind)
    said = {
        "version": f"jax {jax.__version__}",
        "losses": losses,
        "first": first,
        "seconds": seconds,
        "processor": processor,
        "memory": device.memory_stats()["peak_bytes_in_use"]
        if asked.device != "cpu"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "flops": flops.per_image(method),
        "peak": chip.peak_flops if chip else None,
    }
    print(json.dumps(said))


def run_side(command, environment):
    """The JSON that a process of its own prints last."""
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command[:3]))} … failed with status {done.returncode}; see above.")
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(ours, theirs, dtype):
    """The loss that differs most between the first steps, and by how much, relative.

    Raises:
      SystemExit: the two did not do the same work.
    """
    away = {name: abs(ours[name] - value) / max(abs(value), 1e-2) for name, value in theirs.items()}
    worst = max(away, key=lambda name: away[name])
    if not away[worst] <= TOLERANCE[dtype]:
        raise SystemExit(f"the two sides do not do the same work: {worst} is {ours[worst]} and {theirs[worst]}.")
    return worst, away[worst]


def measured(rounds, asked, flops, peak):
    """Medians of the rounds of one side."""
    seconds = statistics.median(second for one in rounds for second in one["seconds"])
    said = {
        "version": rounds[0]["version"],
        "seconds_a_step": seconds,
        "processor_seconds_a_step": statistics.median(second for one in rounds for second in one["processor"]),
        "images_per_second": asked.batch / seconds,
        "memory_bytes": max(one["memory"] for one in rounds),
        "first_step_seconds": rounds[0]["first"],
        "first_step_seconds_again": rounds[-1]["first"],
    }
    return {**said, "mfu": flops * asked.batch / (seconds * peak)} if peak else said


def problem_arguments(made, device="cpu", dtype="float32", batch=2):
    """What is trained, and on what: the arguments that `experiment`, `method_of` and `batch_of` read."""
    made.add_argument("--device", choices=("cpu", "gpu", "tpu"), default=device)
    made.add_argument("--dtype", choices=("float32", "bfloat16"), default=dtype)
    made.add_argument("--preset", choices=("224", "narrow"), default="224")
    made.add_argument("--size", type=int, default=224)
    made.add_argument("--batch", type=int, default=batch)
    made.add_argument("--identity", default="arcface18", help="arcface18, 34, 50 or 101, with fresh weights")


def parser():
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    problem_arguments(made)
    made.add_argument("--steps", type=int, default=3, help="timed, a round")
    made.add_argument("--warm-up", type=int, default=1, help="steps that are not timed, after the first")
    made.add_argument("--rounds", type=int, default=2, help="of either side, in turn")
    made.add_argument("--threads", type=int, default=os.cpu_count(), help="cores that either side may use")
    made.add_argument("--torch-python", default=sys.executable, help="a Python that has PyTorch")
    made.add_argument("--ours", action="store_true", help="measure no PyTorch beside it")
    made.add_argument("--json", type=Path, help="write what was measured here")
    made.add_argument("--side", choices=("jax",), help=argparse.SUPPRESS)
    return made


def need_torch(python):
    """Refuse a Python without PyTorch.

    Raises:
      SystemExit: it has none.
    """
    if subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode:
        raise SystemExit(
            f"{python} has no PyTorch; install the extra `torch` (pip install -e '.[torch]'), name another Python with "
            "--torch-python, or measure without it: --ours."
        )


def measure_in_turn(asked, words):
    """(PyTorch's rounds, ours), what each process told; without PyTorch if so asked."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        cache = {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "jax"),
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "torch"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        torch = [asked.torch_python, str(HERE.with_name("torch_step.py"))]
        torch += [str(folder / "problem.npz"), str(folder / "settings.json")]
        jax = [sys.executable, str(HERE), "--side", "jax", *words]
        if not asked.ours:
            write_problem(asked, folder)
        theirs, ours = [], []
        for _ in range(asked.rounds):
            if not asked.ours:  # an empty path: the other environment's packages must not be found
                theirs.append(run_side(torch, {**cache, "PYTHONPATH": ""}))
            platform = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}[asked.device]
            ours.append(run_side(jax, {**cache, "JAX_PLATFORMS": platform}))
    return theirs, ours


def main(arguments=None):
    words = sys.argv[1:] if arguments is None else list(arguments)
    asked = parser().parse_args(words)
    if asked.side == "jax":
        jax_side(asked)
        return 0
    os.environ["JAX_PLATFORMS"] = "cpu"  # this process only prepares; the device is for the two sides
    if asked.device == "tpu" and not asked.ours:
        parser().error("PyTorch would run on the host's CPU beside a TPU; add --ours to measure without it.")
    if not asked.ours:
        need_torch(asked.torch_python)
    theirs, ours = measure_in_turn(asked, words)
    flops, peak = ours[0]["flops"], ours[0]["peak"]
    said = {
        "asked": {
            name: value
            for name, value in vars(asked).items()
            if name in ("device", "dtype", "preset", "size", "batch", "identity")
        },
        "model_flops_an_image": flops,
        "simswap_jax": measured(ours, asked, flops, peak),
    }
    if theirs:
        worst, away = compare(ours[0]["losses"], theirs[0]["losses"], asked.dtype)
        said["pytorch"] = measured(theirs, asked, flops, peak)
        said["most_different_loss"] = {"name": worst, "relative": away}
        said["our_time_over_pytorchs"] = {
            name: said["simswap_jax"][name] / said["pytorch"][name]
            for name in ("seconds_a_step", "processor_seconds_a_step")
        }
    text = json.dumps(said, indent=1)
    print(text)
    if asked.json:
        asked.json.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

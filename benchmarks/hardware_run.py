"""A few minutes on an accelerator, used well: tests, speed, profile, then training until the time is up.

    launch/one_gpu.sh --minutes 10 --output FOLDER -- --config simswap_224 --config.data.root=FACES
    python benchmarks/hardware_run.py --device cpu --minutes 5 --output FOLDER -- --config celeba_64 …     a rehearsal

Every stage is a process of its own with a share of the minutes. One that fails or takes too long is noted, and the next
one starts. What was measured is in FOLDER/hardware.json and, to be read, in FOLDER/index.html, after every stage. The
same command again leaves out what succeeded and resumes the training in FOLDER/training. What stands behind ``--`` are
arguments of `simswap-jax train`; without them nothing is trained.

Status: 0 if every stage succeeded, 1 if one did not, 2 for a mistake.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simswap_jax.io.atomic import write_text
from simswap_jax.io.html_report import Table, html_report
from simswap_jax.training.metrics import read_lines

HERE = Path(__file__).resolve().parent
PLATFORMS = {"cpu": "cpu", "gpu": "cuda,cpu", "tpu": "tpu,cpu"}  # the CPU's numbers are what tests compare with
PARITY = ("tests/device", "tests/models/test_golden_networks.py", "tests/training/test_golden_train_step.py")
LEAST = 2  # minutes
SPARE = 20.0  # seconds of the minutes for starting, saving and the page
PATIENCE = 45.0  # seconds between SIGTERM and SIGKILL: a training saves in between
MEASURES = ("images_per_second", "mfu", "memory_bytes", "first_step_seconds", "first_step_seconds_again")


@dataclass(frozen=True)
class Stage:
    """One process.

    Attributes:
      share: of the minutes that it may take; 0 takes what is left.
      succeeded: statuses that mean success; a training that was stopped and saved ends with 3.
    """

    name: str
    command: Sequence[str]
    share: float
    succeeded: Sequence[int] = (0,)


def stages(asked: argparse.Namespace, training: Sequence[str]) -> list[Stage]:
    """What is run, in order."""
    python, output = sys.executable, asked.output
    small = asked.device == "cpu"
    what = ["--device", asked.device, "--dtype", asked.dtype, "--batch", str(asked.batch)]
    what += ["--preset", "narrow", "--size", "64"] if small else []
    speed = [python, str(HERE / "train_step.py"), *what, "--json", str(output / "speed.json"), "--steps", "10"]
    ours_only = ["--ours"] if asked.device == "tpu" or not asked.torch else []  # torch_step.py knows no TPU
    parity = [*PARITY[: 1 if small else None], "-m", "device or not slow", "-p", "no:cacheprovider"]
    made = [
        Stage("tests", [python, "-m", "pytest", *parity, f"--junitxml={output / 'tests.xml'}"], 0.3),
        Stage("speed", [*speed, *ours_only], 0.3),
        Stage("profile", [python, str(HERE / "profile_step.py"), *what, "--output", str(output / "profile")], 0.15),
    ]
    if training:
        words = [*training, "--workdir", str(output / "training")]
        made.append(Stage("training", [python, "-m", "simswap_jax", "train", *words], 0.0, (0, 3)))
    return made


def environment(asked: argparse.Namespace, stage: str = "") -> dict[str, str]:
    """Of a stage: the platform, one compilation cache; tests ask for sums in the same order in every run."""
    flags = [os.environ.get("XLA_FLAGS", "")]
    if (asked.device, stage) == ("gpu", "tests"):
        flags.append("--xla_gpu_deterministic_ops=true")
    return {
        **os.environ,
        "JAX_PLATFORMS": PLATFORMS[asked.device],
        "JAX_COMPILATION_CACHE_DIR": str(asked.output.resolve() / "xla"),
        "XLA_FLAGS": " ".join(flags).strip(),
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }


def run_stage(stage: Stage, limit: float, asked: argparse.Namespace) -> dict[str, Any]:
    """Run one stage for at most so many seconds; what came of it."""
    log = asked.output / f"{stage.name}.log"
    began = time.monotonic()
    with log.open("ab") as out:
        process = subprocess.Popen(
            stage.command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment(asked, stage.name),
            start_new_session=True,
        )
        cut = False
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            cut = True
            status = stop(process)
        except BaseException:  # Ctrl-C, SIGTERM: what runs in a session of its own would go on
            stop(process)
            raise
    return {
        "status": status,
        "ok": status in stage.succeeded and not (cut and stage.share),
        "cut": cut,
        "seconds": round(time.monotonic() - began, 1),
    }


def stop(process: subprocess.Popen[bytes]) -> int:
    """End a stage with all of its processes: asked first, so that a training saves."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def about() -> dict[str, Any]:
    """The device and the versions, asked in a process that ends and gives the device back."""
    ask = (
        "import jax, json; d = jax.devices()[0]; print(json.dumps({'device': d.device_kind, 'platform': d.platform, "
        "'devices': len(jax.devices()), 'jax': jax.__version__}))"
    )
    done = subprocess.run([sys.executable, "-c", ask], env=os.environ, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"hardware_run: JAX finds no such device: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        raise SystemExit(2)
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def measured(output: Path) -> dict[str, Any]:
    """What the stages left in the folder: the benchmark, the profile, and the last row of the training."""
    said = {}
    for name, path in (("speed", output / "speed.json"), ("profile", output / "profile" / "profile.json")):
        if path.is_file():
            said[name] = json.loads(path.read_text(encoding="utf-8"))
    if rows := read_lines(output / "training"):
        said["training"] = {"step": rows[-1]["step"], "rows": len(rows), "last": rows[-1]}
    return said


def write_page(output: Path, said: dict[str, Any]) -> None:
    """``hardware.json`` and ``index.html``."""
    write_text(output / "hardware.json", json.dumps(said, indent=1) + "\n")
    what = said["about"]
    sentence = f"{what['devices']} × {what['device']}, jax {what['jax']}, {said['minutes']:g} minutes."
    tables = [stage_table(said["stages"]), *measure_tables(said["measured"])]
    write_text(output / "index.html", html_report("Hardware run", sentence, tables))


def stage_table(found: Mapping[str, dict[str, Any]]) -> Table:
    """What came of each stage."""
    rows = []
    for name, row in found.items():
        came = "success" if row["ok"] else "out of time" if row["cut"] else "failure"
        rows.append([name, came, f"{row['seconds']:.0f}", f"{row['status']}", f"{name}.log"])
    return Table("Stages", ["stage", "result", "seconds", "status", "log"], rows)


def measure_tables(found: Mapping[str, Any]) -> list[Table]:
    """Speed, profile and training, of those that were measured."""
    tables = []
    if speed := found.get("speed"):
        sides = [side for side in ("simswap_jax", "pytorch") if side in speed]
        rows = [[name, *(number(speed[side].get(name)) for side in sides)] for name in MEASURES]
        asked = ", ".join(f"{name} {value}" for name, value in speed["asked"].items())
        tables.append(Table(f"Training step: {asked}", ["measure", *sides], rows))
    if profile := found.get("profile"):
        rows = [[row["name"][:80], f"{row['count']}", f"{row['milliseconds']:.2f}"] for row in profile["largest"]]
        tables.append(Table(f"Profile of {profile['steps']} steps", ["operation", "calls", "ms"], rows))
    if training := found.get("training"):
        rows = [[name, number(value)] for name, value in training["last"].items()]
        tables.append(Table("Training: its last row", ["name", "value"], rows))
    return tables


def number(value: Any) -> str:
    """For a cell."""
    return f"{value:.4g}" if isinstance(value, int | float) else "—"


def parser() -> argparse.ArgumentParser:
    """The command line, up to ``--``."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--minutes", type=float, required=True, help="in all; the run ends by itself within them")
    made.add_argument("--output", type=Path, required=True, help="gets everything; the same folder resumes")
    made.add_argument("--device", choices=tuple(PLATFORMS), default="gpu")
    made.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the benchmark (bfloat16; on a CPU float32)")
    made.add_argument("--batch", type=int, help="of the benchmark (32; on a CPU 8)")
    made.add_argument(
        "--no-torch", dest="torch", action="store_false", help="do not measure PyTorch beside it (as on a TPU)"
    )
    made.add_argument("--dry-run", action="store_true", help="print what would be run, and run nothing")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all stages; see the module."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    own, training = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    asked = parser().parse_args(own)
    if asked.minutes < LEAST:
        parser().error(f"--minutes is {asked.minutes:g}; give at least {LEAST}.")
    if any(word.split("=")[0] == "--workdir" for word in training):
        parser().error("leave out --workdir; the training is in --output, where it is resumed.")
    cpu = asked.device == "cpu"
    asked.dtype, asked.batch = asked.dtype or ("float32" if cpu else "bfloat16"), asked.batch or (8 if cpu else 32)
    if asked.dry_run:
        for stage in stages(asked, training):
            print(f"{stage.name}: {' '.join(stage.command)}")
        return 0
    asked.output.mkdir(parents=True, exist_ok=True)
    os.environ.update(environment(asked))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return run_all(asked, stages(asked, training))


def run_all(asked: argparse.Namespace, planned: Sequence[Stage]) -> int:
    """Every stage that has not succeeded before, within the minutes."""
    until = time.monotonic() + 60 * asked.minutes - SPARE
    path = asked.output / "hardware.json"
    before = json.loads(path.read_text(encoding="utf-8"))["stages"] if path.is_file() else {}
    done = {name: row for name, row in before.items() if row["ok"] and name != "training"}
    said: dict[str, Any] = {
        "about": about(),
        "minutes": asked.minutes,
        "stages": done,
        "measured": measured(asked.output),
    }
    for stage in planned:
        left = until - time.monotonic()
        if stage.name in done:
            continue
        limit = min(left - PATIENCE, 60 * asked.minutes * (stage.share or 1))
        if limit <= 0:
            said["stages"][stage.name] = {"status": None, "ok": False, "cut": True, "seconds": 0.0}
            continue
        print(f"{stage.name}: at most {limit:.0f} s", flush=True)
        said["stages"][stage.name] = row = run_stage(stage, limit, asked)
        print(f"{stage.name}: {'ok' if row['ok'] else 'not ok'}, {row['seconds']:.0f} s", flush=True)
        said["measured"] = measured(asked.output)
        write_page(asked.output, said)
    write_page(asked.output, said)  # with the stages for which no time was left
    print(f"{asked.output / 'index.html'}")
    return 0 if all(row["ok"] for row in said["stages"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())

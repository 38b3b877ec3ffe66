"""The launch scripts: checked by shellcheck, their dry runs say what they would do, what is missing gets a sentence."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from simswap_jax.cli import train as command

LAUNCH = Path(__file__).parents[1] / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))
TRAINING = ["--config", "simswap_224", "--workdir", "a folder/run", '--config.data.root=x"y & z']
TPU = {"TPU": "swap", "ZONE": "us-west4-a", "PROJECT": "mine", "ACCELERATOR": "v5litepod-256"}
LOCAL = {"PROCESSES": "2", "DEVICES": "4"}
SLURM = {"NODES": "4", "GPUS": "8", "HOURS": "24"}
GKE = {
    "NAME": "swap",
    "IMAGE": "registry/simswap-jax:1",
    "CLAIM": "faces",
    "ACCELERATOR": "tpu-v5-lite-podslice",
    "TOPOLOGY": "16x16",
    "HOSTS": "64",
    "CHIPS": "4",
}


def run(script, *words, folder=None, **environment):
    """A script in an environment with nothing in it but a PATH; programs of ``folder`` come first."""
    path = os.pathsep.join([str(folder), os.environ["PATH"]] if folder else [os.environ["PATH"]])
    return subprocess.run(
        [LAUNCH / script, *words], env={"PATH": path, **environment}, capture_output=True, text=True, check=False
    )


def dry(script, *words, **environment):
    done = run(script, "--dry-run", *words, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def commands(said):
    """The command lines of a dry run, as words."""
    return [shlex.split(line[2:]) for line in said.splitlines() if line.startswith("+ ")]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path):
    beside = Path(sys.executable).with_name("shellcheck")
    program = str(beside) if beside.exists() else shutil.which("shellcheck")
    assert program, "shellcheck is missing; the extra `dev` brings it"
    done = subprocess.run([program, "--external-sources", path], capture_output=True, text=True, check=False)
    assert done.stdout == ""
    assert done.returncode == 0


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_opens_with_its_usage_and_can_be_run(path):
    text = path.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "usage: launch/" in text
    assert "--dry-run" in text
    assert os.access(path, os.X_OK)


@pytest.mark.parametrize(
    ("script", "least"), [("tpu_vm.sh", TPU), ("slurm.sh", SLURM), ("gke.sh", GKE), ("local.sh", LOCAL)]
)
def test_help_needs_nothing(script, least):
    said = run(script, "--help").stdout
    assert said.count("\n") > 10
    assert all(name in said for name in least)
    assert "#" not in said


@pytest.mark.parametrize(
    ("script", "words", "least"),
    [("tpu_vm.sh", ["create"], TPU), ("slurm.sh", TRAINING, SLURM), ("gke.sh", ["apply", *TRAINING], GKE)],
)
def test_every_variable_that_is_required_is_asked_for(script, words, least):
    for name in least:
        done = run(script, "--dry-run", *words, **{key: value for key, value in least.items() if key != name})
        assert (done.returncode, done.stdout) == (2, "")
        assert name in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("script", "words", "least"),
    [
        ("tpu_vm.sh", ["fly"], TPU),
        ("tpu_vm.sh", ["train"], TPU),
        ("tpu_vm.sh", ["delete", "all"], TPU),
        ("slurm.sh", [], SLURM),
        ("slurm.sh", TRAINING, SLURM | {"GPUS": "many"}),
        ("gke.sh", ["apply"], GKE),
        ("gke.sh", ["fly"], GKE),
    ],
)
def test_what_makes_no_sense_gets_a_sentence(script, words, least):
    done = run(script, "--dry-run", *words, **least)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{script}: ")


def test_a_pod_is_made_filled_and_deleted():
    create, *rest = commands(dry("tpu_vm.sh", "create", **TPU, SPOT="1"))
    assert rest == []
    assert create[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "create", "swap"]
    assert {"--zone=us-west4-a", "--project=mine", "--accelerator-type=v5litepod-256", "--spot"} <= set(create)
    _, copy, _, install, setup = commands(dry("tpu_vm.sh", "sync", **TPU, SETUP="mount it"))
    assert "scp" in copy
    assert "--worker=all" in copy
    assert ".[tpu,onnx]" in install[-1]  # onnx: validation by an ONNX network
    assert setup[-1] == "--command=mount it"
    (delete,) = commands(dry("tpu_vm.sh", "delete", **TPU))
    assert "delete" in delete


@pytest.mark.parametrize(
    ("accelerator", "image"),
    [
        ("v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v5p-128", "v2-alpha-tpuv5"),
        ("v6e-16", "v2-alpha-tpuv6e"),
        ("v4-32", "tpu-ubuntu2204-base"),
        ("v3-8", "tpu-ubuntu2204-base"),
    ],
)
def test_a_tpu_vm_gets_the_image_of_its_generation_unless_told_another(accelerator, image):
    pod = TPU | {"ACCELERATOR": accelerator}
    (create,) = commands(dry("tpu_vm.sh", "create", **pod))
    assert f"--version={image}" in create
    (create,) = commands(dry("tpu_vm.sh", "create", **pod, SOFTWARE="another"))
    assert "--version=another" in create


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_every_worker_trains_with_the_words_that_were_given():
    (train,) = commands(dry("tpu_vm.sh", "train", *TRAINING, **TPU))
    remote = shlex.split(train[-1].removeprefix("--command="), comments=True)
    words = remote[remote.index("train") + 1 : remote.index("--config.processes.count=-1;")]
    assert words == TRAINING
    config, workdir = command.parse([str(LAUNCH.parent / word) if "/simswap" in word else word for word in words])
    assert (config.data.root, str(workdir)) == ('x"y & z', "a folder/run")


GCLOUD = """#!/usr/bin/env bash
echo "$*" >> "$LOG"
case "$*" in
  *describe*) [[ -e "$LOG.there" ]] && echo READY || echo PREEMPTED ;;
  *" create "*) touch "$LOG.there" ;;
  *"simswap-jax train"*)
    status="$(head -n 1 "$LOG.statuses")"
    sed -i 1d "$LOG.statuses"
    [[ "$status" == gone ]] && rm "$LOG.there" && exit 255
    echo "worker 0: simswap-jax ended with status $status" ;;
esac
"""


@pytest.mark.parametrize(
    ("statuses", "returned", "made"), [(["3", "gone", "0"], 0, 2), (["3", "2"], 2, 1), (["1"] * 3, 1, 1)]
)
def test_a_preempted_pod_is_made_again_until_training_is_done(tmp_path, statuses, returned, made):
    program, log = tmp_path / "gcloud", tmp_path / "log"
    program.write_text(GCLOUD)
    program.chmod(0o755)
    Path(f"{log}.statuses").write_text("".join(f"{status}\n" for status in statuses))
    done = run("tpu_vm.sh", "train", *TRAINING, folder=tmp_path, LOG=str(log), REST="0", TRIES="3", **TPU)
    assert done.returncode == returned, done.stderr
    said = log.read_text()
    assert said.count("simswap-jax train") == len(statuses)
    assert said.count("tpu-vm create") == made


def test_slurm_gets_a_task_for_every_gpu():
    said = dry("slurm.sh", *TRAINING, **SLURM, PARTITION="gpu", VENV="venv", SBATCH_OPTIONS="--exclusive --mem=0")
    (options,) = commands(said)
    assert {"--nodes=4", "--ntasks-per-node=8", "--gpus-per-node=8", "--time=24:00:00", "--requeue"} <= set(options)
    assert {"--partition=gpu", "--exclusive", "--mem=0"} <= set(options)
    job = said.split("\n", 1)[1]
    (line,) = (line for line in job.splitlines() if line.startswith("srun"))
    _, _, cpus, *words = shlex.split(line.removesuffix(" &"))
    assert cpus == "--cpus-per-task=8"
    assert words == ["venv/bin/simswap-jax", "train", *TRAINING]


SRUN = """#!/usr/bin/env bash
trap 'sleep 0.1; exit 3' TERM
[[ -n "$STATUS" ]] && exit "$STATUS"
kill -TERM "$PPID"
sleep 2 & wait $!
"""


@pytest.mark.parametrize(("status", "returned", "queued"), [("0", 0, False), ("2", 2, False), ("", 3, True)])
def test_a_slurm_job_whose_time_is_up_queues_again(tmp_path, status, returned, queued):
    for name, text in {"srun": SRUN, "scontrol": '#!/usr/bin/env bash\necho "$*" > "$LOG"\n'}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    job = tmp_path / "job.sh"
    job.write_text(dry("slurm.sh", *TRAINING, **SLURM).split("\n", 1)[1])
    log = tmp_path / "log"
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "LOG": str(log), "STATUS": status}
    done = subprocess.run(
        ["bash", job], env={**environment, "SLURM_JOB_ID": "7"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, log.exists()) == (returned, queued), done.stderr
    assert f"ended with status {returned}" in done.stdout
    if queued:
        assert log.read_text() == "requeue 7\n"


def test_minutes_on_an_accelerator_are_shared_out_among_stages(tmp_path):
    words = ["--minutes", "10", "--output", str(tmp_path / "out"), "--dry-run", "--", "--config", "simswap_224"]
    done = run("one_gpu.sh", *words, PYTHON=sys.executable, PYTHONPATH=str(LAUNCH.parent))
    assert (done.returncode, done.stderr) == (0, "")
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(said) == ["tests", "speed", "profile", "training"]
    assert "tests/device" in said["tests"]
    assert "--device gpu --dtype bfloat16 --batch 32" in said["speed"]
    assert said["training"].endswith(f"train --config simswap_224 --workdir {tmp_path / 'out' / 'training'}")
    assert not (tmp_path / "out").exists()


def test_a_smoke_test_of_a_tpu_runs_the_stages_there_and_copies_what_came_of_them():
    there, back = commands(dry("tpu_vm.sh", "smoke", "--config", "simswap_224", **TPU, MINUTES="5"))
    assert "launch/one_gpu.sh --device tpu --no-torch --minutes 5 --output smoke -- --config simswap_224" in there[-1]
    assert back[-5:-3] == ["swap:simswap_jax/smoke", "smoke"]


def test_kubernetes_gets_a_role_and_a_pod_for_every_host():
    account, role, binding, jobset = yaml.safe_load_all(dry("gke.sh", "apply", *TRAINING, **GKE, NAMESPACE="faces"))
    assert [one["kind"] for one in (account, role, binding, jobset)] == [
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "JobSet",
    ]
    assert {one["metadata"]["namespace"] for one in (account, role, binding, jobset)} == {"faces"}
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get"]},
    ]
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (job["parallelism"], job["completions"]) == (64, 64)
    pod = job["template"]["spec"]
    assert pod["serviceAccountName"] == account["metadata"]["name"] == binding["subjects"][0]["name"]
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "16x16"
    (container,) = pod["containers"]
    assert container["command"] == ["simswap-jax", "train", *TRAINING]
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    mounted = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == mounted


def test_gke_shows_logs_and_deletes():
    (logs,) = commands(dry("gke.sh", "logs", NAME="swap"))
    assert logs[:2] == ["kubectl", "logs"]
    (delete,) = commands(dry("gke.sh", "delete", NAME="swap"))
    assert delete == ["kubectl", "delete", "jobset", "swap", "--namespace=default"]


def test_the_container_gets_what_the_package_is_made_of():
    text = (LAUNCH / "Containerfile").read_text()
    copied = {word for line in text.splitlines() if line.startswith("COPY") for word in line.split()[1:-1]}
    assert {"setup.py", "pyproject.toml", "README.md", "simswap_jax", "configs"} <= copied
    assert all((LAUNCH.parent / name).exists() for name in copied)

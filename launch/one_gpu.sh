#!/usr/bin/env bash
# A few minutes on one accelerator, used well: device tests, the training step's speed beside compiled PyTorch's, a
# profile, then training until the time is up. It ends by itself within the minutes; the same command resumes.
#
#   usage: launch/one_gpu.sh --minutes N --output FOLDER [OPTIONS] [-- ARGUMENTS…]
#   --minutes N      minutes in all
#   --output FOLDER  gets everything: logs, hardware.json, index.html, profile, compilation cache, training
#   --device DEVICE  gpu (as it is), tpu, or cpu for a rehearsal in small
#   --no-torch       do not measure PyTorch beside it (on a TPU it never is)
#   --dry-run        print what would be run, and run nothing
#   ARGUMENTS        those of `simswap-jax train` without --workdir; without them nothing is trained
#
#   PYTHON   a Python with this project, its extra for the device, pytest, and PyTorch (.venv/bin/python, else python3)
#
# Exit status: 0 every stage succeeded; 1 one did not; 2 a mistake.
#
#   launch/one_gpu.sh --minutes 10 --output runs/gpu -- --config simswap_224 --config.data.root=FACES \
#       --config.generator.dtype=bfloat16 --config.discriminator.dtype=bfloat16 --config.identity.dtype=bfloat16
set -euo pipefail
if [[ "${1:-}" == "-h" || "${1:-}" == "--help" || $# -eq 0 ]]; then
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
  [[ $# -gt 0 ]] || exit 2
  exit 0
fi
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
command -v "$python" >/dev/null || python=python3
exec "$python" benchmarks/hardware_run.py "$@"

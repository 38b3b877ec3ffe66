#!/usr/bin/env bash
# Train on a SLURM cluster, one task for every GPU; the job goes back into the queue until training is done.
#
#   usage: launch/slurm.sh [--dry-run] ARGUMENTS…         ARGUMENTS are those of `simswap-jax train`
#   --dry-run  print what would be handed to sbatch, and hand in nothing
#
# Environment: NODES, GPUS (on each node), HOURS (the longest that the partition lets a job run).
# Optional: PARTITION, ACCOUNT, CPUS (a task's, default 8), NAME, VENV (the checkout's .venv), SBATCH_OPTIONS.
#
# Three minutes before the time is up, SLURM sends SIGTERM: training saves, ends with status 3, and the job queues again.
# The workdir must lie on a file system that all nodes see.
#
#   NODES=4 GPUS=8 HOURS=24 PARTITION=gpu launch/slurm.sh --config simswap_224 \
#       --workdir runs/simswap_224 --config.data.root=FACES --config.batch_size=1024
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=preamble.bash
source "$(dirname "$0")/preamble.bash"
need_numbers NODES GPUS HOURS
need_training "$@"

checkout="$(cd "$(dirname "$0")/.." && pwd)"
VENV="${VENV:-$checkout/.venv}"
options=(
  "--job-name=${NAME:-simswap}" "--nodes=$NODES" "--ntasks-per-node=$GPUS" "--gpus-per-node=$GPUS"
  "--cpus-per-task=${CPUS:-8}" "--time=$HOURS:00:00" --requeue --open-mode=append "--signal=B:TERM@180"
  "--chdir=$checkout"
)
[[ -z "${PARTITION:-}" ]] || options+=("--partition=$PARTITION")
[[ -z "${ACCOUNT:-}" ]] || options+=("--account=$ACCOUNT")
if [[ -n "${SBATCH_OPTIONS:-}" ]]; then
  read -r -a more <<<"$SBATCH_OPTIONS"
  options+=("${more[@]}")
fi
words="$(printf ' %q' "$VENV/bin/simswap-jax" train "$@")"

# From SLURM 22.05 on srun does not take --cpus-per-task over from sbatch.
# JAX reads SLURM's variables: as many processes as tasks, the GPU of a task by its number on the node.
job="#!/usr/bin/env bash
set -uo pipefail
asked= training=
trap 'asked=1; [ -z \"\$training\" ] || kill -TERM \$training' TERM
srun --kill-on-bad-exit=1 --cpus-per-task=${CPUS:-8}$words &
training=\$!
[ -z \"\$asked\" ] || kill -TERM \$training
wait \$training
status=\$?
# SIGTERM ended the wait and not the training, which is saving: what counts is how that ends.
if [ -n \"\$asked\" ]; then wait \$training; status=\$?; fi
echo \"simswap-jax ended with status \$status\"
# 3: saved, not at its end. 143: ended by SIGTERM before it could save.
if [ \$status -eq 3 ] || [ \$status -eq 143 ]; then scontrol requeue \"\$SLURM_JOB_ID\"; fi
exit \$status
"
if [[ -n "$dry" ]]; then
  shown sbatch "${options[@]}"
  printf '%s' "$job"
else
  sbatch "${options[@]}" <<<"$job"
fi

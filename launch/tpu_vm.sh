#!/usr/bin/env bash
# Train on a Cloud TPU pod: make it, copy the last commit of this checkout to every worker, train until done, delete it.
#
#   usage: launch/tpu_vm.sh [--dry-run] create | sync | run COMMAND… | train ARGUMENTS… | smoke [ARGUMENTS…] | delete
#
#   create   ask for the pod
#   sync     copy the last commit of this checkout (commit changes first) to every worker, install it there, run SETUP there
#   run      one command on every worker, in the copied checkout
#   train    `simswap-jax train ARGUMENTS…` on every worker; a pod that was preempted is made again and training goes on
#            where it stopped, until it says that it is done; a mistake in ARGUMENTS ends it
#   smoke    a slice of one host: device tests, speed, profile and, with ARGUMENTS, training for MINUTES; what came of it
#            is copied into the folder smoke/ here (launch/one_gpu.sh --help says what that is)
#   delete   give the pod back: it costs money as long as it is there
#   --dry-run  print the commands and run none
#
# Environment: TPU (a name of your choice), ZONE, PROJECT, ACCELERATOR (v5litepod-256, v4-32, v5p-128, v6e-16, …).
# Optional: SPOT=1, SETUP (a command that mounts the folder with the pictures, the identity network and the workdir, which
# all workers must see), REST (seconds before going on after a stop), TRIES, MINUTES (of smoke; 10), SOFTWARE (image of the
# TPU VM; without it ACCELERATOR's generation chooses: v5litepod-* v2-alpha-tpuv5-lite, v5p-* v2-alpha-tpuv5,
# v6e-* v2-alpha-tpuv6e, v4 and older tpu-ubuntu2204-base).
#
#   TPU=swap ZONE=us-west4-a PROJECT=mine ACCELERATOR=v5litepod-256 SPOT=1 launch/tpu_vm.sh create
#   … launch/tpu_vm.sh sync
#   … launch/tpu_vm.sh train --config simswap_224 --workdir /shared/run \
#         --config.data.root=/shared/faces --config.identity.weights=/shared/weights/arcface_checkpoint.tar \
#         --config.batch_size=4096
#   … launch/tpu_vm.sh delete
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=preamble.bash
source "$(dirname "$0")/preamble.bash"

# The image of the TPU VM for an accelerator's generation (https://cloud.google.com/tpu/docs/runtimes).
image_of() {
  case "$1" in
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    *) echo tpu-ubuntu2204-base ;;
  esac
}

verb="${1:-}"
if [[ -z "$verb" ]]; then
  usage
  exit 2
fi
shift
need_set TPU ZONE PROJECT ACCELERATOR
SOFTWARE="${SOFTWARE:-$(image_of "$ACCELERATOR")}"
REST="${REST:-60}"
TRIES="${TRIES:-1000}"
checkout="$(cd "$(dirname "$0")/.." && pwd)"
where=("--zone=$ZONE" "--project=$PROJECT")

on_all() { do_it gcloud compute tpus tpu-vm ssh "$TPU" "${where[@]}" --worker=all --command="$1"; }

create() {
  local spot=()
  [[ -z "${SPOT:-}" ]] || spot=(--spot)
  do_it gcloud compute tpus tpu-vm create "$TPU" "${where[@]}" \
    "--accelerator-type=$ACCELERATOR" "--version=$SOFTWARE" ${spot[@]+"${spot[@]}"}
}

delete() { do_it gcloud compute tpus tpu-vm delete "$TPU" "${where[@]}" --quiet; }

sync() {
  local archive
  archive="$(mktemp -d)/simswap_jax.tar.gz"
  do_it git -C "$checkout" archive --format=tar.gz --output="$archive" HEAD
  do_it gcloud compute tpus tpu-vm scp "$archive" "$TPU:simswap_jax.tar.gz" "${where[@]}" --worker=all
  do_it rm -rf "$(dirname "$archive")"
  on_all 'rm -rf simswap_jax && mkdir simswap_jax && tar -xzf simswap_jax.tar.gz -C simswap_jax && cd simswap_jax &&
    { command -v python3.11 || sudo apt-get install --yes python3.11 python3.11-venv; } &&
    python3.11 -m venv .venv && .venv/bin/pip install --quiet --editable ".[tpu,onnx]"'
  if [[ -n "${SETUP:-}" ]]; then
    on_all "$SETUP"
  fi
}

is_ready() {
  [[ -n "$dry" ]] && return 0
  [[ "$(gcloud compute tpus tpu-vm describe "$TPU" "${where[@]}" --format='value(state)' 2>/dev/null)" == READY ]]
}

# The status of the training itself: gcloud tells only whether the connection held.
ended_with() { sed -n 's/^.*simswap-jax ended with status \([0-9]*\).*$/\1/p' "$1" | sort -rn | head -n 1; }

train() {
  local words command log status try
  words="$(printf ' %q' "$@")"
  # A pod tells its workers through its metadata server: -1 asks it, and fails where some do not come.
  command="cd simswap_jax && .venv/bin/simswap-jax train$words --config.processes.count=-1;"
  command+=' echo "simswap-jax ended with status $?"'
  log="$(mktemp)"
  for ((try = 1; try <= TRIES; try++)); do
    if ! is_ready; then
      echo "tpu_vm.sh: $TPU is not there or was preempted; making it again" >&2
      delete || true
      # In a condition, `set -e` stops nothing: a zone without free pods is asked again.
      if ! create || ! sync; then
        sleep "$REST"
        continue
      fi
    fi
    if [[ -n "$dry" ]]; then
      on_all "$command"
      return 0
    fi
    on_all "$command" 2>&1 | tee "$log" || true
    status="$(ended_with "$log")"
    case "$status" in
      0) echo "tpu_vm.sh: done; launch/tpu_vm.sh delete gives the pod back" >&2 && return 0 ;;
      2) echo "tpu_vm.sh: training refused what it was told; see above" >&2 && return 2 ;;
    esac
    echo "tpu_vm.sh: stopped (status ${status:-unknown}); going on in $REST seconds (try $try of $TRIES)" >&2
    sleep "$REST"
  done
  return 1
}

smoke() {
  local words="" status=0
  (($# == 0)) || words="$(printf ' %q' -- "$@")"
  on_all "cd simswap_jax && .venv/bin/pip install --quiet pytest absl-py &&
    launch/one_gpu.sh --device tpu --no-torch --minutes ${MINUTES:-10} --output smoke$words" || status=$?
  do_it gcloud compute tpus tpu-vm scp --recurse "$TPU:simswap_jax/smoke" smoke "${where[@]}" --worker=0
  return "$status"
}

case "$verb" in
  smoke) smoke "$@" ;;
  create | sync | delete)
    ((!$#)) || mistake "$verb takes no more words, but was given: $*"
    "$verb"
    ;;
  run | train)
    (($#)) || mistake "$verb needs a command; launch/tpu_vm.sh --help shows one."
    if [[ "$verb" == run ]]; then
      on_all "cd simswap_jax &&$(printf ' %q' "$@")"
    else
      train "$@"
    fi
    ;;
  *) mistake "there is no '$verb'; use create, sync, run, train, smoke or delete." ;;
esac

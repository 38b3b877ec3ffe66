#!/usr/bin/env bash
# Train on a TPU slice of a Google Kubernetes Engine cluster, as a JobSet: one pod a host, started again until done.
#
#   usage: launch/gke.sh [--dry-run] apply ARGUMENTS… | logs | delete
#
#   apply    make the service account with its role, and the job; ARGUMENTS are those of `simswap-jax train`
#   logs     follow what process 0 says
#   delete   take the job away
#   --dry-run  print the manifests and the commands, and run none
#
# Environment: NAME, IMAGE (of launch/Containerfile, with EXTRA=tpu), CLAIM (a ReadWriteMany volume claim with the pictures,
# the identity network and the workdir, mounted at /shared), ACCELERATOR (tpu-v5-lite-podslice, tpu-v4-podslice,
# tpu-v5p-slice, tpu-v6e-slice), TOPOLOGY (16x16), HOSTS (64), CHIPS (of a host: 4).
# Optional: NAMESPACE (default), RESTARTS (1000).
# The cluster needs the JobSet controller (https://jobset.sigs.k8s.io).
#
#   NAME=swap IMAGE=REGISTRY/simswap-jax CLAIM=faces ACCELERATOR=tpu-v5-lite-podslice TOPOLOGY=16x16 HOSTS=64 CHIPS=4 \
#     launch/gke.sh apply --config simswap_224 --workdir /shared/run \
#       --config.data.root=/shared/faces --config.identity.weights=/shared/weights/arcface_checkpoint.tar \
#       --config.batch_size=4096
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=preamble.bash
source "$(dirname "$0")/preamble.bash"

verb="${1:-}"
if [[ -z "$verb" ]]; then
  usage
  exit 2
fi
shift
NAME="${NAME:-}"
NAMESPACE="${NAMESPACE:-default}"
RESTARTS="${RESTARTS:-1000}"
required=(NAME)
[[ "$verb" != apply ]] || required+=(IMAGE CLAIM ACCELERATOR TOPOLOGY HOSTS CHIPS)
need_set "${required[@]}"
here="$(cd "$(dirname "$0")" && pwd)"

# The words of the training as a YAML list in one line; every JSON string is one of YAML.
listed() {
  local word list=""
  for word in "$@"; do
    word="${word//\\/\\\\}"
    list+="${list:+, }\"${word//\"/\\\"}\""
  done
  printf '[%s]' "$list"
}

# From Bash 5.2 on & in a replacement would stand for what is replaced; quotes around it, Bash 4.2 would keep.
shopt -u patsub_replacement 2>/dev/null || true

filled() {
  local text name
  text="$(cat "$here/gke_role.yaml" "$here/gke_jobset.yaml")"
  for name in NAME NAMESPACE IMAGE CLAIM ACCELERATOR TOPOLOGY HOSTS CHIPS RESTARTS; do
    text="${text//\{\{$name\}\}/${!name}}"
  done
  printf '%s\n' "${text//\{\{WORDS\}\}/$(listed simswap-jax train "$@")}"
}

case "$verb" in
  apply)
    need_training "$@"
    if [[ -n "$dry" ]]; then
      filled "$@"
    else
      filled "$@" | kubectl apply --filename=-
    fi
    ;;
  logs)
    do_it kubectl logs --namespace="$NAMESPACE" --follow \
      "--selector=jobset.sigs.k8s.io/jobset-name=$NAME,batch.kubernetes.io/job-completion-index=0"
    ;;
  delete) do_it kubectl delete jobset "$NAME" --namespace="$NAMESPACE" ;;
  *) mistake "there is no '$verb'; use apply, logs or delete." ;;
esac

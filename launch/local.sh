#!/usr/bin/env bash
# Rehearse a training of several processes on this machine: each has its own virtual CPU devices, and they meet as the
# hosts of a pod do.
#
#   usage: launch/local.sh [--dry-run] ARGUMENTS…         ARGUMENTS are those of `simswap-jax train`
#   --dry-run  print what would be run, and run nothing
#
#   PROCESSES   how many processes (required)
#   DEVICES     CPU devices of each (required); the batch size must divide by PROCESSES × DEVICES
#   PORT        where they meet on this machine (12721)
#   PROGRAM     the program to run (simswap-jax)
#
# What process 0 says is shown as it is, the others' lines after their number. Ctrl-C and SIGTERM save and end all of them.
# Exit status: 0 all steps made; 3 stopped, saved; else that of the first process that failed, and the others are ended.
#
#   PROCESSES=2 DEVICES=4 launch/local.sh --config celeba_64 --workdir runs/local \
#       --config.data.root=FACES
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=preamble.bash
source "$(dirname "$0")/preamble.bash"
need_numbers PROCESSES DEVICES
need_training "$@"
program=${PROGRAM:-simswap-jax}
command -v "$program" >/dev/null || mistake "there is no program '$program'; install this project, or name it with PROGRAM."

# shellcheck disable=SC2153
settings=(
  JAX_PLATFORMS=cpu
  "JAX_NUM_CPU_DEVICES=$DEVICES"
  "JAX_NUM_PROCESSES=$PROCESSES"
  "JAX_COORDINATOR_ADDRESS=localhost:${PORT:-12721}"
)
if [[ -n "$dry" ]]; then
  for ((index = 0; index < PROCESSES; index++)); do
    shown env "${settings[@]}" "JAX_PROCESS_ID=$index" "$program" train "$@"
  done
  exit 0
fi

processes=()
for ((index = 0; index < PROCESSES; index++)); do
  if ((index == 0)); then
    env "${settings[@]}" JAX_PROCESS_ID=0 "$program" train "$@" &
  else
    env "${settings[@]}" "JAX_PROCESS_ID=$index" "$program" train "$@" > >(sed -u "s/^/[$index] /") 2>&1 &
  fi
  processes+=($!)
done
end() { kill "-$1" "${processes[@]}" 2>/dev/null || true; }
trap 'end TERM' TERM
trap '' INT # the terminal sends Ctrl-C to the processes themselves

status=0
left=("${processes[@]}")
while ((${#left[@]} > 0)); do
  sleep 0.2
  still=()
  for process in "${left[@]}"; do
    if kill -0 "$process" 2>/dev/null; then
      still+=("$process")
      continue
    fi
    ended=0
    wait "$process" || ended=$?
    if ((ended != 0 && status == 0)); then
      status=$ended
    fi
    if ((ended != 0 && ended != 3)); then
      sleep 5 # for what the others may still say
      end KILL
    fi
  done
  left=(${still[@]+"${still[@]}"})
done
exit "$status"

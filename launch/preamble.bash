# shellcheck shell=bash
# What the scripts beside it begin with. Sourced without words, so that it shares the caller's: takes --dry-run off them
# (then `dry` is 1), and answers --help with the comment at the head of the caller.
script="$(basename "$0")"

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"; }

mistake() {
  echo "$script: $1" >&2
  exit 2
}

dry=""
if [[ "${1:-}" == "--dry-run" ]]; then
  # shellcheck disable=SC2034
  dry=1
  shift
fi
if [[ "${1:-}" == "-h" || "${1:-}" == "--help" ]]; then
  usage
  exit 0
fi

need_set() {
  local name
  for name in "$@"; do
    [[ -n "${!name:-}" ]] || mistake "$name is not set; launch/$script --help says what it is."
  done
}

need_numbers() {
  local name
  for name in "$@"; do
    [[ "${!name:-}" =~ ^[1-9][0-9]*$ ]] ||
      mistake "$name is '${!name:-}'; set it to a whole number (launch/$script --help says of what)."
  done
}

need_training() { (($#)) || mistake "what is to be trained is missing: --config EXPERIMENT --workdir FOLDER …"; }

# Words as a shell takes them back, after a "+".
shown() {
  printf '+'
  printf ' %q' "$@"
  printf '\n'
}

# A command, or in a dry run its words.
do_it() { if [[ -n "$dry" ]]; then shown "$@"; else "$@"; fi; }

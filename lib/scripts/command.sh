# Backs up with the owner's own program: script.sh beside this file, run once for each artefact.
# tools: sh
# shellcheck shell=sh

script=${ENGINE_SCRIPT%/*}/script.sh

# Exits non-zero unless the program is there and parses.
verb_check() {
  sh -n "$script"
}

# A shell of its own, so that what the program sets, traps or exits stays with it. The agent's shell may
# know pipefail or not (dash), and an unknown option would end it.
verb_dump() {
  export OUT="$EXCHANGE/out/$1"
  # shellcheck disable=SC3040
  if (set -o pipefail) 2> /dev/null; then
    exec sh -eu -o pipefail "$script" "$1"
  fi
  exec sh -eu "$script" "$1"
}

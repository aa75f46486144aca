# Runs a program of the owner's: a file beside this one.
# tools: sh
# shellcheck shell=sh

# A shell of its own, so that what the program sets, traps or exits stays with it. The agent's shell may
# know pipefail or not (dash), and an unknown option would end it.
program() {
  program=${ENGINE_SCRIPT%/*}/$1
  shift
  # shellcheck disable=SC3040
  if (set -o pipefail) 2> /dev/null; then
    exec sh -eu -o pipefail "$program" "$@"
  fi
  exec sh -eu "$program" "$@"
}

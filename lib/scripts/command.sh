# Backs up with the owner's own program: script.sh beside this file, run once for each artefact.
# tools: sh
# shellcheck shell=sh

# shellcheck source=lib/scripts/program.sh
. "${ENGINE_SCRIPT%/*}/program.sh"

# Exits non-zero unless the program is there and parses.
verb_check() {
  sh -n "${ENGINE_SCRIPT%/*}/script.sh"
}

verb_dump() {
  export OUT="$EXCHANGE/out/$1"
  program script.sh "$1"
}

# Puts back with the owner's own program, restore-script.sh beside this file, besides the verbs that back up what is there first.
# tools: sh
# shellcheck shell=sh

# shellcheck source=lib/scripts/command.sh
. "${ENGINE_SCRIPT%/*}/command.sh"

# Prints the name of what is there and would be replaced, or nothing.
verb_target() {
  program restore-script.sh target
}

verb_restore() {
  export IN="$EXCHANGE/in"
  program restore-script.sh restore
}

# Prints what it found to be as it should.
verb_check_restored() {
  program restore-script.sh check
}

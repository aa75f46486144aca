# Restores with the owner's own program, drill-script.sh beside this file, into a directory that is thrown away.
# tools: sh
# shellcheck shell=sh
#
# WORK  directory that the runner puts the artefacts into

# shellcheck source=lib/scripts/program.sh
. "${ENGINE_SCRIPT%/*}/program.sh"

# "$1" is the name of the scratch instance. What the program prints is what it found to be as it should.
verb_drill() {
  export IN="$WORK/$1/in" SCRATCH="$WORK/$1/scratch"
  program drill-script.sh "$1"
}

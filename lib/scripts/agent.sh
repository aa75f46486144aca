#!/bin/sh
# The engine's side of a backup: does what the runner in the same pod asks, one verb at a time.
# tools: sh sleep
#
# EXCHANGE       directory shared with the runner, which makes the pipes in it
# ENGINE_SCRIPT  file that defines verb_<name> for every verb; "$1" is the argument, one line
#
# A verb reads standard input, writes standard output, and says what is wrong on standard error.
# It runs under `set -eu` in a shell of its own. What it leaves running must let go of its output.
# The verb `exit` is this script's own: it ends it with status 0.
set -u
trap 'exit 143' TERM

waited=0
until [ -p "$EXCHANGE/alive" ]; do
  waited=$((waited + 1))
  if [ "$waited" -gt 600 ]; then
    echo "no runner appeared in $EXCHANGE within 10 minutes" >&2
    exit 1
  fi
  sleep 1
done

# A pipe that is opened both ways never blocks, even where the runner is gone by now; then the first
# read below meets the end of the requests. `alive` stays open for as long as this shell lives.
exec 9<> "$EXCHANGE/alive"
exec 7<> "$EXCHANGE/status"
exec 6<> "$EXCHANGE/request"
exec 8< "$EXCHANGE/request"
exec 6>&-

# The runner is told to stop too, and reports first; this shell ends when the runner has.
trap '' TERM

# shellcheck source=/dev/null
. "$ENGINE_SCRIPT" || exit 1
echo ready >&9

# The verb runs in the background, so that the end of the requests (the runner is gone) is seen
# while it works: this shell is the container's first process, and all else ends with it.
while IFS= read -r verb <&8 && IFS= read -r argument <&8; do
  if [ "$verb" = exit ]; then exit 0; fi
  {
    echo begin >&7
    (
      trap - TERM
      set -e
      "verb_$verb" "$argument"
    ) 7>&-
    echo "$?" >&7
  } < "$EXCHANGE/input" > "$EXCHANGE/output" 2> "$EXCHANGE/stderr" 8<&- 9>&- &
done
echo "the runner is gone" >&2
exit 1

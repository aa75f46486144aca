# A server that is made for one drill or restore, and thrown away: what the scripts that start one have in common.
# tools: sh
# shellcheck shell=sh
#
# WORK  directory for what is known of it: its process in the file <name>.pid, what it says in <name>.log, and its status,
#       once it has ended, in <name>.ended

# Starts a program under the name "$1" and does not wait for it.
serve() {
  served=$1
  shift
  {
    status=0
    "$@" > "$WORK/$served.log" 2>&1 < /dev/null &
    echo "$!" > "$WORK/$served.pid"
    wait "$!" || status=$?
    echo "$status" > "$WORK/$served.ended"
  } > /dev/null 2>&1 &
}

# Fails where the server of that name has ended, with its last words.
verb_running() {
  [ -e "$WORK/$1.ended" ] || return 0
  while IFS= read -r line || [ -n "$line" ]; do printf '%s\n' "$line"; done < "$WORK/$1.log" >&2
  return 1
}

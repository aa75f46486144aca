# Verbs of a Vault or OpenBao server that is made for one drill, and thrown away.
# tools: sh sleep vault bao
# shellcheck shell=sh
#
# WORK  directory for the server's data and its configuration, vault.json, which says where it listens
#
# One of the programs is enough: OpenBao's images have bao.

# "$1" is a name for this run of the server: its process is in the file <name>.pid, what it says in <name>.log, and its status,
# once it has ended, in <name>.ended.
verb_start() {
  program=vault
  command -v vault > /dev/null || program=bao
  {
    status=0
    "$program" server -config="$WORK/vault.json" > "$WORK/$1.log" 2>&1 < /dev/null &
    echo "$!" > "$WORK/$1.pid"
    wait "$!" || status=$?
    echo "$status" > "$WORK/$1.ended"
  } > /dev/null 2>&1 &
}

# Fails where it has ended, with its last words.
verb_running() {
  [ -e "$WORK/$1.ended" ] || return 0
  while IFS= read -r line; do printf '%s\n' "$line"; done < "$WORK/$1.log" >&2
  return 1
}

# Ends it, and waits until it has.
verb_stop() {
  IFS= read -r pid < "$WORK/$1.pid"
  kill "$pid" 2> /dev/null || :
  until [ -e "$WORK/$1.ended" ]; do sleep 0.1 2> /dev/null || sleep 1; done
}

# Verbs of a Vault or OpenBao server that is made for one drill, and thrown away.
# tools: sh sleep vault bao
# shellcheck shell=sh
#
# WORK  directory for the server's data and its configuration, vault.json, which says where it listens
#
# One of the programs is enough: OpenBao's images have bao.

# shellcheck source=lib/scripts/server.sh
. "${ENGINE_SCRIPT%/*}/server.sh"

# "$1" is a name for this run of the server.
verb_start() {
  program=vault
  command -v vault > /dev/null || program=bao
  serve "$1" "$program" server -config="$WORK/vault.json"
}

# Ends the run of that name, and waits until it has.
verb_stop() {
  IFS= read -r pid < "$WORK/$1.pid"
  kill "$pid" 2> /dev/null || :
  until [ -e "$WORK/$1.ended" ]; do sleep 0.1 2> /dev/null || sleep 1; done
}

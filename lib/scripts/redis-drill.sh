# Verbs of a Redis server that is made for one drill or restore, and thrown away.
# tools: sh sleep cat mkdir redis-server redis-cli
# shellcheck shell=sh
#
# WORK  directory for the server's data and its socket, on which alone it listens

# shellcheck source=lib/scripts/server.sh
. "${ENGINE_SCRIPT%/*}/server.sh"

# "$1" is a name for the server, of letters, digits and "-", a space, and how many databases it has. The snapshot is on standard input.
# It is a replica, of nothing: such a server keeps keys that expired in the meantime, and changes nothing by itself.
verb_start() {
  own=$WORK/${1%% *}
  mkdir "$own"
  cat > "$own/dump.rdb"
  serve "${1%% *}" redis-server --port 0 --unixsocket "$own/socket" --dir "$own" --dbfilename dump.rdb --databases "${1#* }" --save '' \
    --appendonly no --aof-use-rdb-preamble no --replicaof 127.0.0.1 1
}

# The server of the name, whatever the environment says of another one.
scratch() {
  own=$WORK/$1
  shift
  (
    unset REDISCLI_AUTH
    redis-cli -e -s "$own/socket" "$@"
  )
}

# What it says of itself; nothing where it does not listen yet. Fails where it has ended, with its last words.
verb_scratch() {
  verb_running "$1" || return
  scratch "$1" info 2> /dev/null || :
}

# Where it has its data.
verb_home() {
  scratch "$1" config get dir
}

# "$1" is its name, a space, and the number of a database. Commands on standard input, as redis-cli takes them; replies on standard output.
verb_ask() {
  scratch "${1%% *}" -n "${1#* }" --raw
}

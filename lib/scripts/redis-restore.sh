# Verbs that put a snapshot back into a Redis server, besides those of redis.sh, which ask it, and of redis-drill.sh, which read the snapshot.
# tools: sh sleep cat mkdir redis-server redis-cli redis-check-rdb
# shellcheck shell=sh

# The server that reads the snapshot has its data beside the pipes.
WORK=$EXCHANGE

# shellcheck source=lib/scripts/redis.sh
. "${ENGINE_SCRIPT%/*}/redis.sh"
# shellcheck source=lib/scripts/redis-drill.sh
. "${ENGINE_SCRIPT%/*}/redis-drill.sh"

# The address of what is restored, which a person confirms.
verb_address() {
  echo "$REDIS_HOST:$REDIS_PORT"
}

# Fails unless the server has a database of that number.
verb_select() {
  client -n "$1" echo selected
}

# Begins to write the commands that make the scratch server's data.
verb_write() {
  scratch "$1" config set appendonly yes
}

# How many keys of a database have not expired by now. "$1" is the scratch server's name, a space, and the number of the database.
verb_alive() {
  scratch "${1%% *}" -n "${1#* }" eval "
    local cursor, count = '0', 0
    repeat
      local reply = redis.call('SCAN', cursor, 'COUNT', 1000)
      cursor, count = reply[1], count + #reply[2]
    until cursor == '0'
    return count" 0
}

# Deletes all keys of the server, and its functions where "$1" is not empty: before version 7 it knows none.
verb_empty() {
  client flushall sync
  if [ -n "$1" ]; then client function flush sync; fi
}

# Feeds the server what the scratch server of that name wrote. Every command must be obeyed.
verb_feed() {
  for written in "$WORK/$1/appendonlydir"/*.base.aof "$WORK/$1/appendonly.aof"; do
    if [ -e "$written" ]; then
      client --pipe --pipe-timeout 0 < "$written"
      return
    fi
  done
  echo "the scratch server wrote no commands" >&2
  return 1
}

# Begins to write to the server's disk what it holds: bgsave or bgrewriteaof.
verb_save() {
  client "$1"
}

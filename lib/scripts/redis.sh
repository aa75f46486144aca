# Verbs of Redis and Valkey.
# tools: sh cat redis-cli redis-check-rdb
# shellcheck shell=sh
#
# REDIS_HOST, REDIS_PORT  the server
# REDIS_USER              user of its access control list, if not the default one
# REDISCLI_AUTH           the password; redis-cli reads it from the environment itself

# -e: an error reply is a failure, which it is not for redis-cli otherwise.
client() {
  redis-cli -e -h "$REDIS_HOST" -p "$REDIS_PORT" ${REDIS_USER:+--user "$REDIS_USER"} "$@"
}

# Version of the tools.
verb_version() {
  redis-cli --version
}

# What the server says of itself.
verb_info() {
  client info
}

# The snapshot that a replica would get.
verb_dump() {
  client --rdb -
}

# Decodes the snapshot on standard input, and counts. It is read to its end, as the input has proven whole only there.
# redis-check-rdb takes a path: that of a pipe of this shell, as to open a named one again may wait for ever.
verb_check() {
  cat | {
    status=0
    report=$(redis-check-rdb /dev/stdin) || status=$?
    cat > /dev/null
    if [ "$status" -ne 0 ]; then exec >&2; fi
    printf '%s\n' "$report"
    exit "$status"
  }
}

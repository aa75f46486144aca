# Verbs of a Prometheus server that is made for one drill, and thrown away.
# tools: sh prometheus
# shellcheck shell=sh
#
# WORK  directory for the server's configuration and, in one of the server's name, its data

# "$1" is the server's name, a space, and where it is to listen. Nothing is too old for it, and it scrapes nothing.
verb_start() {
  {
    status=0
    prometheus --config.file="$WORK/prometheus.yml" --storage.tsdb.path="$WORK/${1%% *}" --storage.tsdb.retention.time=100y \
      --web.listen-address="${1#* }" --log.level=warn > "$WORK/log" 2>&1 < /dev/null &
    wait "$!" || status=$?
    echo "$status" > "$WORK/ended"
  } > /dev/null 2>&1 &
}

# Fails where it has ended, with its last words.
verb_running() {
  [ -e "$WORK/ended" ] || return 0
  while IFS= read -r line; do printf '%s\n' "$line"; done < "$WORK/log" >&2
  return 1
}

# Verbs of a Prometheus server that is made for one drill, and thrown away.
# tools: sh prometheus
# shellcheck shell=sh
#
# WORK  directory for the server's configuration and, in one of the server's name, its data

# shellcheck source=lib/scripts/server.sh
. "${ENGINE_SCRIPT%/*}/server.sh"

# "$1" is the server's name, a space, and where it is to listen. Nothing is too old for it, and it scrapes nothing.
verb_start() {
  serve "${1%% *}" prometheus --config.file="$WORK/prometheus.yml" --storage.tsdb.path="$WORK/${1%% *}" \
    --storage.tsdb.retention.time=100y --web.listen-address="${1#* }" --log.level=warn
}

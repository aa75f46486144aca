#!/bin/sh
# Runs a command where pods and servers can be started: in a network, mount and process namespace of its own. Servers use
# their standard ports on a loopback that nothing else shares, and whatever the command leaves behind ends with it.
#
# usage: test/engines/namespace.sh command [argument...]
#
# Needs Linux, root, and the Debian packages below, which it installs where apt is there; it fails where one of them is missing.
set -eu
umask 022

fail() {
  echo "this cannot run: $1" >&2
  exit 1
}

[ "$(uname -s)" = Linux ] || fail "it needs Linux (namespaces, bubblewrap)"
sh "$(dirname "$0")/../install.sh" this <<'NEEDED'
/usr/bin/bwrap bubblewrap
/usr/bin/busybox busybox
/usr/bin/dash dash
/usr/bin/bash bash
/usr/bin/setpriv util-linux
/usr/bin/zstd zstd
/usr/bin/jq jq
/usr/bin/age age
/usr/bin/openssl openssl
/usr/lib/postgresql/*/bin/postgres postgresql
/usr/lib/*/libnss_wrapper.so libnss-wrapper
/usr/sbin/mariadbd mariadb-server
/usr/bin/redis-server redis-server
/usr/bin/etcd etcd-server
/usr/bin/etcdctl etcd-client
/usr/bin/sqlite3 sqlite3
/usr/bin/prometheus prometheus
/usr/bin/rclone rclone
/usr/bin/prometheus-pushgateway prometheus-pushgateway
NEEDED
[ "$(id -u)" = 0 ] || fail "it needs root, to give containers the uids of their pods"

TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/engines.XXXXXX")
export TMPDIR
chmod 755 "$TMPDIR"
trap 'rm -rf "$TMPDIR"' EXIT
trap 'exit 143' TERM INT HUP
status=0
# shellcheck disable=SC2016 # expanded by the inner shell, which stays as process 1 and reaps what servers leave
unshare --net --mount --pid --fork --kill-child --mount-proc sh -c '
  busybox ip link set lo up || exit 1
  "$@"
  exit "$?"
' sh "$@" || status=$?
exit "$status"

#!/bin/sh
# Runs a command where pods and servers can be started: in a network, mount and process namespace of its own. Servers use
# their standard ports on a loopback that nothing else shares, and whatever the command leaves behind ends with it.
#
# usage: test/engines/namespace.sh command [argument...]
#
# Needs Linux, root, and the Debian packages below; installs those that are missing where apt is there, and fails otherwise.
set -eu
umask 022

# A program of each package, and the package.
NEEDED='
/usr/bin/bwrap bubblewrap
/usr/bin/busybox busybox
/usr/bin/dash dash
/usr/bin/bash bash
/usr/bin/setpriv util-linux
/usr/bin/zstd zstd
/usr/bin/openssl openssl
/usr/lib/postgresql/*/bin/postgres postgresql
/usr/sbin/mariadbd mariadb-server
/usr/bin/redis-server redis-server
/usr/bin/etcd etcd-server
/usr/bin/etcdctl etcd-client
/usr/bin/sqlite3 sqlite3
/usr/bin/prometheus prometheus
/usr/bin/rclone rclone
/usr/bin/prometheus-pushgateway prometheus-pushgateway
'

fail() {
  echo "this cannot run: $1" >&2
  exit 1
}

missing_packages() {
  echo "$NEEDED" | while read -r program package; do
    [ -n "$program" ] || continue
    # shellcheck disable=SC2086 # the pattern is meant to expand
    set -- $program
    [ -e "$1" ] || printf '%s ' "$package"
  done
}

# Daemons that a package would start on installation are kept from it: policy-rc.d refuses every action of invoke-rc.d.
install_packages() {
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  # shellcheck disable=SC2086 # a list of names
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $1 >&2 ||
    { apt-get update >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $1 >&2; } ||
    fail "apt-get could not install: $1"
  rm -f "$policy"
  trap - EXIT
}

[ "$(uname -s)" = Linux ] || fail "it needs Linux (namespaces, bubblewrap)"
[ "$(id -u)" = 0 ] || fail "it needs root, to give containers the uids of their pods"
missing=$(missing_packages)
if [ -n "$missing" ]; then
  command -v apt-get >/dev/null || fail "missing: $missing(Debian package names), and there is no apt-get to install them"
  echo "installing: $missing" >&2
  install_packages "$missing"
  missing=$(missing_packages)
  [ -z "$missing" ] || fail "still missing after installation: $missing"
fi

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

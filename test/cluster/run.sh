#!/bin/sh
# Runs the tests of test/cluster: every stack applied to a real Kubernetes, every pod run by a real kubelet.
#
# usage: test/cluster/run.sh [file pattern ...] [jest options]          e.g. test/cluster/run.sh faults -t "password"
#
# Needs Linux, root, and the Debian packages below, which it installs where apt is there; builds Kubernetes and etcd once, from their
# published modules, where Go is there. Each file of tests has a cluster of its own, in network, mount and process namespaces that end
# with it. With CLUSTER_KUBECONFIG=<file> it uses the empty cluster of that file instead, for what can be shown there; see README.md.
set -eu
umask 022
project=$(cd "$(dirname "$0")/../.." && pwd)
node=$project/node_modules/node/bin/node
cd "$project"

fail() {
  echo "test:cluster cannot run: $1" >&2
  exit 1
}

report() {
  printf 'test:cluster: %s\n' "$*"
}

[ -x "$node" ] || fail "node_modules is not there; run npm ci first"
# So that no test sees the runner of an earlier build.
"$node" scripts/build-runner.js || fail "the runner does not build"

if [ -n "${CLUSTER_KUBECONFIG:-}" ]; then
  [ -r "$CLUSTER_KUBECONFIG" ] || fail "CLUSTER_KUBECONFIG names $CLUSTER_KUBECONFIG, which cannot be read"
  report "on the cluster of $CLUSTER_KUBECONFIG: the stacks are accepted and applied; no backup runs there"
  exec "$node" node_modules/jest/bin/jest.js -c test/cluster/jest.config.js test/cluster/homelab.test.ts "$@"
fi

[ "$(uname -s)" = Linux ] || fail "it needs Linux; with another cluster at hand, set CLUSTER_KUBECONFIG (test/cluster/README.md)"
[ "$(id -u)" = 0 ] || fail "it needs root, for containers and their network"
test/install.sh test:cluster <<'NEEDED'
/usr/bin/containerd containerd
/usr/sbin/runc runc
/usr/lib/cni/bridge containernetworking-plugins
/usr/sbin/nft nftables
/usr/sbin/conntrack conntrack
/usr/sbin/dnsmasq dnsmasq-base
/usr/bin/openssl openssl
/usr/bin/busybox busybox
/usr/bin/dash dash
/usr/bin/zstd zstd
/usr/lib/postgresql/*/bin/postgres postgresql
/usr/sbin/mariadbd mariadb-server
/usr/bin/redis-server redis-server
/usr/bin/etcd etcd-server
/usr/bin/sqlite3 sqlite3
/usr/bin/rclone rclone
/usr/bin/jq jq
/usr/bin/prometheus prometheus
/usr/bin/prometheus-pushgateway prometheus-pushgateway
NEEDED
sh test/cluster/toolchain/build.sh

TMPDIR=$(mktemp -d "${TMPDIR:-/tmp}/test-cluster.XXXXXX")
export TMPDIR
chmod 755 "$TMPDIR"
trap 'rm -rf "$TMPDIR"' EXIT
trap 'exit 143' TERM INT HUP

patterns=
while [ "$#" -gt 0 ]; do
  case $1 in
    -*) break ;;
    *) patterns="$patterns $1" && shift ;;
  esac
done
# shellcheck disable=SC2086 # patterns hold no blanks
tests=$("$node" node_modules/jest/bin/jest.js -c test/cluster/jest.config.js --listTests $patterns)
[ -n "$tests" ] || fail "no file of tests fits$patterns"

ways="applied in one way: direct"
# Terraform's way needs its provider, which is fetched here, where there is a network.
case $tests in
  *terraform*.test.ts*)
    if terraform=$(sh test/cluster/terraform.sh "$TMPDIR/terraform" 2>"$TMPDIR/terraform.log"); then
      ways="applied in both ways: direct, and by $("$terraform" version | head -n 1)"
      export CLUSTER_TERRAFORM="$terraform" CLUSTER_PROVIDERS="$TMPDIR/terraform/.terraform/providers"
    else
      ways="applied in one way: direct. NOT by Terraform or OpenTofu: $(tail -n 1 "$TMPDIR/terraform.log")"
      tests=$(printf '%s\n' "$tests" | grep -v '/terraform[^/]*\.test\.ts$' || true)
      [ -n "$tests" ] || fail "what is asked for needs the provider"
    fi
    ;;
esac
report "$ways"
report "NetworkPolicies are accepted by the API server and not enforced: the CNI plugins used here do not"

# The PKI of a control plane node lies here; in the tests' own mount namespace it is theirs.
mkdir -p /etc/kubernetes
status=0
times=
for file in $tests; do
  began=$(date +%s)
  # shellcheck disable=SC2016 # expanded by the inner shell
  unshare --net --mount --uts --ipc --pid --fork --kill-child --mount-proc --propagation private sh -c '
    # What a kubelet mounts for a pod has to be seen by the container runtime.
    mount --make-rshared /
    mount -t tmpfs tmpfs /etc/kubernetes
    hostname k8s-master
    ip link set lo up
    node=$1 && shift
    "$node" node_modules/jest/bin/jest.js -c test/cluster/jest.config.js --runTestsByPath "$@"
  ' sh "$node" "$file" "$@" || status=$?
  times="$times $(basename "$file" .test.ts) $(($(date +%s) - began)) s,"
  # Control groups outlive the namespaces; what is still in use stays.
  find /sys/fs/cgroup -mindepth 2 -depth -type d -path '*/kubepods*' -exec rmdir {} + 2>/dev/null || true
done
report "took:${times%,}"
report "$ways"
exit "$status"

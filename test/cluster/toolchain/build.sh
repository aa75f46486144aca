#!/bin/sh
# Puts the programs of a Kubernetes control plane and node into a directory: from PATH where they are, else built from
# their published Go modules at the versions in the go.mod files beside this script. Prints what it did.
#
# usage: build.sh [directory]     default: ${XDG_CACHE_HOME:-$HOME/.cache}/cdktf-backup/cluster
set -eu
here=$(cd "$(dirname "$0")" && pwd)
bin=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/cdktf-backup/cluster}
mkdir -p "$bin"

kubernetes=$(sed -n 's/^require k8s.io\/kubernetes v//p' "$here/kubernetes/go.mod")
minor=${kubernetes#1.}
minor=${minor%%.*}
version="-X k8s.io/component-base/version.gitVersion=v$kubernetes"
version="$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$minor"
version="$version -X k8s.io/component-base/version.buildDate=1970-01-01T00:00:00Z"
version="$version -X k8s.io/client-go/pkg/version.gitVersion=v$kubernetes"

# provide MODULE-FOLDER PROGRAM PACKAGE LDFLAGS
provide() {
  stamp="$bin/.$2-$(cat "$here/$1/go.mod" "$here/$1/go.sum" | cksum | tr ' ' -)"
  if [ -x "$bin/$2" ] && [ -e "$stamp" ]; then
    echo "$2: cached"
    return
  fi
  command -v go >/dev/null || { echo "cluster: $2 has to be built, and go (1.26 or later) is not on PATH" >&2; exit 1; }
  echo "$2: building $3"
  (cd "$here/$1" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $4" -o "$bin/$2" "$3")
  : > "$stamp"
}

for program in kube-apiserver kube-controller-manager kube-scheduler kubectl kubelet kube-proxy; do
  provide kubernetes "$program" "k8s.io/kubernetes/cmd/$program" "$version"
done
provide etcd etcd go.etcd.io/etcd/server/v3 ""
provide etcd etcdctl go.etcd.io/etcd/etcdctl/v3 ""
provide etcd etcdutl go.etcd.io/etcd/etcdutl/v3 ""

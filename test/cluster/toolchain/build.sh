#!/bin/sh
# Puts the programs of a Kubernetes control plane and node into ${XDG_CACHE_HOME:-$HOME/.cache}/cdktf-backup/cluster: links to those of
# PATH that are of the version wanted, the others built from their published Go modules. The versions are those of the go.mod files
# beside this script. Prints what it did.
#
# usage: build.sh [--cached]     --cached: builds nothing; fails if something would have to be built
set -eu
here=$(cd "$(dirname "$0")" && pwd)
bin=${XDG_CACHE_HOME:-$HOME/.cache}/cdktf-backup/cluster
only_cached=${1:-}
mkdir -p "$bin"

# version_of MODULE-FOLDER MODULE
version_of() {
  sed -n "s|^require $2 v||p; s|^[[:space:]]*$2 v\([^ ]*\).*|\1|p" "$here/$1/go.mod" | head -n 1
}
kubernetes=$(version_of kubernetes k8s.io/kubernetes)
etcd=$(version_of etcd go.etcd.io/etcd/server/v3)
minor=${kubernetes#1.}
minor=${minor%%.*}
stamped="-X k8s.io/component-base/version.gitVersion=v$kubernetes"
stamped="$stamped -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$minor"
stamped="$stamped -X k8s.io/component-base/version.buildDate=1970-01-01T00:00:00Z"
stamped="$stamped -X k8s.io/client-go/pkg/version.gitVersion=v$kubernetes"

began=$(date +%s)
found='' cached='' built=''

# is_version PROGRAM VERSION
is_version() {
  for ask in --version version 'version --client'; do
    # shellcheck disable=SC2086 # two words
    "$1" $ask 2>/dev/null | grep -q "[v ]$(printf %s "$2" | sed 's/\./\\./g')\$" && return 0
  done
  return 1
}

# provide MODULE-FOLDER PROGRAM VERSION PACKAGE LDFLAGS
provide() {
  stamp="$bin/.$2-$(cat "$here/$1/go.mod" "$here/$1/go.sum" | cksum | tr ' ' -)"
  if on_path=$(command -v "$2") && is_version "$on_path" "$3"; then
    ln -sf "$on_path" "$bin/$2"
    rm -f "$stamp"
    found="$found $2"
    return
  fi
  if [ -x "$bin/$2" ] && [ -e "$stamp" ]; then
    cached="$cached $2"
    return
  fi
  [ "$only_cached" != --cached ] || { echo "cluster toolchain: $2 $3 has to be built" >&2; exit 1; }
  command -v go >/dev/null || { echo "cluster toolchain: $2 $3 has to be built, and go (1.26 or later) is not on PATH" >&2; exit 1; }
  echo "cluster toolchain: building $2 $3"
  rm -f "$bin/$2"
  (cd "$here/$1" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $5" -o "$bin/$2" "$4")
  : > "$stamp"
  built="$built $2"
}

for program in kube-apiserver kube-controller-manager kube-scheduler kubectl kubelet kube-proxy; do
  provide kubernetes "$program" "$kubernetes" "k8s.io/kubernetes/cmd/$program" "$stamped"
done
provide etcd etcd "$etcd" go.etcd.io/etcd/server/v3 ""
provide etcd etcdctl "$etcd" go.etcd.io/etcd/etcdctl/v3 ""
provide etcd etcdutl "$etcd" go.etcd.io/etcd/etcdutl/v3 ""
[ -z "$built" ] || built="$built ($(($(date +%s) - began)) s)"
echo "cluster toolchain: Kubernetes $kubernetes, etcd $etcd; on PATH:${found:- none}; in the cache:${cached:- none}; built:${built:- none}"

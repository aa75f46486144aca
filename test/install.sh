#!/bin/sh
# Installs the Debian packages of a test tier that are missing, or says what is missing.
#
# usage: install.sh TIER < list      each line of the list: a file that the package brings (a pattern), and the package's name
set -eu
tier=$1
needed=$(cat)

fail() {
  echo "$tier cannot run: $1" >&2
  exit 1
}

missing() {
  echo "$needed" | while read -r file package; do
    [ -n "$file" ] || continue
    # shellcheck disable=SC2086 # the pattern is meant to expand
    set -- $file
    [ -e "$1" ] || printf ' %s' "$package"
  done
}

packages=$(missing)
[ -n "$packages" ] || exit 0
command -v apt-get >/dev/null || fail "missing:$packages (Debian packages), and there is no apt-get to install them"
[ "$(id -u)" = 0 ] || fail "missing:$packages (Debian packages), and only root can install them"
echo "$tier installs:$packages" >&2

# Daemons that a package would start on installation are kept from it: policy-rc.d refuses every action of invoke-rc.d.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 143' TERM INT HUP
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of names
apt-get install -q -y --no-install-recommends $packages >&2 ||
  { apt-get update -q >&2 && apt-get install -q -y --no-install-recommends $packages >&2; } ||
  fail "apt-get could not install:$packages"
packages=$(missing)
[ -z "$packages" ] || fail "still missing after installation:$packages"

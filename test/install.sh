#!/bin/sh
# Installs the Debian packages of a test tier that are missing, or says what is missing.
#
# usage: install.sh TIER < list      each line of the list: a file that the package brings (a pattern), and the package's name
set -eu
tier=$1
needed=$(cat)

missing() {
  echo "$needed" | while read -r file package; do
    [ -n "$file" ] || continue
    # shellcheck disable=SC2086 # the pattern is meant to expand
    set -- $file
    [ -e "$1" ] || printf '%s ' "$package"
  done
}

packages=$(missing)
[ -n "$packages" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "$tier cannot run, missing: $packages(Debian packages)" >&2
  exit 1
fi
echo "$tier installs: $packages" >&2

# Daemons that a package would start on installation are kept from it: policy-rc.d refuses every action of invoke-rc.d.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # a list of names
apt-get install -q -y --no-install-recommends $packages >&2 ||
  { apt-get update -q >&2 && apt-get install -q -y --no-install-recommends $packages >&2; }
packages=$(missing)
[ -z "$packages" ] || { echo "$tier: still missing after installation: $packages" >&2; exit 1; }

#!/bin/sh
# Lints every shell file of the project: syntax under each shell that may run it, then shellcheck.
set -eu
cd "$(dirname "$0")/.."
command -v shellcheck >/dev/null || { echo "lint: shellcheck is not on PATH (Debian: apt-get install shellcheck)" >&2; exit 1; }

# What runs in a pod may meet any of these shells; what runs on a developer's machine meets only the first it finds.
pod=$(find lib/scripts -name '*.sh')
own=$(find scripts test .ci -name '*.sh' -o -path '.ci/run')
for file in $pod; do
  for shell in dash bash 'busybox sh'; do
    command -v "${shell%% *}" >/dev/null || continue
    $shell -n "$file"
  done
done
# shellcheck disable=SC2086 # file names of this project hold no blanks
shellcheck --shell=sh $pod
# shellcheck disable=SC2086
shellcheck $own
echo "shell: $(printf '%s\n' "$pod" "$own" | wc -l) files clean"

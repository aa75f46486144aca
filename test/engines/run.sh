#!/bin/sh
# Runs the tests of test/engines: synthesised pods in bubblewrap sandboxes against real servers.
#
# usage: test/engines/run.sh [jest arguments]          e.g. test/engines/run.sh engines/postgres -t "restores"
#
# What it needs, namespace.sh says, installs, or fails without.
set -eu

project=$(cd "$(dirname "$0")/../.." && pwd)
node=$project/node_modules/node/bin/node
if [ ! -x "$node" ]; then
  echo "test:engines cannot run: node_modules is not there; run npm ci first" >&2
  exit 1
fi
cd "$project"
# So that no test sees the runner of an earlier build.
"$node" scripts/build-runner.js
set -- "$node" node_modules/jest/bin/jest.js -c test/engines/jest.config.js "$@"

# Where there is none, Jest says so and fails.
found=$("$@" --listTests | grep -c '\.test\.ts$' || true)
[ "$found" -gt 1 ] || exec sh test/engines/namespace.sh "$@"
# Two halves side by side, as the tests wait more than they work. What is missing is installed before.
sh test/engines/namespace.sh true
sh test/engines/namespace.sh "$@" --shard 1/2 &
first=$!
sh test/engines/namespace.sh "$@" --shard 2/2 &
second=$!
trap 'kill "$first" "$second"' TERM INT HUP
status=0
wait "$first" || status=$?
wait "$second" || status=$?
exit "$status"

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
jest() {
  "$node" node_modules/jest/bin/jest.js -c test/engines/jest.config.js "$@"
}

lane() {
  sh test/engines/namespace.sh "$node" node_modules/jest/bin/jest.js -c test/engines/jest.config.js "$@"
}

found=$(jest --listTests "$@" | wc -l)
if [ "$found" -eq 0 ]; then
  echo "test:engines: no file of tests fits $*" >&2
  exit 1
fi
if [ "$found" -eq 1 ]; then
  lane "$@"
  exit
fi
# Two halves side by side, as the tests wait more than they work. What is missing is installed before.
sh test/engines/namespace.sh true
lane --shard 1/2 "$@" &
first=$!
lane --shard 2/2 "$@" &
second=$!
trap 'kill "$first" "$second"' TERM INT HUP
status=0
wait "$first" || status=$?
wait "$second" || status=$?
exit "$status"

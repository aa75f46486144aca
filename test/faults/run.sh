#!/bin/sh
# Runs the fault suite where pods and servers can be started; `--help` says what it takes.
set -eu
project=$(cd "$(dirname "$0")/../.." && pwd)
cd "$project"
node=$project/node_modules/node/bin/node
exec sh test/engines/namespace.sh "$node" node_modules/ts-node/dist/bin.js --transpile-only test/faults/main.ts "$@"

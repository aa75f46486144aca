#!/bin/sh
# Shows that the library runs unchanged on cdktn, the successor of cdktf: cdktn is installed under cdktf's name beside a copy of the
# sources, which must then compile, pass the tests of what is synthesised (with the goldens of test/golden, which hold for cdktf), and
# write the files that they write on cdktf.
#
# usage: test/compat/cdktn/run.sh      after npm run build; needs the npm registry
set -eu
project=$(cd "$(dirname "$0")/../../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/cdktn.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 143' TERM INT HUP

fail() {
  echo "test:compat failed: $1" >&2
  exit 1
}

# Node looks for a package in the nearest node_modules first: what a user of the library installs is this folder's, and the tools
# (compiler, bundler, tests) are the project's.
mkdir "$work/tree"
ln -s "$project/node_modules" "$work/node_modules"
cd "$project"
cp -R main.ts lib constructs stacks scripts test docs README.md jest.config.js tsconfig.json tsconfig.build.json "$work/tree"
mv "$work/tree/test/compat/cdktn/package.json" "$work/tree/test/compat/cdktn/package-lock.json" "$work/tree"
PATH="$project/node_modules/node/bin:$project/node_modules/.bin:$PATH"

cd "$work/tree"
npm ci --ignore-scripts --no-audit --no-fund || fail "npm ci, which needs the npm registry"
for from in . ./node_modules/@cdktf/provider-kubernetes ./node_modules/@cdktf/provider-helm; do
  found=$(node -p 'require(require.resolve("cdktf/package.json", { paths: [process.argv[1]] })).name' "$from")
  [ "$found" = cdktn ] || fail "in $from, cdktf is $found"
done

tsc -p tsconfig.build.json || fail "the sources do not compile"
node scripts/build-runner.js
unset UPDATE_GOLDEN
jest --ci test/stacks test/constructs test/examples test/lib/creation-stacks || fail "what is synthesised is not what cdktf synthesises"

# As users run it. In what is written, only this may differ: the version of the framework in the metadata of each file, and, as cdktn
# writes "{}" where cdktf writes a line for each brace, blanks; so both are brought into one layout.
CDKTF_OUTDIR="$work/cdktn.out" node dist/main.js
cd "$project"
CDKTF_OUTDIR="$work/cdktf.out" node dist/main.js
find "$work/cdktf.out" "$work/cdktn.out" -name "*.json" -exec node -e '
  const { readFileSync, writeFileSync } = require("node:fs");
  for (const file of process.argv.slice(1)) writeFileSync(file, JSON.stringify(JSON.parse(readFileSync(file, "utf8")), null, 1) + "\n");
' {} +
diff -r -I '^ *"version": "0\.2[14]\.0",*$' "$work/cdktf.out" "$work/cdktn.out" || fail "main.ts writes something else than on cdktf"
echo "test:compat: what cdktf synthesises, cdktn synthesises"

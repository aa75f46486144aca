#!/bin/sh
# Fetches the Kubernetes provider as its users do: from the public registry, or as the owner's CLI configuration says.
# Prints the path of terraform, or of tofu where that is all there is; the last line on standard error says why it could not.
#
# usage: terraform.sh DIRECTORY
set -eu
program=$(command -v terraform || command -v tofu) || { echo "neither terraform nor tofu is on PATH" >&2; exit 1; }
mkdir -p "$1"
cat > "$1/versions.tf.json" <<'JSON'
{ "terraform": { "required_providers": { "kubernetes": { "source": "hashicorp/kubernetes", "version": "2.38.0" } } } }
JSON
"$program" -chdir="$1" init -input=false -no-color > "$1/init.log" 2>&1 || {
  cat "$1/init.log" >&2
  # One line: the program breaks its messages into many, with a frame around them.
  sed -n '/Error:/,/^[│ ]*$/p; /Could not/,/^[│ ]*$/p' "$1/init.log" | tr -d '│╷╵' | tr -s '\n ' '  ' >&2
  exit 1
}
echo "$program"

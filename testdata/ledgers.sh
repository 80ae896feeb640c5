#!/usr/bin/env bash
# Writes testdata/ledgers/v1 and testdata/evidence/v1, which are made once for a format and then only read.
# usage: testdata/ledgers.sh    (refuses to write over what is there)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=../.ci/env
. .ci/env
ledgers=testdata/ledgers/v1 evidence=testdata/evidence/v1
if [ -e "$ledgers" ] || [ -e "$evidence" ]; then
    echo "$ledgers or $evidence exists: what a later version writes proves nothing about what an earlier one wrote" >&2
    exit 2
fi
# RocksDB writes the name of the machine into its tables.
if [ "$(uname -n)" != fixture ]; then
    exec unshare --map-root-user --uts bash -c 'hostname fixture && exec "$0"' "$PWD/testdata/ledgers.sh"
fi
cargo build --locked --package verdict-ledger --example ledger_fixture --package verdict-ui --bin verdict
target=${CARGO_TARGET_DIR:-target}/debug
"$target/examples/ledger_fixture" "$ledgers"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r "$ledgers/whole" "$ledgers/whole.lock" "$scratch"
verdict() { USER=tester VERDICT_LEDGER="$scratch/whole" "$target/verdict" "$@"; }
mkdir -p "$evidence"
verdict policy publish testdata/policies/v1 --activate
verdict export evidence --trace 0000000000000000000000000000000b --out "$evidence/trace.zip"
verdict export evidence --range 0..300 --out "$evidence/range.zip"
verdict keys show > "$evidence/auditor.keys"
du -ab "$ledgers" "$evidence"

#!/usr/bin/env bash
# Tells what Verdict does, on recorded traffic, with the commands that a reader can type again. Every step is
# checked: if one does not do what the story says, the demo stops there and exits non-zero.
#
# usage: deploy/demo.sh [--no-serve] [--keep DIR]     (make demo ARGS="...")
#   --no-serve   end after the story, without the web interface
#   --keep DIR   use DIR, which must be empty or not exist yet, and leave it there afterwards
# The commands below are shown before $DEMO is filled in, so that they can be typed again; `run` fills it in.
# shellcheck disable=SC2016
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() { sed -n 's/^# \(usage: \|  \)/\1/p' "${BASH_SOURCE[0]}"; }
serve=yes
keep=''
while [ "$#" -gt 0 ]; do
    case "$1" in
        --no-serve) serve='' ;;
        --keep) keep="${2:?--keep needs a directory}"; shift ;;
        -h | --help) usage; exit 0 ;;
        *) echo "demo: unknown argument $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done

binary="${VERDICT:-${CARGO_TARGET_DIR:-target}/debug/verdict}"
[ -x "$binary" ] || { echo "demo: there is no $binary: run make demo, which builds it" >&2; exit 4; }
verdict() { "$binary" "$@"; }

if [ -n "$keep" ]; then
    mkdir -p "$keep"
    [ -z "$(ls -A "$keep")" ] || { echo "demo: $keep is not empty: name a new directory" >&2; exit 2; }
    DEMO=$(cd "$keep" && pwd)
else
    DEMO=$(mktemp -d "${TMPDIR:-/tmp}/verdict-demo.XXXXXX")
fi

server=''
serving=''
clean_up() {
    trap '' INT TERM
    if [ -n "$server" ]; then
        kill "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -f "$DEMO/.said"
    if [ -n "$keep" ]; then echo "demo: everything is kept in $DEMO"; else rm -rf "$DEMO"; fi
}
trap clean_up EXIT
# Ending the web interface is how the demo is meant to end; ending the story half-way is not.
trap 'if [ -n "$serving" ]; then exit 0; else exit 130; fi' INT TERM

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; else bold='' dim='' plain=''; fi
chapter() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
tell()    { printf '%s%s%s\n' "$dim" "$*" "$plain"; }
broken()  { printf '\ndemo: THE STORY BROKE: %s\n' "$*" >&2; exit 1; }

# run CODE 'COMMAND': shows the command, runs exactly that, and insists on the exit code. What it printed is in $said.
said=''
run() {
    local expected="$1" command="$2" code=0
    printf '\n%s$ %s%s\n' "$bold" "$command" "$plain"
    # The commands are literals of this file; eval is what makes the printed line and the executed one the same.
    # In a subshell, so that a cd ends with its command.
    (eval "$command") > "$DEMO/.said" 2>&1 || code=$?
    cat "$DEMO/.said"
    said=$(cat "$DEMO/.said")
    [ "$code" -eq "$expected" ] || broken "that command was to exit with $expected, and exited with $code"
}
# expect WORDS WHAT: what the last command printed must hold WORDS.
expect() { grep -qiF -- "$1" <<< "$said" || broken "$2 (nothing above says \"$1\")"; }

# --- the story ------------------------------------------------------------------------------------------

printf '%sVerdict: what did the agents do, who ruled on it, and what would another policy have said?%s\n' "$bold" "$plain"
tell "Below, \$DEMO is $DEMO and verdict is $binary."

chapter "1. A ledger of its own"
run 0 'verdict init --ledger $DEMO/ledger --origin demo.verdict.example/harbor-goods'

chapter "2. Recorded traffic goes in: OpenTelemetry from three SDKs, AISecOps logs, our own format"
tell "The shop Harbor Goods runs a few agents: refunds, research, operations, finance. See testdata/README.md."
run 0 'verdict ingest --ledger $DEMO/ledger testdata/otlp testdata/aisecops testdata/native/*.ndjson'
run 0 'verdict stats --ledger $DEMO/ledger'
first="$said"

chapter "3. The same files again add nothing"
run 0 'verdict ingest --ledger $DEMO/ledger testdata/otlp testdata/aisecops testdata/native/*.ndjson'
run 0 'verdict stats --ledger $DEMO/ledger'
[ "$said" = "$first" ] || broken "the second ingest changed the ledger"

chapter "4. Two versions of a policy for these agents"
run 0 'verdict policy publish --ledger $DEMO/ledger testdata/policies/v1 --activate'
run 0 'verdict policy publish --ledger $DEMO/ledger testdata/policies/v2'

chapter "5. What did one run do, and who ruled on it?"
trace=$(verdict trace list --ledger "$DEMO/ledger" --limit 1 --format json | grep -oE '[0-9a-f]{32}') ||
    broken "the ledger lists no trace"
run 0 "verdict trace show --ledger \$DEMO/ledger $trace"
tell "Found without any policy: a restart that was blocked and ran all the same, a tool call that nobody ruled on, and"
tell "a deletion with two decisions that contradict each other."
expect enforcement_failure "the trace was to show a blocked action that ran"
run 0 "verdict trace graph --ledger \$DEMO/ledger $trace --out \$DEMO/trace.svg"

chapter "6. What would version 2 have decided about what really happened?"
tell "Exit code 1 means that the gate fired: something that was stopped would now go through."
run 1 'verdict replay diff --ledger $DEMO/ledger --from harbor-goods@1 --to harbor-goods@2'
expect loosened "the comparison was to show what version 2 loosens"

chapter "7. Evidence for an auditor: that run, and everything"
run 0 "verdict export evidence --ledger \$DEMO/ledger --trace $trace --out \$DEMO/trace.zip"
run 0 'verdict export evidence --ledger $DEMO/ledger --range .. --out $DEMO/all.zip'

chapter "8. The auditor checks the file alone, with keys that came another way"
run 0 'verdict keys show --ledger $DEMO/ledger > $DEMO/auditor.keys && cat $DEMO/auditor.keys'
run 0 'verdict verify $DEMO/trace.zip --key $DEMO/auditor.keys'
run 0 'verdict verify $DEMO/all.zip --key $DEMO/auditor.keys'
if command -v unzip >/dev/null 2>&1; then
    tell "And without us: the manifest is what sha256sum reads."
    run 0 'mkdir $DEMO/unpacked && unzip -q $DEMO/all.zip -d $DEMO/unpacked'
    bag=$(dirname "$(find "$DEMO/unpacked" -name manifest-sha256.txt | head -n 1)")
    run 0 "cd ${bag/#"$DEMO"/\$DEMO} && sha256sum --quiet -c manifest-sha256.txt && sha256sum --quiet -c tagmanifest-sha256.txt && echo 'sha256sum: every file is as listed'"
else
    tell "(sha256sum -c over the unpacked bundle is left out: this machine has no unzip.)"
fi

chapter "9. Somebody changes one byte"
# Inside the compressed events, a little after the name that the ZIP gives just before them. The manifests name the
# file too, but without the directory of the bundle.
position=$(grep -abo -F '/data/events.jsonl' "$DEMO/all.zip" | sed -n '1s/:.*//p')
position=$((position + 300))
byte=$(dd if="$DEMO/all.zip" bs=1 skip="$position" count=1 2>/dev/null | od -An -tu1 | tr -d ' ')
flipped=$(printf '\\%03o' $((byte ^ 1)))
run 0 "cp \$DEMO/all.zip \$DEMO/tampered.zip && printf '$flipped' | dd of=\$DEMO/tampered.zip bs=1 seek=$position conv=notrunc status=none"
run 1 'cmp $DEMO/all.zip $DEMO/tampered.zip'
tell "Exit code 1: tampering found, and the file is named."
run 1 'verdict verify $DEMO/tampered.zip --key $DEMO/auditor.keys'
expect events.jsonl "the verifier was to name the file that was changed"

chapter "10. And the ledger itself"
run 0 'verdict verify --ledger $DEMO/ledger --key $DEMO/auditor.keys'

chapter "What was shown"
cat <<'END'
  - Agent traffic from several SDKs became one log of events; sending it again added nothing.
  - Every recorded action was ruled on again under two versions of a policy, and the differences named
    with their rules. The model was not run again: each decision is compared where it was made, and what would
    have come after another ruling is not guessed.
  - The evidence verifies without the ledger and without trusting its sender; one changed byte is found and named.
  What was not shown: that the agents told the truth, or that they reported everything. A log proves what was
  said to it, not what was kept from it.
END

[ -n "$serve" ] || exit 0

# --- the web interface ----------------------------------------------------------------------------------

taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
port=7878
while taken "$port"; do
    port=$((port + 1))
    [ "$port" -lt 7978 ] || broken "no free port between 7878 and 7977"
done

chapter "11. Look around"
printf '\n%s$ verdict serve --ledger $DEMO/ledger --listen 127.0.0.1:%s%s\n' "$bold" "$port" "$plain"
# Not through the function: the process that is ended later must be the server, not a shell around it.
"$binary" serve --ledger "$DEMO/ledger" --listen "127.0.0.1:$port" &
server=$!
for _ in $(seq 150); do
    taken "$port" && break
    kill -0 "$server" 2>/dev/null || broken "the server ended at once"
    sleep 0.2
done
taken "$port" || broken "the server did not answer within 30 seconds"
serving=yes
printf '\n%sThe web interface is at http://127.0.0.1:%s/%s   (Ctrl-C ends it%s)\n' \
    "$bold" "$port" "$plain" "${keep:+; the ledger stays in $DEMO}"
code=0
wait "$server" || code=$?
server=''
[ "$code" -eq 0 ] || broken "the server ended with $code"

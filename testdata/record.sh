#!/bin/sh
# Makes every recording and every generated file here again, and says what changed.
#
# usage: testdata/record.sh            environment: PYTHON, VERDICT_RECORD_HOME
#
# It needs Python 3.11 or newer with venv, and a package index. Stack traces are
# part of what the clients send, and they carry the paths of the libraries: so
# the virtual environments live in one fixed, neutral place (not in a user's
# home), and PYTHON should be the system's Python. check.py fails on other paths.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-/usr/bin/python3}
home=${VERDICT_RECORD_HOME:-/opt/verdict-record}

if [ -e "$home" ] && [ ! -e "$home/.verdict-record" ]; then
    echo "record.sh: $home exists and was not made by this script; set VERDICT_RECORD_HOME to another place" >&2
    exit 2
fi
mkdir -p "$home" && : > "$home/.verdict-record"
rm -rf "$home/run" "$home/out" "$home/before"
mkdir -p "$home/run" "$home/out" "$home/before"
cp -R "$here/otlp/." "$home/run/"
cp -R "$here/otlp" "$here/native" "$here/aisecops" "$home/before/"

for record in "$here"/otlp/*/record.py; do
    folder=$(basename "$(dirname "$record")")
    echo "== otlp/$folder"
    [ -d "$home/$folder" ] || "$python" -m venv "$home/$folder"
    "$home/$folder/bin/pip" install --quiet --disable-pip-version-check -r "$here/otlp/$folder/requirements.txt"
    mkdir "$home/out/$folder"
    (cd "$home/run/$folder" && PYTHONPATH="$home/run/common" PYTHONDONTWRITEBYTECODE=1 \
        "$home/$folder/bin/python" record.py "$home/out/$folder")
    # The old bodies go only when the new ones are there.
    rm -f "$here/otlp/$folder"/[0-9]*
    cp "$home/out/$folder"/[0-9]* "$here/otlp/$folder/"
done

for folder in native aisecops; do
    echo "== $folder"
    "$python" "$here/$folder/make.py"
done

echo "== what changed (recorded bodies always do: ids and times are the clients' own)"
for folder in otlp native aisecops; do
    diff -rq "$home/before/$folder" "$here/$folder" | sed "s#$home/before#before#; s#$here#now#" || true
done

echo "== check"
[ -d "$home/check" ] || "$python" -m venv "$home/check"
"$home/check/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
"$home/check/bin/python" "$here/check.py"

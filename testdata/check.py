"""Decodes every recorded body here, counts what is in it, and fails on a leak.

usage: python check.py          (needs the package opentelemetry-proto)

Prints one row per folder. Exit code 1 when a body does not decode, a folder
holds nothing, a body names something of the machine that recorded it, a file
in native/bad is not bad, or README.md shows other counts.
"""

import getpass
import gzip
import json
import re
import socket
import sys
from collections import Counter
from pathlib import Path

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

HERE = Path(__file__).resolve().parent
REQUESTS = {"traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest}

# Resource attributes that name a machine, and paths that only exist on one.
FORBIDDEN = [
    rb"/(?:root|home|Users|tmp|private|work)/", rb"/\.(?:pyenv|venv|cache)/", rb"\bhost\.(?:name|id)\b",
    rb"\bprocess\.(?:command|executable|owner|pid)", rb"[A-Za-z]:\\\\",
]
PATHS_ALLOWED = rb"/opt/verdict-record/|/usr/lib/python3"
HOSTS_ALLOWED = ("example", "127.0.0.1", "localhost", "opentelemetry.io", "docs.langchain.com")


def value_of(value):
    """Returns the plain value of an OTLP AnyValue in its JSON form."""
    if "arrayValue" in value:
        return [value_of(item) for item in value["arrayValue"].get("values", [])]
    if "kvlistValue" in value:
        return attributes_of({"attributes": value["kvlistValue"].get("values", [])})
    return next(iter(value.values()), None)


def attributes_of(item):
    return {pair["key"]: value_of(pair.get("value", {})) for pair in item.get("attributes", [])}


def records(request, outer, inner, leaf):
    for resource in request.get(outer, []):
        for scope in resource.get(inner, []):
            yield from scope.get(leaf, [])


def is_tool_call(span):
    """Tells whether a span is the one that runs a tool, not the one that asks another process to."""
    attributes = attributes_of(span)
    return (
        attributes.get("openinference.span.kind") == "TOOL"
        or attributes.get("gen_ai.operation.name") == "execute_tool"
    )


def decode(about, body):
    """Returns an OTLP request in its JSON form."""
    if "protobuf" not in about["content_type"]:
        return json.loads(body)
    message = REQUESTS[about["signal"]]()
    message.ParseFromString(body)
    return MessageToDict(message)


def otlp(folder, problems):
    counts, traces = Counter(), set()
    for about_file in sorted(folder.glob("[0-9]*.headers.json")):
        about = json.loads(about_file.read_text())
        path = folder / about["file"]
        try:
            body = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            request = decode(about, body)
        except (OSError, EOFError, ValueError, DecodeError) as error:
            problems.append(f"{path.relative_to(HERE)}: does not decode: {error}")
            continue
        leaks(path, body, problems)
        counts["bodies"] += 1
        if about["status_replied"] != 200:
            # The same bytes came again and were accepted then.
            counts["refused"] += 1
            continue
        for span in records(request, "resourceSpans", "scopeSpans", "spans"):
            counts["spans"] += 1
            counts["tool calls"] += is_tool_call(span)
            counts["errors"] += span.get("status", {}).get("code") in ("STATUS_CODE_ERROR", 2)
            traces.add(span["traceId"])
        counts["log records"] += sum(1 for _ in records(request, "resourceLogs", "scopeLogs", "logRecords"))
    named = {json.loads(f.read_text())["file"] for f in folder.glob("[0-9]*.headers.json")}
    for body in folder.glob("[0-9]*"):
        if body.name not in named and not body.name.endswith(".headers.json"):
            problems.append(f"{body.relative_to(HERE)}: no headers file names it")
    counts["traces"] = len(traces)
    return counts


def no_repeats(pairs):
    """Builds an object and refuses a key that comes twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def strict(line):
    """Reads one line of the native format, which has integers up to 2^53 - 1 and no fractions."""

    def integer(text):
        if abs(int(text)) > 2**53 - 1:
            raise ValueError(f"integer {text} is out of range")
        return int(text)

    def fraction(text):
        raise ValueError(f"fraction {text}")

    event = json.loads(line.decode(), object_pairs_hook=no_repeats, parse_int=integer, parse_float=fraction)
    if not isinstance(event, dict):
        raise ValueError("not an object")
    return event


def foreign(line):
    return json.loads(line.decode(), object_pairs_hook=no_repeats)


def lines(folder, problems, read, tool_call, is_decision):
    counts, traces, calls, ids = Counter(), set(), set(), set()
    for path in sorted(folder.glob("*.ndjson")) + sorted(folder.glob("*.jsonl")):
        body = path.read_bytes()
        leaks(path, body, problems)
        counts["bodies"] += 1
        for number, line in enumerate(body.splitlines(), 1):
            try:
                event = read(line)
            except ValueError as error:
                problems.append(f"{path.relative_to(HERE)}:{number}: {error}")
                continue
            counts["lines"] += 1
            counts["decisions"] += is_decision(event)
            counts["errors"] += event.get("outcome", {}).get("status") == "error"
            traces.add(event["trace_id"])
            key = tool_call(event)
            if key:
                calls.add(key)
            identity = event.get("id") or event.get("event_id")
            if identity and identity in ids:
                problems.append(f"{path.relative_to(HERE)}:{number}: id {identity} comes twice")
            ids.add(identity)
    counts["traces"], counts["tool calls"] = len(traces), len(calls)
    return counts


def bad_lines(folder, problems):
    """Checks that each file in native/bad has exactly one line that a strict reader refuses."""
    for path in sorted(folder.glob("*.ndjson")):
        refused = []
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            try:
                strict(line)
            except ValueError:
                refused.append(number)
        expected = [3] if path.name.startswith("truncated") else [2]
        if refused != expected:
            problems.append(f"{path.relative_to(HERE)}: refused lines {refused}, expected {expected}")


def native_call(event):
    action = event["action"]
    return (event["session"], action["call_id"]) if action["kind"] == "tool" and "call_id" in action else None


def aisecops_call(event):
    return event["trace_id"]  # One trace per call, always.


def aisecops_decision(event):
    # The line that rules; `tool_allowed` and the lines after it repeat the ruling.
    return event["event_type"] == "decision"


def leaks(path, body, problems):
    name = path.relative_to(HERE)
    patterns = list(FORBIDDEN)
    for word in (socket.gethostname(), getpass.getuser()):
        # A short or common word is no evidence of anything in a binary body.
        if len(word) > 4 and word != "localhost":
            patterns.append(rb"\b" + re.escape(word.encode()) + rb"\b")
    for pattern in patterns:
        for hit in re.finditer(pattern, body):
            around = body[max(0, hit.start() - 30):hit.end() + 30]
            problems.append(f"{name}: {hit.group()!r} near {around!r}")
    for hit in re.finditer(rb'File \\?"(/[^"\\]+)', body):
        if not re.match(PATHS_ALLOWED, hit.group(1)):
            problems.append(f"{name}: stack frame in {hit.group(1)!r}")
    for hit in re.finditer(rb"https?://([A-Za-z0-9.-]+)|[A-Za-z0-9._-]+@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)", body):
        host = (hit.group(1) or hit.group(2)).decode().rstrip(".")
        if not any(host == known or host.endswith("." + known) for known in HOSTS_ALLOWED):
            problems.append(f"{name}: address outside of the reserved names: {hit.group()!r}")
    for hit in re.finditer(rb"\b\d{1,3}(?:\.\d{1,3}){3}\b", body):
        if hit.group() != b"127.0.0.1":
            problems.append(f"{name}: network address {hit.group()!r}")


def main():
    problems = []
    folders = {f"otlp/{path.name}": otlp(path, problems) for path in sorted((HERE / "otlp").iterdir()) if (path / "record.py").exists()}
    folders["aisecops"] = lines(HERE / "aisecops", problems, foreign, aisecops_call, aisecops_decision)
    folders["native"] = lines(HERE / "native", problems, strict, native_call, lambda event: "decision" in event)
    bad_lines(HERE / "native" / "bad", problems)
    columns = ["bodies", "refused", "lines", "spans", "log records", "traces", "tool calls", "errors", "decisions"]
    table = ["| folder | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for folder, counts in folders.items():
        table.append(f"| {folder} | " + " | ".join(str(counts[column] or "") for column in columns) + " |")
        if not counts["bodies"] or not counts["tool calls"]:
            problems.append(f"{folder}: nothing recorded")
    print("\n".join(table))
    if "\n".join(table) not in (HERE / "README.md").read_text():
        problems.append("README.md: does not show the counts printed here")
    for problem in problems:
        print(f"problem: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""A loopback OTLP/HTTP receiver that keeps each request body exactly as a client sent it.

It writes `NNN.pb` or `NNN.json` (the body after content-decoding), or
`NNN.pb.gz` (the body as received) for the scenarios named in `keep_encoded`,
and beside each a `NNN.headers.json`. It never parses or edits a body.
"""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KINDS = {"application/x-protobuf": "pb", "application/json": "json"}


class Capture:
    """Receives OTLP/HTTP on 127.0.0.1 at a port the system chooses."""

    def __init__(self, out, keep_encoded=(), refuse_once=()):
        self.out = Path(out)
        self.keep_encoded = set(keep_encoded)
        self.refuse_once = set(refuse_once)
        self.scenario = "none"
        self.count = 0
        self.lock = threading.Lock()
        for pattern in ("[0-9]*.pb", "[0-9]*.pb.gz", "[0-9]*.json"):
            for old in self.out.glob(pattern):
                old.unlink()
        handler = type("Handler", (_Handler,), {"capture": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def base_url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def store(self, path, headers, body):
        """Keeps one body and says which status the client is to get."""
        content_type = headers.get("content-type", "")
        encoding = headers.get("content-encoding", "identity")
        kind = KINDS[content_type.split(";")[0].strip()]
        with self.lock:
            self.count += 1
            number = f"{self.count:03d}"
            status = 200
            if self.scenario in self.refuse_once:
                # The body is kept and then refused: the client has to send it
                # again, which is how the same bytes arrive twice in real life.
                self.refuse_once.discard(self.scenario)
                status = 503
            if encoding == "gzip" and self.scenario in self.keep_encoded:
                name, data = f"{number}.{kind}.gz", body
            else:
                name = f"{number}.{kind}"
                data = gzip.decompress(body) if encoding == "gzip" else body
            (self.out / name).write_bytes(data)
            about = {
                "file": name,
                "signal": path.rsplit("/", 1)[-1],
                "path": path,
                "content_type": content_type,
                "content_encoding": encoding,
                "user_agent": headers.get("user-agent", ""),
                "status_replied": status,
                "scenario": self.scenario,
            }
            text = json.dumps(about, indent=2) + "\n"
            (self.out / f"{number}.headers.json").write_text(text)
            return status, content_type

    def close(self):
        self.server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    capture: Capture
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, content_type = self.capture.store(self.path, headers, body)
        reply = b"{}" if "json" in content_type else b""
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass

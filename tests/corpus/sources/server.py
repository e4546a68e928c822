"""A web server on loopback that misbehaves as a test tells it to."""

import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ALLOWED = ["127.0.0.1/32"]  # the only address that a test's source may read


class Server(ThreadingHTTPServer):
    """Serves `files` by path; takes one entry of `faults` per request, while there are any.

    A fault is a status to answer with, or `cut`: half of what is asked for, then nothing.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.faults: deque[int | str] = deque()
        self.ranges = True
        self.requests: list[tuple[str, str | None]] = []  # path, Range
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path, wanted = self.path.lstrip("/"), self.headers.get("Range")
        self.server.requests.append((path, wanted))
        fault = self.server.faults.popleft() if self.server.faults else None
        if isinstance(fault, int):
            self._answer(fault, b"no", {"Retry-After": "0"})
        elif path in self.server.redirects:
            self._answer(302, b"", {"Location": self.server.redirects[path]})
        elif path not in self.server.files:
            self._answer(404, b"no such file")
        else:
            self._send(self.server.files[path], wanted, cut=fault == "cut")

    def _send(self, data: bytes, wanted: str | None, *, cut: bool) -> None:
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start and start >= len(data):
            return self._answer(416, b"")
        partial = bool(start) and self.server.ranges
        data = data[start:] if partial else data
        self.send_response(206 if partial else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = True
        return None

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

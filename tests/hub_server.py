"""Web servers on 127.0.0.1 for the download tests: a hub and a plain one, which can misbehave.

    with hub() as server:
        server.files["/timm/x/resolve/<commit>/model.safetensors"] = b"..."
        server.faults.append(truncated(100))  # what the next GET does instead of answering well
        ...
        assert server.count("GET") == 2

A fault is a function of the request's handler and the file's bytes. `head_faults` serves HEAD in
the same way. Every request is written down in `requests`.
"""

import contextlib
import hashlib
import re
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Request:
    """What came in: method, path, and the Range and If-Range headers (`None` without)."""

    method: str
    path: str
    range: str | None
    if_range: str | None


class Server(ThreadingHTTPServer):
    """Serves `files` (path -> bytes), keeps `requests`, and obeys the queued faults."""

    daemon_threads = True

    def __init__(self, is_hub: bool):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.is_hub = is_hub
        self.files: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.faults: deque[Fault] = deque()
        self.head_faults: deque[Fault] = deque()
        self.always: Fault | None = None  # for every GET that has no fault of its own
        self.always_head: Fault | None = None
        self.storage: str | None = None  # a hub sends its large files from this other server

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def count(self, method: str) -> int:
        return sum(request.method == method for request in self.requests)

    def handle_error(self, request, client_address) -> None:
        """Clients that hang up are what the tests are about: nothing is printed."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self._serve(self.server.head_faults, self.server.always_head)

    def do_GET(self) -> None:
        self._serve(self.server.faults, self.server.always)

    def _serve(self, faults: "deque[Fault]", always: "Fault | None") -> None:
        path = unquote(urlsplit(self.path).path)
        headers = self.headers
        self.server.requests.append(
            Request(self.command, path, headers.get("Range"), headers.get("If-Range"))
        )
        body = self.server.files.get(path)
        fault = faults.popleft() if faults else always
        if fault is not None:
            fault(self, body or b"")
        elif body is None:
            refuse(self, 404, error_code="EntryNotFound")
        elif self.server.is_hub and self.server.storage:
            send_head(self, 302, body, {"Location": self.server.storage + path})
        else:
            send(self, body)

    def log_message(self, *args) -> None:
        pass


Fault = Callable[[_Handler, bytes], None]


def etag_of(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()}"'


def send_head(handler: _Handler, status: int, body: bytes, headers: dict[str, str]) -> None:
    """Status and headers; a hub also states commit, size and hash of the file."""
    handler.send_response(status)
    headers = {"ETag": etag_of(body)} | headers
    if handler.server.is_hub:
        headers |= {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": etag_of(body),
            "X-Linked-Size": str(len(body)),
        }
    for name, value in headers.items():
        if value:
            handler.send_header(name, value)
    handler.end_headers()


def send(handler: _Handler, body: bytes, stop: int | None = None, **headers: str) -> None:
    """Answer well, ranges included; `stop` ends the body early, at that byte of the file."""
    match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    current = handler.headers.get("If-Range") in (None, headers.get("ETag", etag_of(body)))
    start = int(match.group(1)) if match and current else 0
    if start >= len(body) > 0:
        send_head(handler, 416, body, {"Content-Range": f"bytes */{len(body)}"})
        return
    headers = {"Content-Length": str(len(body) - start), "Accept-Ranges": "bytes"} | headers
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
    send_head(handler, 206 if start else 200, body, headers)
    if handler.command == "GET":
        handler.wfile.write(body[start:stop])
        handler.wfile.flush()


def refuse(handler: _Handler, code: int, error_code: str = "") -> None:
    handler.send_response(code)
    if error_code and handler.server.is_hub:
        handler.send_header("X-Error-Code", error_code)
        handler.send_header("X-Repo-Commit", COMMIT)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


# --- Faults ------------------------------------------------------------------------------------


def fine() -> Fault:
    return send


def status(code: int, error_code: str = "") -> Fault:
    return lambda handler, body: refuse(handler, code, error_code)


def truncated(size: int) -> Fault:
    """The full length is promised, the connection ends after `size` bytes."""
    return lambda handler, body: send(handler, body, stop=size)


def reset(size: int) -> Fault:
    """As truncated, but with a TCP reset instead of an orderly end."""

    def fault(handler: _Handler, body: bytes) -> None:
        send(handler, body, stop=size)
        linger_off = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_off)
        handler.connection.shutdown(socket.SHUT_RD)
        handler.connection.close()

    return fault


def other_bytes(body: bytes) -> Fault:
    """Another file's bytes, under the headers that a hub would send for the true one."""

    def fault(handler: _Handler, true_body: bytes) -> None:
        headers = {"Content-Length": str(len(body))}
        send_head(handler, 200, true_body, headers)
        handler.wfile.write(body)

    return fault


def held(size: int, go_on: threading.Event, reached: threading.Event | None = None) -> Fault:
    """Sends `size` bytes, then nothing until `go_on` is set, then the rest."""

    def fault(handler: _Handler, body: bytes) -> None:
        send(handler, body, stop=size)
        if reached is not None:
            reached.set()
        go_on.wait(30)
        handler.wfile.write(body[size:])

    return fault


def silent(go_on: threading.Event) -> Fault:
    """The connection is accepted, and nothing ever answered."""
    return lambda handler, body: go_on.wait(30)


def without_length(size: int | None = None) -> Fault:
    """No Content-Length: the end of the connection is the only end of the file."""

    def fault(handler: _Handler, body: bytes) -> None:
        send_head(handler, 200, body, {})
        handler.wfile.write(body[:size])

    return fault


def answered(code: int, body: bytes, **headers: str) -> Fault:
    """Exactly these headers and bytes, whatever was asked for; `_` in a name stands for `-`."""

    def fault(handler: _Handler, _: bytes) -> None:
        handler.send_response(code)
        stated = {"Content-Length": str(len(body))}
        stated |= {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in stated.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(body)

    return fault


def endless(sent: list[int], most: int = 100_000_000) -> Fault:
    """A chunked body without an end; counts what was taken in `sent[0]`, up to `most`."""

    def fault(handler: _Handler, body: bytes) -> None:
        send_head(handler, 200, body, {"Transfer-Encoding": "chunked"})
        with contextlib.suppress(OSError):
            while sent[0] < most:
                handler.wfile.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
                sent[0] += 1 << 16

    return fault


def range_ignored() -> Fault:
    def fault(handler: _Handler, body: bytes) -> None:
        send_head(handler, 200, body, {"Content-Length": str(len(body))})
        handler.wfile.write(body)

    return fault


def redirected(location: str) -> Fault:
    return lambda handler, body: send_head(
        handler, 302, body, {"Location": location, "Content-Length": "0"}
    )


# --- Running -----------------------------------------------------------------------------------


def hub() -> contextlib.AbstractContextManager[Server]:
    """A server that speaks as much of the hub's protocol as `hf_hub_download` needs."""
    return _running(Server(is_hub=True))


def plain() -> contextlib.AbstractContextManager[Server]:
    """A static file server."""
    return _running(Server(is_hub=False))


@contextlib.contextmanager
def _running(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def unused_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

"""A headless Chromium that a test drives, and a web server for the pages of a folder."""

import contextlib
import fcntl
import functools
import http.server
import json
import os
import select
import shutil
import subprocess
import threading
import time

SECONDS = 60  # that the browser may take for an answer
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium():
    """Returns the path of a Chromium, or `None`."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def served(folder):
    """Yields the address at which a folder is served, on this machine alone."""
    handler = functools.partial(_Quiet, directory=os.fspath(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Page:
    """A page of a browser, over the DevTools protocol through two pipes.

    A test may keep with it what belongs to it.

    Attributes:
        complaints: what the page's console says, and its exceptions.
        requests: the addresses that it has asked for.
    """

    def __init__(self, process, to, back):
        self._process, self._to, self._back = process, to, back
        self._count, self._session, self._buffer = 0, None, b""
        self.complaints, self.requests = [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Returns the result of a method of the protocol."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != self._count:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _message(self):
        end = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._back], [], [], max(0, end - time.monotonic()))
            part = os.read(self._back, 2**20) if ready else b""
            if not part:
                raise TimeoutError("the browser does not answer")
            self._buffer += part
        found, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(found)

    def _note(self, event):
        kind, params = event.get("method"), event.get("params", {})
        if kind == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif kind in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.complaints.append(json.dumps(params)[:500])

    def value(self, expression):
        """Returns the value of a JavaScript expression, of a promise when it is fulfilled."""
        found = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, expression):
        """Waits until a JavaScript expression is true."""
        end = time.monotonic() + SECONDS
        while not self.value(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression}; {self.complaints}")
            time.sleep(0.05)

    def drop(self, path, x, y):
        """Drops a file at a point of the page."""
        data = {"items": [], "files": [os.fspath(path)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def choose(self, selector, path):
        """Chooses a file in an `<input type="file">`."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[os.fspath(path)])


@contextlib.contextmanager
def opened(folder):
    """Yields a `Page` of a new Chromium.

    Args:
        folder: for the browser's own files.
    """
    command = [
        *(chromium(), "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *("--disable-sync", "--disable-quic", "--disable-dev-shm-usage"),
        f"--user-data-dir={folder}",
    ]
    (asked, to), (back, answers) = os.pipe(), os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (asked, answers)]
    script = f'exec "$@" 3<&{high[0]} 4>&{high[1]}'
    process = subprocess.Popen(
        ["bash", "-c", script, "bash", *command],
        pass_fds=high,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for end in (asked, answers, *high):
        os.close(end)
    try:
        yield Page(process, to, back)
    finally:
        os.close(to)
        process.terminate()
        process.wait(SECONDS)
        os.close(back)

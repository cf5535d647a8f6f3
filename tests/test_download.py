"""Downloads against real servers that misbehave: the right file or a clear error, each time."""

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from keras_convnext.pretrained import download
from keras_convnext.pretrained.download import (
    DownloadError,
    HubFile,
    Url,
    answers,
    cached,
    fetch,
)
from keras_convnext.pretrained.download import hub as hub_module
from keras_convnext.pretrained.download.failures import SourceError
from tests import hub_server
from tests.backends import on_one_backend
from tests.hub_server import (
    COMMIT,
    answered,
    endless,
    etag_of,
    held,
    other_bytes,
    redirected,
    reset,
    status,
    truncated,
)

# A notice that is not expected, or one that is said twice, fails the test.
pytestmark = [on_one_backend, pytest.mark.filterwarnings("error::UserWarning")]

BODY = random.Random(0).randbytes(300_000)
SHA = hashlib.sha256(BODY).hexdigest()
CORRUPT = BODY[:150_000] + bytes([BODY[150_000] ^ 1]) + BODY[150_001:]
LIBRARY = Path(download.__file__).parents[2]
OTHER_SHA = hashlib.sha256(CORRUPT).hexdigest()

# Imports the package without its parents: these would import Keras, which costs seconds.
WORKER = """
import json, resource, sys, types
from pathlib import Path
library = Path(sys.argv[1])
for folder in (library, library / "pretrained"):
    name = ".".join(folder.relative_to(library.parent).parts)
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [str(folder)]
from keras_convnext.pretrained import download
download.settings.CHUNK, download.settings.BACKOFF = 1 << 16, 0.01
job = json.loads(sys.argv[2])
if job["limit"]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], job["limit"]))
source = getattr(download, job["kind"])(**job["fields"])
print("ready", flush=True)
try:
    print(download.fetch([source], name="some model"), flush=True)
except download.DownloadError as error:
    sys.exit(str(error))
"""


@dataclass
class Site:
    """A server with one file on it, and how to ask for that file."""

    server: hub_server.Server
    is_hub: bool

    def source(self, **pins) -> HubFile | Url:
        pins = {"sha256": SHA} | pins
        if self.is_hub:
            return HubFile("timm/x", "model.safetensors", COMMIT, **pins)
        return Url(self.server.address + "/w/model.pth", "model.pth", **pins)

    def put(self, body: bytes) -> None:
        path = f"/timm/x/resolve/{COMMIT}/model.safetensors" if self.is_hub else "/w/model.pth"
        self.server.files[path] = body
        self.server.files["/timm/x/resolve/main/model.safetensors"] = body

    def heal(self) -> None:
        self.server.always = self.server.always_head = None


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """Caches of this test alone, no waiting, nothing taken over from the machine."""
    for variable in list(os.environ):
        if variable.startswith(("HF_", "HUGGINGFACE_", "KERAS_CONVNEXT_", "TRANSFORMERS_")):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("KERAS_CONVNEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(download.settings, "BACKOFF", 0.01)
    monkeypatch.setattr(download.settings, "CHUNK", 1 << 16)
    monkeypatch.setattr(download.failures, "_noticed", set())
    # Otherwise the hub library makes a request of its own, about the program that runs it.
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    # The hub library's own pauses add up to half a minute; its repetitions all still happen.
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))


@pytest.fixture
def impatient(request, monkeypatch):
    """Where the server stalls, the client waits for less than a second; else a busy machine may."""
    if request.getfixturevalue("fault") == "stalled":
        for name in ("ANSWER_TIMEOUT", "READ_TIMEOUT"):
            monkeypatch.setattr(download.settings, name, 0.4)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.4)


@pytest.fixture
def hub(monkeypatch):
    with hub_server.hub() as server:
        site = Site(server, is_hub=True)
        site.put(BODY)
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield site


@pytest.fixture(params=["hub", "plain"])
def site(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def plain():
    with hub_server.plain() as server:
        site = Site(server, is_hub=False)
        site.put(BODY)
        yield site


@pytest.fixture
def go_on():
    """Lets every held answer continue when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def start(source, limit=None) -> subprocess.Popen:
    job = {"kind": type(source).__name__, "fields": vars(source), "limit": limit}
    command = [sys.executable, "-c", WORKER, str(LIBRARY), json.dumps(job)]
    # Unbuffered: a buffer would swallow what follows the first line, and `communicate` lose it.
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, cwd="/"
    )
    assert process.stdout.readline() == b"ready\n"
    return process


def finish(process: subprocess.Popen) -> tuple[str, str]:
    """What it printed, and what it complained about."""
    output, complaint = process.communicate(timeout=20)
    return output.decode().strip(), complaint.decode()


def files_below(folder: Path) -> list[Path]:
    """The real files of a cache that hold, or could hold, weights."""
    skip = {"CACHEDIR.TAG", "hashes.json", "main"}
    found = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
    return [p for p in found if p.suffix != ".lock" and p.name not in skip]


def failure(source_or_sources) -> str:
    sources = source_or_sources if isinstance(source_or_sources, list) else [source_or_sources]
    with pytest.raises(DownloadError) as caught:
        fetch(sources, name="convnext_x.some_tag")
    message, reasons = str(caught.value), caught.value.reasons
    asked = sources if message.startswith("Could not get the weights") else ()
    assert len(reasons) == len(asked) and all(f"    {why}\n" in message for why in reasons)
    return message


# --- The good way ------------------------------------------------------------------------------


def test_second_load_makes_no_request_and_does_not_read_the_file(site, tmp_path, monkeypatch):
    source = site.source(size=len(BODY))
    path = fetch([source], name="x")
    assert path.read_bytes() == BODY
    assert [p.read_bytes() == BODY for p in files_below(tmp_path)] == [True]
    before = len(site.server.requests)
    monkeypatch.setattr(download.records, "sha256_of", None)
    assert fetch([source], name="x") == path == cached(source)
    assert len(site.server.requests) == before


def test_second_load_in_a_fresh_process_makes_no_request(site, monkeypatch):
    path = fetch([site.source()], name="x")
    before = len(site.server.requests)
    monkeypatch.delenv("HF_HUB_DISABLE_TELEMETRY")  # not even the hub library's own
    out, error = finish(start(site.source()))
    assert (out, len(site.server.requests)) == (str(path), before), error


def test_changed_file_is_hashed_again_and_replaced(site):
    path = fetch([site.source()], name="x")
    path.write_bytes(CORRUPT)
    assert cached(site.source()) is None
    assert fetch([site.source()], name="x").read_bytes() == BODY
    assert site.server.count("GET") == 2


def test_moving_main_is_asked_for_once_per_load(hub):
    source = HubFile("timm/x", "model.safetensors", None)
    path = fetch([source], name="x")
    before = hub.server.count("HEAD")
    assert fetch([source], name="x") == path
    assert (hub.server.count("HEAD") - before, hub.server.count("GET")) == (1, 1)


def test_hub_file_from_a_storage_host(hub, plain):
    hub.server.storage = plain.server.address
    plain.server.files.update(hub.server.files)
    assert fetch([hub.source()], name="x").read_bytes() == BODY
    assert (hub.server.count("GET"), plain.server.count("GET")) == (0, 1)


def test_fallback_is_used_and_found_again_without_a_request(hub, plain):
    primary = hub.source()
    hub.server.always_head = status(404, "EntryNotFound")
    fallback = Url(plain.server.address + "/w/model.pth", "fallback.pth", SHA)
    path = fetch([primary, fallback], name="x")
    assert path.read_bytes() == BODY
    before = len(hub.server.requests) + len(plain.server.requests)
    assert fetch([primary, fallback], name="x") == path
    assert len(hub.server.requests) + len(plain.server.requests) == before


# --- Faults that pass --------------------------------------------------------------------------

PASSING = {
    "truncated": lambda go_on: truncated(100_000),
    "reset": lambda go_on: reset(100_000),
    "stalled": lambda go_on: held(100_000, go_on),
    "500": lambda go_on: status(500),
    "503": lambda go_on: status(503),
    "corrupt": lambda go_on: other_bytes(CORRUPT),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", PASSING)
def test_one_fault_then_fine(site, fault, go_on, tmp_path):
    site.server.faults.append(PASSING[fault](go_on))
    assert fetch([site.source()], name="x").read_bytes() == BODY
    assert site.server.count("GET") == 2
    assert [p.read_bytes() == BODY for p in files_below(tmp_path)] == [True]


def test_truncated_transfer_is_continued(plain):
    plain.server.faults.append(truncated(100_000))
    fetch([plain.source()], name="x")
    assert [r.range for r in plain.server.requests] == [None, "bytes=65536-"]  # whole chunks


def test_without_a_hash_only_the_same_bytes_are_continued(plain):
    def swapped(handler, body):  # the publisher replaces the file between the two requests
        hub_server.send(handler, CORRUPT)

    plain.server.faults += [truncated(100_000), swapped]
    with pytest.warns(download.FirstUseNotice, match=OTHER_SHA):
        path = fetch([plain.source(sha256=None)], name="x")
    second = plain.server.requests[1]
    assert (second.range, second.if_range) == ("bytes=65536-", hub_server.etag_of(BODY))
    assert path.read_bytes() == CORRUPT


def test_range_ignored_by_the_server(plain):
    plain.server.faults += [truncated(100_000), hub_server.range_ignored()]
    assert fetch([plain.source()], name="x").read_bytes() == BODY


REST = {"ETag": etag_of(BODY), "Content_Range": "bytes 65536-299999/300000"}
OTHER_PARTS = {
    "of another file": (CORRUPT[65536:], {"ETag": etag_of(CORRUPT)}),
    "without an ETag": (CORRUPT[65536:], {"ETag": ""}),
    "that ends early": (BODY[65536:66536], {"Content_Range": "bytes 65536-66535/300000"}),
    "of a shorter file": (BODY[65536:66536], {"Content_Range": "bytes 65536-66535/66536"}),
    "of unknown size": (BODY[65536:], {"Content_Range": "bytes 65536-299999/*"}),
    "without a range": (BODY[65536:], {"Content_Range": ""}),
    "from another byte": (BODY[1:], {"Content_Range": "bytes 1-299999/300000"}),
    "shorter than it says": (BODY[65536:70000], {}),
}


@pytest.mark.parametrize("fault", OTHER_PARTS)
def test_only_the_rest_of_the_same_file_is_appended(plain, fault):
    body, headers = OTHER_PARTS[fault]
    plain.server.faults += [truncated(100_000), answered(206, body, **REST | headers)]
    with pytest.warns(download.FirstUseNotice, match=SHA):
        path = fetch([plain.source(sha256=None)], name="x")
    assert path.read_bytes() == BODY
    assert [r.range for r in plain.server.requests] == [None, "bytes=65536-", None]


def test_the_date_of_change_validates_where_there_is_no_etag(plain):
    day, next_day = ("Mon, 01 Jan 2024 00:00:00 GMT", "Tue, 02 Jan 2024 00:00:00 GMT")

    def dated(handler, body):
        hub_server.send(handler, body, stop=100_000, **{"ETag": "", "Last-Modified": day})

    for stated, ranges in ((day, 2), (next_day, 3)):
        plain.server.requests.clear()
        headers = REST | {"ETag": "", "Last_Modified": stated}
        plain.server.faults += [dated, answered(206, BODY[65536:], **headers)]
        with pytest.warns(download.FirstUseNotice, match=SHA):
            fetch([plain.source(sha256=None)], name="x")
        assert plain.server.requests[1].if_range == day
        assert len(plain.server.requests) == ranges
        download.clear_cache(forget_hashes=True)


def test_a_part_that_nobody_asked_for_is_no_file(plain):
    stump = answered(206, BODY[:1000], Content_Range="bytes 0-999/300000")
    plain.server.faults.append(stump)
    assert fetch([plain.source()], name="x").read_bytes() == BODY
    download.clear_cache()
    plain.server.always = stump
    assert "a part of the file, which was not asked for" in failure(plain.source(sha256=None))


# --- Faults that stay --------------------------------------------------------------------------

STAYING = {
    "truncated": (
        lambda go_on: truncated(100_000),
        False,
        "broke off at 65536 bytes|peer closed connection",
    ),
    "corrupt": (lambda go_on: other_bytes(CORRUPT), False, f"{OTHER_SHA}, expected {SHA}"),
    "stalled": (lambda go_on: held(100_000, go_on), False, "(?i)time"),
    "500": (lambda go_on: status(500), True, "HTTP 500"),
    "404": (lambda go_on: status(404, "EntryNotFound"), True, "HTTP 404"),
    "401": (lambda go_on: status(401, "GatedRepo"), True, "HTTP 401.*licence"),
    "403": (lambda go_on: status(403), True, "HTTP 403.*licence"),
}


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", STAYING)
def test_lasting_fault_is_explained_and_leaves_nothing_to_use(site, fault, go_on):
    make, also_head, reason = STAYING[fault]
    site.server.always = make(go_on)
    site.server.always_head = make(go_on) if also_head else None
    source = site.source()
    message = failure(source)
    assert re.search(reason, message), message
    assert source.address in message and str(source.place) in message
    assert cached(source) is None
    assert not source.place.exists()
    assert site.server.count("GET") <= 8
    site.heal()
    assert fetch([source], name="x").read_bytes() == BODY


def test_wrong_pin_is_refused_after_one_repetition(site):
    source = site.source(sha256=OTHER_SHA)
    message = failure(source)
    assert f"{SHA}, expected {OTHER_SHA} (pinned)" in message
    assert site.server.count("GET") == 2
    assert cached(source) is None
    assert cached(site.source()) is None or site.is_hub  # the hub's cache keeps what it has


def test_gated_repository_names_page_and_token(hub):
    hub.server.always_head = status(403, "GatedRepo")
    message = failure(hub.source())
    assert f"{hub.server.address}/timm/x, then set HF_TOKEN" in message


def test_connection_refused(monkeypatch, tmp_path):
    closed = f"http://127.0.0.1:{hub_server.unused_port()}"
    monkeypatch.setenv("HF_ENDPOINT", closed)
    hub_file, url = HubFile("timm/x", "m.bin", COMMIT, SHA), Url(closed + "/m.pth", "m.pth", SHA)
    message = failure([hub_file, url])
    assert message.count("refused") >= 2
    assert "nothing" in message.split("In the caches:")[1]
    assert not files_below(tmp_path)


def test_wrong_size_is_refused_before_the_transfer(plain):
    message = failure(plain.source(size=7))
    assert "the server offers 300000 bytes, expected 7" in message


def test_a_login_page_is_neither_used_nor_remembered(site, tmp_path):
    page = b"<!DOCTYPE html><title>Log in to the hotel</title>"
    site.server.faults.append(answered(200, page, Content_Type="text/html; charset=utf-8"))
    assert "sent a web page (text/html)" in failure(site.source(sha256=None))
    assert download.cache_entries() == []
    if site.is_hub:  # the hub itself states the hash
        assert fetch([site.source(sha256=None)], name="x").read_bytes() == BODY
        return
    with pytest.warns(download.FirstUseNotice, match=SHA):
        assert fetch([site.source(sha256=None)], name="x").read_bytes() == BODY


def test_an_empty_answer_is_no_file(plain):
    plain.server.always = answered(200, b"")
    assert "empty file" in failure(plain.source(sha256=None))
    assert not plain.source().place.exists()


@pytest.mark.parametrize("pins", [{"size": len(BODY)}, {"most": 500_000}, {"sha256": None}])
def test_a_body_without_end_is_left(site, pins, tmp_path, monkeypatch):
    monkeypatch.setattr(download.settings, "MOST", 1_000_000)
    sent = [0]
    site.server.always = endless(sent)
    assert "the server sends more than" in failure(site.source(**pins))
    assert sent[0] < 20_000_000  # what the sockets hold, beside the bytes that were read
    assert sum(path.stat().st_size for path in files_below(tmp_path)) <= 1_000_000


def test_too_large_a_file_is_refused_before_the_transfer(site):
    assert "more than the file can have" in failure(site.source(sha256=None, most=299_999))
    assert site.server.count("GET") == (0 if site.is_hub else 1)
    assert fetch([site.source(most=300_000)], name="x").read_bytes() == BODY


@pytest.mark.parametrize(
    "headers",
    [
        {"Location": "http://[broken/"},
        {"Location": "http://127.0.0.1:99999/"},
        {"Content-Length": "many"},
        {"Content-Encoding": "gzip"},
    ],
)
def test_a_malformed_answer_is_the_failure_of_one_source(plain, headers, monkeypatch):
    def malformed(handler, body):
        handler.send_response(302 if "Location" in headers else 200)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()

    plain.server.always = malformed
    with hub_server.plain() as other:
        other.files["/b.pth"] = BODY
        second = Url(other.address + "/b.pth", "b.pth", SHA)
        assert fetch([plain.source(sha256=None), second], name="x") == second.place


def test_what_the_libraries_raise_is_the_failure_of_one_source(plain, monkeypatch):
    def broken(*_, **__):
        raise AttributeError("an accident in a library")

    monkeypatch.setattr("requests.Session.get", broken)
    assert "malformed answer, AttributeError: an accident" in failure(plain.source())


def test_unknown_length_needs_a_hash(plain):
    plain.server.always = hub_server.without_length(100_000)
    assert "no length" in failure(plain.source(sha256=None))
    plain.server.always = hub_server.without_length()
    assert fetch([plain.source()], name="x").read_bytes() == BODY


# --- What a hub states -------------------------------------------------------------------------


def stating(**headers):
    """A hub that states these headers about its file."""
    usual = {"ETag": etag_of(BODY), "X_Linked_Etag": etag_of(BODY), "X_Repo_Commit": COMMIT}
    usual["X_Linked_Size"] = str(len(BODY))

    def fault(handler, body):
        answered(200, body, **usual | headers)(handler, body)

    return fault


@pytest.mark.parametrize("name", ["X_Linked_Etag", "ETag", "X_Repo_Commit"])
@pytest.mark.parametrize("value", ["{outside}", "../../../../outside", ".hidden", ""])
def test_what_a_hub_states_names_no_file_outside_of_the_cache(hub, tmp_path, name, value):
    outside = tmp_path / "outside"
    stated = value.format(outside=outside)
    hub.server.always = hub.server.always_head = stating(
        **{"X_Linked_Etag": "", "ETag": "" if name == "X_Linked_Etag" else etag_of(BODY)}
        | {name: stated}
    )
    message = failure(HubFile("timm/x", "model.safetensors", None))
    assert "the hub states" in message or "ETag" in message, message
    assert not outside.exists() and not files_below(tmp_path)
    assert hub.server.count("GET") == 0


def test_a_missing_file_names_no_place_either(hub, tmp_path):
    outside = tmp_path / "outside"
    headers = {"X_Error_Code": "EntryNotFound", "X_Repo_Commit": str(outside)}
    hub.server.always_head = answered(404, b"", **headers)
    assert "the hub states the commit" in failure(HubFile("timm/x", "model.safetensors", None))
    assert not outside.exists()


def test_a_hub_that_fails_once_is_still_watched(hub, tmp_path):
    """The hub library would begin a new session, which nobody watches, and wait for a minute."""
    outside = tmp_path / "outside"
    hub.server.head_faults += [status(503), status(503)]
    hub.server.always_head = stating(X_Linked_Etag=f'"{outside}"')
    assert "cannot name a file" in failure(hub.source())
    assert hub.server.count("HEAD") == 3 and not outside.exists()


def test_another_commit_than_the_pinned_one_is_refused(hub):
    other = COMMIT[::-1]
    hub.server.always_head = stating(X_Repo_Commit=other)
    assert f"answers for commit {other}, asked for was {COMMIT}" in failure(hub.source())
    assert hub.server.count("GET") == 0


def test_a_hub_that_states_another_size_is_refused_before_the_transfer(hub):
    assert "the hub offers 300000 bytes, expected 7" in failure(hub.source(size=7))
    assert hub.server.count("GET") == 0


@pytest.mark.parametrize(
    ("here", "location", "is_refused"),
    [
        ("https://a.org/x", "http://a.org/x", True),
        ("https://a.org/x", "//b.org/x", False),
        ("https://a.org/x", "/y", False),
        ("https://a.org/x", "HTTPS://b.org/x", False),
        ("http://a.org/x", "https://a.org/x", False),
        ("http://a.org/x", "http://b.org/x", False),
    ],
)
def test_no_hop_leaves_https(here, location, is_refused):
    import requests

    theirs = requests.Response()
    theirs.url, theirs.status_code, theirs.headers["Location"] = here, 302, location
    hubs = SimpleNamespace(
        request=SimpleNamespace(url=here), status_code=302, headers={"Location": location}
    )
    for check, response in ((answers.redirected, theirs), (hub_module._check_redirect, hubs)):
        expected = pytest.raises(SourceError, match="refused") if is_refused else nullcontext()
        with expected:
            check(response)


def test_redirects_are_followed_but_not_in_a_circle(plain):
    plain.server.files["/moved.pth"] = BODY
    plain.server.faults.append(redirected("/moved.pth"))
    assert fetch([plain.source()], name="x").read_bytes() == BODY
    download.clear_cache()
    plain.server.always = redirected("/w/model.pth")
    assert "redirected more than 10 times" in failure(plain.source())


@pytest.mark.parametrize("code", [302, 404])
def test_what_comes_with_a_redirect_or_an_error_is_not_read_for_ever(site, code):
    sent = [0]

    def fault(handler, body):
        handler.send_response(code)
        handler.send_header("Location", "/moved")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while sent[0] < 100_000_000:
            handler.wfile.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
            sent[0] += 1 << 16

    site.server.faults.append(fault)
    site.server.always = status(404)
    failure(site.source())
    assert sent[0] < 20_000_000


# --- Several processes, kills, full disks ------------------------------------------------------


def test_killed_half_way_then_good(site, go_on, tmp_path):
    reached = threading.Event()
    site.server.faults.append(held(200_000, go_on, reached))
    process = start(site.source())
    assert reached.wait(10)
    # Three whole chunks reach our part file. The hub library collects 10 MB before it writes.
    expected, deadline = 0 if site.is_hub else 3 << 16, time.monotonic() + 10
    while [p.stat().st_size for p in files_below(tmp_path)] != [expected]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    left = [p for p in files_below(tmp_path) if p.suffix in (".part", ".incomplete")]
    assert len(left) == 1 and left == files_below(tmp_path)
    assert cached(site.source()) is None
    assert fetch([site.source()], name="x").read_bytes() == BODY
    if not site.is_hub:
        assert site.server.requests[-1].range == "bytes=196608-"
        assert [p.name for p in files_below(tmp_path)] == ["model.pth"]


def test_two_processes_share_one_download(site, go_on):
    site.server.faults.append(held(200_000, go_on))
    processes = [start(site.source()), start(site.source())]
    threading.Event().wait(1.0)  # both are in `fetch` by now, one of them waits for the other
    go_on.set()
    outputs = [finish(process) for process in processes]
    paths = {out for out, _ in outputs}
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert len(paths) == 1 and Path(paths.pop()).read_bytes() == BODY
    assert site.server.count("GET") == 1, site.server.requests


def test_file_size_limit_is_a_full_disk(site, tmp_path):
    process = start(site.source(), limit=100_000)
    _, message = finish(process)
    assert process.returncode == 1 and "no room for the file" in message, message
    assert not files_below(tmp_path)


def mount(folder, *arguments) -> None:
    command = ["mount", "-t", "tmpfs", *arguments, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting needs rights that are not given here")


@pytest.fixture
def small_disk(tmp_path):
    """A disk with room for one file, not for two."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "-o", "size=500k")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(site, small_disk, monkeypatch):
    (small_disk / "other").write_bytes(BODY)
    monkeypatch.setenv("KERAS_CONVNEXT_HOME", str(small_disk / "home"))
    monkeypatch.setenv("HF_HOME", str(small_disk / "hf"))
    with pytest.MonkeyPatch.context() as quiet:  # the hub library's forecast is a warning
        quiet.setattr("huggingface_hub.file_download._check_disk_space", lambda *_: None)
        message = failure(site.source())
    assert "No space left on device" in message
    assert ("HF_HOME" if site.is_hub else "KERAS_CONVNEXT_HOME") in message
    assert [p.name for p in files_below(small_disk)] == ["other"]
    (small_disk / "other").unlink()
    assert fetch([site.source()], name="x").read_bytes() == BODY


# --- Offline, mirror, by hand ------------------------------------------------------------------


def test_offline(site, monkeypatch):
    variable = "HF_HUB_OFFLINE" if site.is_hub else "KERAS_CONVNEXT_OFFLINE"
    monkeypatch.setenv(variable, "1")
    assert f"{variable} is set, so no request was made" in failure(site.source())
    assert not site.server.requests
    monkeypatch.delenv(variable)
    path = fetch([site.source()], name="x")
    before = len(site.server.requests)
    monkeypatch.setenv(variable, "1")
    assert fetch([site.source()], name="x") == path
    path.write_bytes(CORRUPT)
    assert f"{path}: not used, its sha256 is {OTHER_SHA}" in failure(site.source())
    assert len(site.server.requests) == before


def test_without_a_network_it_is_over_at_once(monkeypatch):
    closed = f"http://127.0.0.1:{hub_server.unused_port()}"
    monkeypatch.setenv("HF_ENDPOINT", closed)
    monkeypatch.setattr(download.settings, "BACKOFF", 30.0)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
    sources = [HubFile("timm/x", "m.bin", COMMIT, SHA), Url(closed + "/m.pth", "m.pth", SHA)]
    message = failure(sources)
    assert message.count("no connection to 127.0.0.1") == 2
    first = message.splitlines()[0]
    assert "HF_HUB_OFFLINE=1" in first and "pass the path of a file" in first


def test_a_server_that_never_answers_is_asked_once(site, go_on, monkeypatch):
    monkeypatch.setattr(download.settings, "ANSWER_TIMEOUT", 0.3)
    site.server.always = site.server.always_head = hub_server.silent(go_on)
    message = failure(site.source())
    assert "no answer from 127.0.0.1" in message and "HF_HUB_OFFLINE=1" in message
    assert len(site.server.requests) == 1


def test_silence_in_a_download_that_began_is_no_end(plain, go_on, monkeypatch):
    """The server has answered: it is asked again, for the rest, with more patience."""
    monkeypatch.setattr(download.settings, "ANSWER_TIMEOUT", 0.3)
    monkeypatch.setattr(download.settings, "READ_TIMEOUT", 0.6)
    silent = hub_server.silent(go_on)
    plain.server.faults += [held(100_000, go_on), silent, status(503)]
    assert fetch([plain.source()], name="x").read_bytes() == BODY
    assert [r.range for r in plain.server.requests] == [None] + 3 * ["bytes=65536-"]


def test_a_name_that_is_looked_up_for_ever_costs_seconds(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: over.wait(20) and [])
    monkeypatch.setattr(download.settings, "CONNECT_TIMEOUT", 0.2)
    hosts = [Url(f"https://{host}.invalid/m.pth", "m.pth", SHA) for host in "abcdef"]
    start_of_it = time.monotonic()
    message = failure(hosts)
    over.set()
    assert time.monotonic() - start_of_it < 2
    assert message.count("no answer within 0.2 seconds") == 6


@pytest.mark.parametrize("host", ["127.0.0.1:99999", "a" * 70 + ".invalid"])
def test_a_host_that_cannot_be_is_out_of_reach(host):
    assert "no connection to" in failure(Url(f"http://{host}/m.pth", "m.pth", SHA))


def test_a_host_out_of_reach_does_not_keep_from_the_next(plain):
    closed = Url(f"http://127.0.0.1:{hub_server.unused_port()}/m.pth", "closed.pth", SHA)
    assert fetch([closed, plain.source()], name="x") == plain.source().place


def test_a_hub_out_of_reach_leaves_what_its_cache_has(hub, monkeypatch):
    source = HubFile("timm/x", "model.safetensors", None)
    path = fetch([source], name="x")
    monkeypatch.setattr(download.network, "unreachable", lambda sources: {})
    hub.server.shutdown()
    hub.server.server_close()
    monkeypatch.setattr(download.settings, "ATTEMPTS", 1)
    assert fetch([source], name="x") == path


def test_moving_main_offline(hub, monkeypatch):
    source = HubFile("timm/x", "model.safetensors", None)
    path = fetch([source], name="x")
    before = len(hub.server.requests)
    monkeypatch.setenv("KERAS_CONVNEXT_OFFLINE", "1")
    assert fetch([source], name="x") == path
    assert "KERAS_CONVNEXT_OFFLINE is set" in failure(HubFile("timm/y", "model.bin", None))
    assert len(hub.server.requests) == before


def test_mirror_first_then_the_original(plain, monkeypatch):
    with hub_server.plain() as mirror:
        monkeypatch.setenv("KERAS_CONVNEXT_MIRROR", mirror.address + "/weights/")
        mirror.files["/weights/model.pth"] = BODY
        assert fetch([plain.source()], name="x").read_bytes() == BODY
        assert (mirror.count("GET"), plain.server.count("GET")) == (1, 0)
        download.clear_cache()
        mirror.files["/weights/model.pth"] = CORRUPT
        assert fetch([plain.source()], name="x").read_bytes() == BODY
        assert (mirror.count("GET"), plain.server.count("GET")) == (3, 1)


def test_file_put_there_by_hand_is_verified(site):
    source = site.source()
    source.place.parent.mkdir(parents=True)
    source.place.write_bytes(BODY)
    assert fetch([source], name="x") == source.place
    assert not site.server.requests
    source.place.write_bytes(CORRUPT)
    assert cached(source) is None


# --- Hashes nobody published -------------------------------------------------------------------


def test_first_use_is_said_once_then_compared(plain):
    source = plain.source(sha256=None)
    with pytest.warns(download.FirstUseNotice, match=SHA):
        path = fetch([source], name="x")
    assert fetch([source], name="x") == path
    download.clear_cache([path])
    plain.put(CORRUPT)
    message = failure(source)
    assert f"its sha256 is {OTHER_SHA}, expected {SHA} (recorded at first use" in message
    assert not path.exists()
    download.clear_cache(forget_hashes=True)
    with pytest.warns(download.FirstUseNotice, match=OTHER_SHA):
        assert fetch([source], name="x").read_bytes() == CORRUPT


def test_the_message_says_how_to_forget(plain):
    source = plain.source(sha256=None)
    with pytest.warns(download.FirstUseNotice, match=SHA):
        path = fetch([source], name="x")
    download.clear_cache([path])
    plain.put(CORRUPT)
    message = failure(source)
    assert f"download.forget('{source.url}')" in message and "cache clear" in message
    assert download.forget(source.url) and not download.forget(source.url)
    with pytest.warns(download.FirstUseNotice, match=OTHER_SHA):
        assert fetch([source], name="x").read_bytes() == CORRUPT


def test_only_what_could_be_read_is_recorded(plain):
    def read(path):
        if path.read_bytes() != BODY:
            raise ValueError("no weights")

    source = plain.source(sha256=None)
    plain.put(CORRUPT)
    with pytest.raises(DownloadError, match="cannot be read as weights .no weights"):
        fetch([source], name="x", check=read)
    assert not source.place.exists() and plain.server.count("GET") == 1
    source.place.write_bytes(CORRUPT)  # as if by hand
    assert cached(source) == source.place  # which records nothing
    plain.put(BODY)
    with pytest.warns(download.FirstUseNotice, match=SHA):
        assert fetch([source], name="x", check=read).read_bytes() == BODY
    # no hash has to be taken on trust a second time
    fetch([source], name="x", check=lambda path: pytest.fail("it is checked again"))


def test_first_use_is_not_forgotten_with_a_damaged_record(plain):
    with pytest.warns(download.FirstUseNotice):
        fetch([plain.source(sha256=None)], name="x")
    (download.cache_dir() / "hashes.json").write_text('{"sources": ')
    assert "hashes.json cannot be read" in failure(plain.source(sha256=None))


def test_published_prefix_is_checked(plain):
    source = plain.source(sha256=None, sha256_prefix=SHA[:8])
    with pytest.warns(download.FirstUseNotice, match=SHA):
        fetch([source], name="x")
    wrong = Url(source.url, "other.pth", sha256_prefix="00000000")
    assert f"{SHA}, expected 00000000 (the publisher's" in failure(wrong)


def test_unpinned_hub_file_is_compared_with_what_the_hub_states(hub):
    hub.server.always = other_bytes(CORRUPT)
    source = hub.source(sha256=None)
    assert f"{OTHER_SHA}, expected {SHA} (stated by the hub)" in failure(source)
    hub.heal()
    assert fetch([source], name="x").read_bytes() == BODY


def test_read_only_cache_still_serves(plain, small_disk, monkeypatch):
    monkeypatch.setenv("KERAS_CONVNEXT_HOME", str(small_disk / "home"))
    path = fetch([plain.source()], name="x")
    (download.cache_dir() / "hashes.json").unlink()
    mount(small_disk, "-o", "remount,ro")
    assert fetch([plain.source()], name="x") == path
    with pytest.warns(download.FirstUseNotice, match="could not be recorded"):
        assert fetch([plain.source(sha256=None)], name="x") == path
    assert "Read-only file system" in failure(Url(plain.server.address + "/w/b", "b", SHA))
    assert plain.server.count("GET") == 1, plain.server.requests


# --- Safety ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/etc/passwd", "C:\\x", "a\\b", ".hidden", "a//b", "", "x\0", "~/x"],
)
def test_names_cannot_leave_the_cache(name):
    with pytest.raises(ValueError, match="plain relative name"):
        Url("https://example.org/x", name)
    with pytest.raises(ValueError, match="plain relative name"):
        HubFile("timm/x", name, COMMIT)
    with pytest.raises(ValueError, match="plain relative name"):
        HubFile(name, "x", COMMIT)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/x", "x.pth", "https://"])
def test_other_schemes_are_refused(url, monkeypatch):
    with pytest.raises(ValueError, match="http"):
        Url(url, "x")
    for variable in ("KERAS_CONVNEXT_MIRROR", "HF_ENDPOINT"):
        monkeypatch.setenv(variable, url)
    with pytest.raises(ValueError, match="KERAS_CONVNEXT_MIRROR"):
        fetch([Url("https://example.org/x", "x")], name="x")
    with pytest.raises(ValueError, match="HF_ENDPOINT"):
        fetch([HubFile("timm/x", "x", COMMIT)], name="x")


@pytest.mark.parametrize("field", [{"sha256": "abc"}, {"sha256_prefix": "ABCDEF01"}, {"size": 0}])
def test_malformed_pins_are_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        Url("https://example.org/x", "x", **field)


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/x"])
def test_redirect_to_another_scheme_is_refused(site, location, tmp_path):
    site.server.always = redirected(location)
    site.server.always_head = redirected(location)
    assert location.split(":")[0] in failure(site.source())
    assert not files_below(tmp_path)


# --- Notices, entries, clearing ----------------------------------------------------------------


def test_licence_is_said_once_per_checkpoint(plain):
    terms = {"licence": "CC-BY-NC-4.0", "licence_url": "https://example.org/terms"}
    with pytest.warns(download.LicenceNotice, match=r"'v2'.*CC-BY-NC-4.0.*example.org/terms"):
        fetch([plain.source()], name="v2", **terms)
    fetch([plain.source()], name="v2", **terms)
    with pytest.warns(download.LicenceNotice, match="'v3'"):
        fetch([plain.source()], name="v3", **terms)


def test_entries_and_clearing(site, tmp_path):
    source = site.source()
    path = fetch([source], name="x")
    (entry,) = download.cache_entries()
    assert (entry.path, entry.size, entry.sha256) == (path, len(BODY), SHA)
    assert entry.source.endswith(("model.pth", f"hf://timm/x@{COMMIT}/model.safetensors"))
    assert entry.used == entry.verified[:10] and entry.shared == site.is_hub
    if site.is_hub:
        with pytest.raises(ValueError, match="hf cache rm"):
            download.clear_cache([path])
    assert bool(download.clear_cache()) != site.is_hub
    assert path.exists() == site.is_hub
    assert bool(download.cache_entries()) == site.is_hub


def test_clearing_leaves_what_another_process_downloads(plain, go_on):
    reached = threading.Event()
    plain.server.faults.append(held(200_000, go_on, reached))
    process = start(plain.source())
    assert reached.wait(10)
    assert download.clear_cache() == []
    go_on.set()
    out, _ = finish(process)
    assert Path(out).read_bytes() == BODY


def test_sha256_of(tmp_path):
    (tmp_path / "x").write_bytes(BODY)
    assert download.sha256_of(tmp_path / "x") == SHA

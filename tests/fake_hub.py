"""A small Hugging Face hub on this machine: the few requests that pulling a model makes, answered as the hub does."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".bin", ".onnx")  # what the hub keeps by sha256, elsewhere


@dataclass
class Repository:
    """Files by name; `stated` are contents whose digests the hub states in place of the true ones."""

    files: dict[str, bytes]
    gated: bool = False
    stated: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, **more: Any) -> Repository:
        return cls({file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}, **more)

    def digest(self, name: str) -> str:
        content = self.stated.get(name, self.files[name])
        if name.endswith(LARGE):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

    def sibling(self, name: str) -> dict[str, Any]:
        size = len(self.files[name])
        entry: dict[str, Any] = {"rfilename": name, "size": size, "blobId": "1" * 40}
        if name.endswith(LARGE):
            return {**entry, "lfs": {"sha256": self.digest(name), "size": size, "pointerSize": 134}}
        return {**entry, "blobId": self.digest(name)}


class Hub:
    """The server's state: what it has, what it was asked, and after how many bytes it hangs up once."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str, str | None]] = []  # method, path, Range
        self.hang_up_after: int | None = None
        self.url = ""

    def asked_for(self, name: str) -> list[tuple[str, str, str | None]]:
        """The requests for the content of a file."""
        return [item for item in self.requests if item[0] == "GET" and item[1].endswith(f"/{name}")]


@contextmanager
def running() -> Iterator[Hub]:
    """A hub on a free port of the loopback interface."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = self.path.partition("?")[0]
            hub.requests.append((self.command, path, self.headers.get("Range")))
            parts = path.strip("/").split("/")
            content = parts[:1] == ["content"]
            name = "/".join(parts[1:3] if content or parts[0] == "api" else parts[:2])
            name = "/".join(parts[2:4]) if parts[0] == "api" else name
            repository = hub.repositories.get(name)
            if repository is None:
                self.refuse(401, "RepoNotFound", "Repository not found")
            elif parts[0] == "api":
                listing = [repository.sibling(file) for file in repository.files]
                self.reply(json.dumps({"id": name, "sha": COMMIT, "siblings": listing}).encode(), body, {})
            elif repository.gated:
                self.refuse(403, "GatedRepo", "Access to this model is restricted")
            elif content:
                self.reply(repository.files["/".join(parts[3:])], body, {})
            else:
                self.resolve(repository, name, "/".join(parts[4:]), body)

        def resolve(self, repository: Repository, name: str, file: str, body: bool) -> None:
            if file not in repository.files:
                self.refuse(404, "EntryNotFound", "Entry not found")
                return
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{repository.digest(file)}"'}
            if not file.endswith(LARGE):
                self.reply(repository.files[file], body, headers)
                return
            self.send_response(302)
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(repository.files[file]))}
            # Another host name, as the hub's own store has: only then do clients take the headers of this answer.
            elsewhere = hub.url.replace("127.0.0.1", "localhost")
            headers |= {"Location": f"{elsewhere}/content/{name}/{file}", "Content-Length": "0"}
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()

        def reply(self, data: bytes, body: bool, headers: dict[str, str]) -> None:
            start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
            self.send_response(206 if start else 200)
            total, data = len(data), data[start:]
            for key, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(key, value)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            self.end_headers()
            if body and hub.hang_up_after is not None and len(data) > hub.hang_up_after:
                self.wfile.write(data[: hub.hang_up_after])
                hub.hang_up_after = None
                self.close_connection = True
            elif body:
                self.wfile.write(data)

        def refuse(self, status: int, code: str, message: str) -> None:
            self.send_response(status)
            for key, value in {"X-Error-Code": code, "X-Error-Message": message, "Content-Length": "0"}.items():
                self.send_header(key, value)
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

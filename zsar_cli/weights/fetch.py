"""One file from the web, for models that are no repository of a hub. Only what the user asked to pull comes here."""

from __future__ import annotations

import http.client
import shutil
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

from zsar_cli.errors import ModelError, UsageError

__all__ = ["fetch"]

LIMIT = 500_000_000  # bytes; the largest such model known has 153 MB
PATIENCE = 30.0  # seconds without a byte
BLOCK = 1 << 20


def fetch(url: str, target: Path, limit: int | None = None, resume: bool = False) -> None:
    """Write what a web address gives to a file. Its content is for the caller to check.

    Args:
        limit: bytes of which no such file has more; None is `LIMIT`.
        resume: go on behind what the file holds already, where the server can.

    Raises:
        UsageError: the address is not http or https.
        ModelError: it cannot be fetched whole, is larger than any such model, or than the disk has room.
    """
    if not url.startswith(("https://", "http://")):
        raise UsageError(f"--url {url}: give an address that starts with https:// or http://")
    there = target.stat().st_size if resume and target.exists() else 0
    headers = {"User-Agent": "zsar"} | ({"Range": f"bytes={there}-"} if there else {})
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            there = there if answer.status == HTTPStatus.PARTIAL_CONTENT else 0
            _write(url, answer, target, there, LIMIT if limit is None else limit)
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError is an OSError
        reason = getattr(error, "reason", None) or error
        if there and getattr(error, "code", None) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is behind what is there
        code = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
        raise ModelError(f"{url}: cannot be fetched: {code}{reason}; check the address and the network") from None


def _write(url: str, answer: http.client.HTTPResponse, target: Path, there: int, limit: int) -> None:
    """Write an answer behind what is `there`, bytes of it.

    Raises:
        ModelError: it is too large, breaks off, or the disk has no room for it.
    """
    length = answer.headers.get("Content-Length")
    stated = None if length is None else there + int(length)
    if stated is not None and stated - there > shutil.disk_usage(target.parent).free:
        raise ModelError(f"{url}: has {stated / 1e6:.0f} MB, for which {target.parent} has no room; make some")
    with open(target, "ab" if there else "wb") as file:
        while block := answer.read(BLOCK):
            file.write(block)
            if file.tell() > limit:
                raise ModelError(f"{url}: sends more than {limit / 1e6:.0f} MB; this is no such model")
        if stated is not None and file.tell() != stated:
            raise ModelError(f"{url}: broke off after {file.tell()} of {stated} bytes; run it again")

"""One file from the web, for models that are no repository of a hub. Only what the user asked to pull comes here."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from pathlib import Path

from zsar_cli.errors import ModelError, UsageError

__all__ = ["fetch"]

LIMIT = 500_000_000  # bytes; the largest such model known has 153 MB
PATIENCE = 30.0  # seconds without a byte
BLOCK = 1 << 20


def fetch(url: str, target: Path) -> None:
    """Write what a web address gives to a file. Its content is for the caller to check.

    Raises:
        UsageError: the address is not http or https.
        ModelError: it cannot be fetched whole, or is larger than any such model.
    """
    if not url.startswith(("https://", "http://")):
        raise UsageError(f"--url {url}: give an address that starts with https:// or http://")
    request = urllib.request.Request(url, headers={"User-Agent": "zsar"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer, open(target, "wb") as file:
            stated = answer.headers.get("Content-Length")
            while block := answer.read(BLOCK):
                file.write(block)
                if file.tell() > LIMIT:
                    raise ModelError(f"{url}: sends more than {LIMIT / 1e6:.0f} MB; this is no such model")
            if stated is not None and file.tell() != int(stated):
                raise ModelError(f"{url}: broke off after {file.tell()} of {stated} bytes; run it again")
    except (OSError, ValueError, http.client.HTTPException) as error:  # URLError is an OSError
        reason = getattr(error, "reason", None) or error
        code = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
        raise ModelError(f"{url}: cannot be fetched: {code}{reason}; check the address and the network") from None

"""Models of the hub from elsewhere: a folder or a web address with their files and SHA256SUMS.

They are put where the hub's own downloads lie, so that everything finds them there. A download that broke off is taken
up where it broke.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from zsar_cli.digests import sha256_of
from zsar_cli.errors import ModelError
from zsar_cli.weights.fetch import fetch
from zsar_cli.weights.hub import SUMS, HubFile, choose

__all__ = ["pull_from"]

LINE = re.compile(r"([0-9a-f]{64}) [ *]((?:\d+_\w+/)?[^/\\\0]+)")  # a folder is that of a part of an encoder
COMMIT = re.compile(r"[0-9a-f]{40}")
LARGEST = 50_000_000_000  # bytes of one file


def pull_from(source: str, repo: str, revision: str | None = None, *, force: bool = False) -> Path:
    """Put a model from a mirror into the Hugging Face cache, each file compared with its sha256.

    Args:
        source: a folder, or an address that begins with http:// or https://.
        repo: "org/name", whose files they are.
        revision: whose place they take; None is the branch 'main'.
        force: fetch again what is there already.

    Returns:
        the folder that holds the model.

    Raises:
        ModelError: the mirror has no list of sums or no model, a file is not what the list says, or the disk is full.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    try:
        (cache / "blobs").mkdir(parents=True, exist_ok=True)
        sums = _sums(source, cache)
        wanted = choose(repo, [HubFile(name, 0, digest) for name, digest in sums.items()])
        blobs = {file.name: _blob(source, file, cache / "blobs", force) for file in wanted}
        return _snapshot(cache, blobs, revision)
    except OSError as error:
        raise ModelError(f"{cache}: cannot be written: {error.strerror or error}; make room and run it again") from None


def _sums(source: str, cache: Path) -> Mapping[str, str]:
    """Digest of each file that the mirror lists.

    Raises:
        ModelError: there is no list, or a line of it is none.
    """
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        _get(source, SUMS, Path(folder) / SUMS)
        lines = (Path(folder) / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    found = {}
    for line in filter(None, lines):
        parts = LINE.fullmatch(line)
        if parts is None or parts[2].rpartition("/")[2] in (".", ".."):
            raise ModelError(f"{source}: its {SUMS} has the line {line[:80]!r}; a line is a sha256 and a file's name")
        found[parts[2]] = parts[1]
    return found


def _blob(source: str, file: HubFile, blobs: Path, force: bool) -> Path:
    """The file under its digest. Raises ModelError where what comes has another."""
    target = blobs / file.digest
    if target.is_file() and not force and sha256_of(target) == file.digest:
        return target
    part = blobs / f"{file.digest}.incomplete"
    _get(source, file.name, part)
    if sha256_of(part) != file.digest:
        part.unlink()
        raise ModelError(f"{source}: {file.name} is damaged: its sha256 is not the {file.digest[:16]}... of its {SUMS}")
    os.replace(part, target)
    return target


def _get(source: str, name: str, target: Path) -> None:
    if source.startswith(("http://", "https://")):
        fetch(f"{source.rstrip('/')}/{name}", target, limit=LARGEST, resume=True)
        return
    file = Path(source) / name
    if not file.is_file():
        raise ModelError(
            f"{file}: no such file; a mirror is a folder or a web address with {SUMS} and the files it lists"
        )
    shutil.copyfile(file, target)


def _snapshot(cache: Path, blobs: Mapping[str, Path], revision: str | None) -> Path:
    """A folder of links to the files, under a name that the revision leads to."""
    name = revision or "main"
    if COMMIT.fullmatch(name):
        commit = name
    else:
        commit = hashlib.sha256(
            "".join(f"{blob.name} {key}\n" for key, blob in sorted(blobs.items())).encode()
        ).hexdigest()[:40]
        (cache / "refs" / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / "refs" / name).write_text(commit)
    folder = cache / "snapshots" / commit
    folder.mkdir(parents=True, exist_ok=True)
    for key, blob in blobs.items():
        link = folder / key
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return folder

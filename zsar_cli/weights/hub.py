"""The Hugging Face hub: models the user named are pulled into its standard cache, found there, and verified.

Only `pull` uses the network. Where the cache is (HF_HOME), which server is asked (HF_ENDPOINT), tokens and
HF_HUB_OFFLINE are the business of the huggingface_hub package, as for every other program on the machine.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zsar_cli.digests import sha256_of
from zsar_cli.errors import ModelError
from zsar_cli.plain import read_json
from zsar_cli.weights.checkpoint import PICKLES, of_text_alone
from zsar_cli.weights.openclip import CONFIG
from zsar_cli.weights.openclip import WEIGHTS as WEIGHTS_OF_OPEN_CLIP

__all__ = ["MODULES", "Checked", "HubFile", "choose", "find_snapshot", "pull", "verify_folder", "verify_snapshot"]

SUMS = "SHA256SUMS"  # beside weights that were converted here; `sha256sum -c` reads it too
WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
SIDE_FILES = ("*.json", "*.txt", "*.model")  # configuration, processor, tokenizer
MODULES = "modules.json"  # what a folder of sentence-transformers lists its parts in
OF_MODULES = re.compile(r"\d+_\w+/(config\.json|model\.safetensors)")
SIDE_FILE_LIMIT = 50_000_000  # bytes; tokenizers of 256,000 pieces have 35 MB
SHA256, GIT_SHA1 = 64, 40  # hex digits; the cache names large files by the first, small ones by the second


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: its size in bytes, and the digest the hub knows it by."""

    name: str
    size: int
    digest: str


@dataclass(frozen=True)
class Checked:
    """A file whose content has the digest it should have; `algorithm` is "sha256" or "git-sha1"."""

    file: str
    algorithm: str
    digest: str


def find_snapshot(repo: str, revision: str | None = None) -> Path | None:
    """The folder of a pulled model in the cache, or None. Never uses the network."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json", CONFIG):
        config = try_to_load_from_cache(repo, name, revision=revision)
        if isinstance(config, str):
            return Path(config).parent
    return None


def pull(repo: str, revision: str | None = None, *, force: bool = False, progress: bool = False) -> Path:
    """Download a model into the Hugging Face cache and compare every file with its digest.

    Files that are there already are not downloaded again; a broken connection is taken up where it broke.

    Args:
        repo: "org/name".
        revision: commit, tag or branch; None is the branch 'main'.
        force: download files anew that are there already.
        progress: draw bars on stderr.

    Returns:
        the folder that holds the model.

    Raises:
        ModelError: the repository is missing, gated or holds no model that zsar reads; the network fails or is
            forbidden; a file is not what the hub says it is.
    """
    from huggingface_hub import HfApi, hf_hub_download

    with _one_line_errors(repo), _bars(progress):
        info = HfApi().model_info(repo, revision=revision, files_metadata=True)
        files = []
        for item in info.siblings or ():
            digest = item.lfs.sha256 if item.lfs else item.blob_id
            files.append(HubFile(item.rfilename, item.size or 0, digest or ""))
        wanted = choose(repo, files)
        paths = {}
        for file in wanted:  # the small files first, so that a model of another kind is known before the large ones
            paths[file.name] = Path(hf_hub_download(repo, file.name, revision=revision, force_download=force))
            if file.name == "config.json" == wanted[0].name and MODULES not in {one.name for one in wanted}:
                _require_vision(repo, paths[file.name])
    for file in wanted:
        if not _digest_matches(paths[file.name], file.digest):
            _remove(paths[file.name])
            raise ModelError(
                f"{repo}: {file.name} is damaged: its content has not the digest {file.digest[:16]}... that the hub "
                f"states; it was removed, run again: zsar models pull {repo}"
            )
    return paths[wanted[0].name].parent


def choose(repo: str, files: Sequence[HubFile]) -> list[HubFile]:
    """The files zsar needs: the configuration, for Transformers or else for open_clip, first and weights last.

    Of a sentence encoder those in the folders of its parts, too.

    Raises:
        ModelError: there is no configuration, or there are no weights that are safe to read.
    """
    names = {file.name for file in files}
    of_open_clip = next((name for name in WEIGHTS_OF_OPEN_CLIP if name in names), None) if CONFIG in names else None
    weights = [file for file in files if WEIGHTS.fullmatch(file.name)]
    if "model.safetensors" in names:
        weights = [file for file in weights if file.name == "model.safetensors"]
    main = "config.json"
    if of_open_clip is not None and not (weights and main in names):
        main, weights = CONFIG, [file for file in files if file.name == of_open_clip]
    if not weights and any(fnmatch.fnmatch(name, pattern) for name in names for pattern in PICKLES):
        folder = repo.rpartition("/")[2]
        raise ModelError(
            f"{repo}: has only pickled weights, which could run any code when read; make a safe copy: "
            f"hf download {repo} --local-dir {folder}-pickled && zsar models convert {folder}-pickled -o {folder}; "
            f"or take a revision that has safetensors: zsar models pull {repo}@REVISION"
        )
    if main not in names or not weights:
        raise ModelError(f"{repo}: holds no model of Transformers (config.json, model.safetensors) or open_clip")
    side = [file for file in files if _is_side(file) or (MODULES in names and OF_MODULES.fullmatch(file.name))]
    return sorted(side, key=lambda file: (file.name != main, file.name)) + weights


def _is_side(file: HubFile) -> bool:
    """Configuration, processor or tokenizer."""
    if file.size > SIDE_FILE_LIMIT or "/" in file.name:
        return False
    return any(fnmatch.fnmatchcase(file.name, pattern) for pattern in SIDE_FILES)


def verify_snapshot(folder: Path) -> list[Checked]:
    """Compare a pulled model's files with the digests the cache names them by. Needs no network.

    Raises:
        ModelError: a file is damaged, or the cache keeps no digests (on systems without symbolic links).
    """
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest = file.resolve().name
        if not file.is_symlink() or len(digest) not in (SHA256, GIT_SHA1):
            raise ModelError(f"{file}: the cache here keeps no digest to compare with; pull it again with --force")
        if not _digest_matches(file, digest):
            raise ModelError(
                f"{file} is damaged: its content has not the digest {digest[:16]}...; pull it with --force"
            )
        name = file.relative_to(folder).as_posix()
        found.append(Checked(name, "sha256" if len(digest) == SHA256 else "git-sha1", digest))
    return found


def verify_folder(folder: Path) -> list[Checked]:
    """Compare a folder's files with its SHA256SUMS.

    Raises:
        ModelError: a file is missing or damaged, or there is no such list.
    """
    sums = folder / SUMS
    if not sums.is_file():
        raise ModelError(f"{folder}: has no {SUMS} to compare with; make one: cd {folder} && sha256sum * > {SUMS}")
    found = []
    for line in sums.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        digest, _, name = line.partition(" ")
        file = folder / name.lstrip(" *")
        if not file.is_file():
            raise ModelError(f"{file}: is missing, but {SUMS} lists it")
        if sha256_of(file) != digest:
            raise ModelError(f"{file} is damaged: its sha256 is not the {digest[:16]}... that {SUMS} states")
        found.append(Checked(file.name, "sha256", digest))
    return found


def _require_vision(repo: str, config: Path) -> None:
    """Refuse what is plainly a model of text alone before gigabytes of it are downloaded."""
    content = read_json(config, ModelError)
    if not isinstance(content, dict):
        raise ModelError(f"{repo}: its config.json is not a model's configuration")
    if of_text_alone(content):
        kind = content.get("model_type", "unknown")
        raise ModelError(
            f"{repo}: is a model of text alone ({kind}); zsar needs one that sees images or videos, or a "
            f"sentence encoder in the layout of sentence-transformers ({MODULES})"
        )


def _digest_matches(file: Path, digest: str) -> bool:
    if len(digest) == SHA256:
        return sha256_of(file) == digest
    content = file.read_bytes()  # as git names a file: small ones are not stored by sha256
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == digest


def _remove(file: Path) -> None:
    file.resolve().unlink(missing_ok=True)
    file.unlink(missing_ok=True)


@contextlib.contextmanager
def _bars(shown: bool) -> Iterator[None]:
    from huggingface_hub import utils

    before = utils.are_progress_bars_disabled()  # type: ignore[attr-defined]
    if not shown:
        utils.disable_progress_bars()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if not before:
            utils.enable_progress_bars()  # type: ignore[attr-defined]


@contextlib.contextmanager
def _one_line_errors(repo: str) -> Iterator[None]:
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise ModelError(
            f"{repo}: is gated; accept its terms on its page of the hub while signed in, then run: hf auth login"
        ) from None
    except errors.RepositoryNotFoundError:
        raise ModelError(
            f"{repo}: the hub has no such model, or it is private; check the spelling or run: hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"{repo}: the hub has no such revision of it; leave it out for the newest: {repo}") from None
    except errors.OfflineModeIsEnabled:
        raise ModelError(f"{repo}: HF_HUB_OFFLINE is set, so nothing is downloaded; unset it to pull") from None
    except errors.HFValidationError:
        raise ModelError(f"{repo}: is no hub id; a hub id looks like org/name") from None
    except (OSError, errors.HTTPError) as error:  # type: ignore[attr-defined]  # the root of the HTTP library's errors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{repo}: cannot be downloaded: {reason}; check the network and run it again") from None

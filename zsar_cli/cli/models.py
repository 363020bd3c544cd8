"""`zsar models list | info | recommend | add | pull | verify | convert`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zsar_cli.cli import options
from zsar_cli.cli.console import Messages, without_banner
from zsar_cli.cli.guard import guarded
from zsar_cli.cli.model_facts import (
    accuracy_of,
    added_facts,
    added_models,
    bundle_facts,
    facts_of,
    lines_of,
    place_of,
    text_facts,
)
from zsar_cli.cli.options import option
from zsar_cli.cli.pages import Commands
from zsar_cli.cli.recommend import Licence, recommend, recommended
from zsar_cli.errors import UsageError
from zsar_cli.labels import meant

if TYPE_CHECKING:
    from zsar_cli.weights.catalogue import Entry
    from zsar_cli.weights.hub import Checked
    from zsar_cli.weights.text_entries import TextEntry

__all__ = ["app"]

FORMATS = ("table", "json")

app = Commands(help="List models, get them, check their weights.")

Name = Annotated[
    str,
    typer.Argument(
        help="A name of `zsar models list`, a hub id (org/name or org/name@revision) or a local folder.", metavar="NAME"
    ),
]
Format = Annotated[str, option("--format", "table or json.", "-f", panel=options.OUTPUT, metavar="NAME")]
Force = Annotated[bool, option("--force", "Download again what is there already.")]
Offline = Annotated[bool, option("--offline", "Refuse to download anything.")]
Url = Annotated[
    str | None, option("--url", "Mirror of a .tflite file.", show_default="the publisher's", metavar="ADDRESS")
]
From = Annotated[
    str | None,
    option(
        "--from",
        "A mirror of a hub model: a folder or a web address with its files and SHA256SUMS.",
        show_default="the hub",
        metavar="DIR|URL",
    ),
]
MaybeName = Annotated[
    str | None,
    typer.Argument(
        help="A name of `zsar models list` or a hub id (org/name or org/name@revision); without one the model that "
        "`zsar models recommend` names.",
        metavar="[NAME]",
        show_default=False,
    ),
]
Target = Annotated[Path, typer.Option("--output", "-o", help="The new folder.", metavar="FOLDER")]


def list_models(format: Format = "table") -> None:
    """Show the models that have a short name, which of them are here, and whose accuracy was measured for zsar.

    Those of the kind text are sentence encoders, for --text-encoder.

    Example: zsar models list
    """
    from zsar_cli.weights.catalogue import ENTRIES
    from zsar_cli.weights.text_entries import TEXT_ENTRIES

    entries = list(ENTRIES.values())
    own = [name for name in added_models().names() if name not in ENTRIES]
    if _as_json(format):
        facts = [facts_of(entry) for entry in entries] + [added_facts(name) for name in own]
        facts += [text_facts(entry) for entry in TEXT_ENTRIES.values()]
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for title in ("name", "kind", "input", "MB", "licence", "accuracy", "here"):
        table.add_column(title, overflow="fold", justify="right" if title in ("input", "MB") else "left")
    for entry in entries:
        here = "yes" if place_of(entry.name) else "no"
        size = "?" if entry.megabytes is None else f"{entry.megabytes:.0f}"
        table.add_row(
            entry.name, entry.kind, f"{entry.frames} x {entry.size}", size, entry.licence or "?",
            accuracy_of(entry).split()[0], here,
        )  # fmt: skip
    for name in own:
        table.add_row(name, "litert", "?", "?", "?", "unknown", "yes")
    for text in TEXT_ENTRIES.values():
        here = "yes" if place_of(text.name) else "no"
        table.add_row(text.name, "text", "text", f"{text.megabytes:.0f}", text.licence, "unknown", here)
    Console(highlight=False).print(table)


def info(name: Name, format: Format = "table") -> None:
    """Show all that is known of one model: source, licence, sizes, accuracy and who measured it, where it is.

    Example: zsar models info rest-exercises
    """
    from zsar_cli.weights.catalogue import ALIASES, ENTRIES, locate
    from zsar_cli.weights.text_entries import TEXT_ENTRIES

    entry = ENTRIES.get(ALIASES.get(name, name))
    if name in TEXT_ENTRIES:
        facts = text_facts(TEXT_ENTRIES[name])
    elif entry is not None:
        facts = facts_of(entry)
        if entry.kind == "rest":
            facts |= bundle_facts(locate(entry.name).path)
    elif name in added_models().names():
        facts = added_facts(name)
    elif not Path(name).exists() and "/" not in name:
        near = meant(name, [*ENTRIES, *ALIASES, *TEXT_ENTRIES])
        raise UsageError(f"{name}: no model of that name; 'zsar models list' shows all{near}")
    else:
        facts = {"name": name, "folder": str(locate(name).path), **bundle_facts(locate(name).path)}
    if _as_json(format):
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for line in lines_of(facts):
        typer.echo(line)


def pull(
    name: MaybeName = None,
    force: Force = False,
    offline: Offline = False,
    licence: Licence = None,
    mirror: From = None,
    url: Url = None,
    seen_labels: options.SeenLabels = None,
    quiet: options.Quiet = False,
) -> None:
    """Download a model's weights into the Hugging Face cache (HF_HOME) and check them.

    Size and licence are said first. Weights are safetensors, or pickles that are read without running code; no code is
    downloaded. A connection that breaks is taken up again where it broke. HF_ENDPOINT names another server of the hub.
    A .tflite model is fetched from its publisher, compared with its sha256, and added to your models.

    Example: zsar models pull movinet
    """
    from zsar_cli.weights.catalogue import ALIASES, ENTRIES, hub_source
    from zsar_cli.weights.hub import MODULES
    from zsar_cli.weights.hub import pull as download
    from zsar_cli.weights.text_entries import TEXT_ENTRIES

    messages = Messages(quiet)
    name = _to_pull(name, licence, messages)
    if name is None:
        return
    entry = ENTRIES.get(ALIASES.get(name, name))
    if entry is not None and entry.url is not None and mirror is None:
        _pull_file(entry, url or entry.url, seen_labels, force, offline, messages)
        return
    if url is not None or seen_labels is not None:
        raise UsageError("--url and --seen-labels are for .tflite models such as movinet-a0-stream")
    repo, revision = hub_source(name)
    if offline:
        raise UsageError(f"--offline: nothing is downloaded, so '{name}' cannot be pulled")
    messages.info(f"pulling {mirror or repo} ({revision or 'main'}){_terms(TEXT_ENTRIES.get(name, entry))}")
    if mirror is not None:
        from zsar_cli.weights.mirror import pull_from

        folder = pull_from(mirror, repo, revision, force=force)
    else:
        folder = download(repo, revision, force=force, progress=sys.stderr.isatty() and not quiet)
    use = "--text-encoder" if (folder / MODULES).is_file() else "--model"
    messages.info(f"{folder}: whole; use it with {use} {name}")


def _to_pull(name: str | None, licence: str | None, messages: Messages) -> str | None:
    """The model that was named, else the one for this machine; None where that is here already.

    Raises:
        UsageError: none has such a licence, or one was named beside it.
    """
    if name is not None:
        if licence is not None:
            raise UsageError(f"--licence chooses a model where none is named; here is {name}")
        return name
    entry = recommended(licence)
    if entry.kind == "builtin":
        messages.info(f"{entry.name} is the best for this machine, and it is here")
        return None
    messages.info(f"the best for this machine: {entry.name}")
    return entry.name


def _terms(entry: Entry | TextEntry | None) -> str:
    """Size and licence of a model, before it is downloaded."""
    if entry is None:
        return ""
    return f": {entry.download}, licence: {entry.licence or 'unknown, see its page'}"


def _pull_file(
    entry: Entry, url: str, seen_labels: Path | None, force: bool, offline: bool, messages: Messages
) -> None:
    """Fetch a .tflite file, and the names of its classes unless they are given, and add both."""
    import tempfile

    from zsar_cli.labels import LabelSet
    from zsar_cli.weights.fetch import fetch

    # Read here rather than from huggingface_hub, which fixes it when it is first imported.
    if offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        rule = "--offline" if offline else "HF_HUB_OFFLINE is set"
        raise UsageError(f"{rule}: nothing is downloaded, so '{entry.name}' cannot be pulled")
    if not force and (there := added_models().find(entry.name)):
        messages.info(f"{there.file}: whole; use it with --model {entry.name}")
        return
    from zsar_cli.models.litert import LiteRTModel

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        messages.info(f"pulling {url}{_terms(entry)}")
        fetch(url, file)
        if seen_labels is None:
            assert entry.classes_url is not None
            seen_labels = Path(folder) / "classes.txt"
            messages.info(f"pulling {entry.classes_url}")
            fetch(entry.classes_url, seen_labels)
        with without_banner():
            added = added_models().add(entry.name, file, LabelSet.read(seen_labels), LiteRTModel, overwrite=force)
    messages.info(f"{added.file}: {len(added.labels)} classes; use it with --model {added.name}")


def add(
    name: Annotated[
        str, typer.Argument(help="The name to give it; movinet-a0-stream stands for one file alone.", metavar="NAME")
    ],
    file: Annotated[Path, typer.Argument(help="A classifier as a .tflite file.", metavar="FILE")],
    seen_labels: options.SeenLabels = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Check a .tflite classifier and copy it, with the names of its outputs, to your models (ZSAR_MODELS_DIR).

    Example: zsar models add movinet-a0-stream movinet.tflite --seen-labels kinetics600.txt
    """
    from zsar_cli.labels import LabelSet

    if seen_labels is None:
        raise UsageError("give --seen-labels FILE: a .tflite file does not name its classes")
    messages = Messages(quiet)
    labels = LabelSet.read(seen_labels)
    from zsar_cli.models.litert import LiteRTModel

    with without_banner():
        added = added_models().add(name, file, labels, LiteRTModel, overwrite)
    messages.info(f"{added.file}: {len(added.labels)} classes; use it with --model {added.name}")


def verify(name: Name) -> None:
    """Compare a model's files on this machine with their recorded digests. Needs no network.

    Example: zsar models verify builtin
    """
    for item in _verified(name):
        typer.echo(f"ok  {item.algorithm} {item.digest}  {item.file}")


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder with config.json and pickled weights, or a .pth or .bin file beside it.", metavar="SOURCE"
        ),
    ],
    output: Target,
    quiet: options.Quiet = False,
) -> None:
    """Make a safetensors copy of a model with pickled weights (.pth, .bin). No code in the pickle is run.

    Checkpoints of r3d_18, r2plus1d_18 and r2plus1d_34 need no config.json: they are known by their tensors.

    Example: zsar models convert resnet18/ -o resnet18-safe
    """
    from zsar_cli.networks.video_resnets import VIDEO_RESNETS, recognise
    from zsar_cli.weights.checkpoint import read_config
    from zsar_cli.weights.convert import convert as write

    folder = write(source, output, recognise)
    kind = read_config(folder).get("model_type")
    use = f"zsar train --backbone {kind} --backbone-weights" if kind in VIDEO_RESNETS else "--model"
    Messages(quiet).info(f"{folder}: use it with {use} {folder}")


def _as_json(format: str) -> bool:
    if format not in FORMATS:
        raise UsageError(f"--format {format}: unknown; allowed: {', '.join(FORMATS)}")
    return format == "json"


def _verified(name: str) -> list[Checked]:
    from zsar_cli.weights.bundle import check_bundle, find_bundle
    from zsar_cli.weights.catalogue import locate, locate_text
    from zsar_cli.weights.hub import Checked, verify_folder, verify_snapshot
    from zsar_cli.weights.text_entries import TEXT_ENTRIES

    if added := added_models().find(name):
        return [Checked(added.file.name, "sha256", added.sha256)]
    path = locate_text(name) if name in TEXT_ENTRIES else locate(name).path
    if path is not None and (bundle := find_bundle(path)):
        return [Checked(file, "sha256", sha256) for file, sha256 in check_bundle(bundle)["files"].items()]
    if path is None:
        from zsar_cli.text.minilm import MINILM
        from zsar_cli.weights.packaged import EFFICIENTNET_LITE2

        return [Checked(file.verified().name, "sha256", file.sha256) for file in (EFFICIENTNET_LITE2, MINILM)]
    return verify_folder(path) if Path(name).is_dir() else verify_snapshot(path)


app.command("list")(guarded(list_models))
app.command("info")(guarded(info))
app.command("recommend")(guarded(recommend))
app.command("add")(guarded(add))
app.command("pull")(guarded(pull))
app.command("verify")(guarded(verify))
app.command("convert")(guarded(convert))

"""What the commands share that take labelled videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zsar_cli.cli.options import option

__all__ = ["DATASET_HELP", "DatasetPath", "FolderNames"]

DATASET_HELP = (
    "A folder with one folder of videos per class, or a .csv, .tsv or .json table of path, label and perhaps start and "
    "end"
)
DatasetPath = Annotated[Path, typer.Argument(help=f"{DATASET_HELP}.", metavar="DATASET")]
FolderNames = Annotated[
    Path | None,
    option("--names", "CSV with the columns folder and label: natural names for the folders.", metavar="FILE"),
]

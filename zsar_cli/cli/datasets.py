"""What the commands share that take labelled videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zsar_cli.cli.console import Messages
from zsar_cli.cli.options import option
from zsar_cli.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zsar_cli.data.dataset import Dataset
    from zsar_cli.engine.classifier import Classifier, Labelled
    from zsar_cli.errors import InputError

__all__ = ["DATASET_HELP", "DatasetPath", "FolderNames", "score_videos", "truth_of"]

DATASET_HELP = (
    "A folder with one folder of videos per class, or a .csv, .tsv, .xlsx, .parquet or .json table of path, label and "
    "perhaps start and end"
)
DatasetPath = Annotated[Path, typer.Argument(help=f"{DATASET_HELP}.", metavar="DATASET")]
FolderNames = Annotated[
    Path | None,
    option("--names", "CSV with the columns folder and label: natural names for the folders.", metavar="FILE"),
]


def score_videos(
    classifier: Classifier, data: Dataset, against: Sequence[Labelled], messages: Messages
) -> tuple[list[NDArray[np.float64]], list[InputError]]:
    """Read the videos and compare them with labels. Closes the classifier.

    Returns:
        for each of `against` the similarities, [V, U], a video that cannot be used a row of -inf; and the failures of
        these videos, in their order.

    Raises:
        UsageError: none of the videos can be used.
    """
    import numpy as np

    from zsar_cli.errors import InputError

    similarities: list[NDArray[np.float64]] = [
        np.full((len(data.items), len(one.labels)), -np.inf) for one in against
    ]
    failures = []
    with classifier, messages.progress(len(data.items)) as progress:
        for row, video in enumerate(classifier.embed(item.source for item in data.items)):
            progress.advance(failed=isinstance(video, InputError))
            if isinstance(video, InputError):
                failures.append(video)
                continue
            for rows, one in zip(similarities, against, strict=True):
                rows[row] = classifier.similarity(video, one).double().numpy()
    if len(failures) == len(data.items):
        raise UsageError(f"none of the {len(data.items)} videos can be used; the first: {failures[0]}")
    return similarities, failures


def truth_of(data: Dataset) -> NDArray[np.int64]:
    """Index of each video's class, [V]."""
    import numpy as np

    index = {name: position for position, name in enumerate(data.classes.names)}
    return np.array([index[item.label] for item in data.items], dtype=np.int64)

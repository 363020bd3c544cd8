"""What the commands share that take labelled videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from zsar_cli.cli.console import Messages
from zsar_cli.cli.options import option
from zsar_cli.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zsar_cli.data.dataset import Dataset
    from zsar_cli.engine.classifier import Classifier
    from zsar_cli.errors import InputError

__all__ = ["DATASET_HELP", "DatasetPath", "FolderNames", "Scored", "score_videos", "truth_of"]

DATASET_HELP = (
    "A folder with one folder of videos per class, or a .csv, .tsv or .json table of path, label and perhaps start and "
    "end"
)
DatasetPath = Annotated[Path, typer.Argument(help=f"{DATASET_HELP}.", metavar="DATASET")]
FolderNames = Annotated[
    Path | None,
    option("--names", "CSV with the columns folder and label: natural names for the folders.", metavar="FILE"),
]


class Scored(NamedTuple):
    """A data set as a classifier sees it; a video that cannot be used is a row of -inf.

    Args:
        similarity: of V videos to C classes, [V, C].
        background: of the videos to the actions of `Classifier.background`, [V, B].
        failures: of the videos that cannot be used, in their order.
    """

    similarity: NDArray[np.float64]
    background: NDArray[np.float64]
    failures: list[InputError]


def score_videos(classifier: Classifier, data: Dataset, messages: Messages) -> Scored:
    """Read the videos and compare them with all classes. Closes the classifier.

    Raises:
        UsageError: none of the videos can be used.
    """
    import numpy as np

    from zsar_cli.errors import InputError

    labelled, beside = classifier.prepare(data.classes), classifier.background
    similarity = np.full((len(data.items), len(data.classes)), -np.inf)
    background = np.full((len(data.items), len(beside.labels)), -np.inf)
    failures = []
    with classifier, messages.progress(len(data.items)) as progress:
        for row, video in enumerate(classifier.embed(item.source for item in data.items)):
            progress.advance(failed=isinstance(video, InputError))
            if isinstance(video, InputError):
                failures.append(video)
            else:
                similarity[row] = classifier.similarity(video, labelled).double().numpy()
                background[row] = classifier.similarity(video, beside).double().numpy()
    if len(failures) == len(data.items):
        raise UsageError(f"none of the {len(data.items)} videos can be used; the first: {failures[0]}")
    return Scored(similarity, background, failures)


def truth_of(data: Dataset) -> NDArray[np.int64]:
    """Index of each video's class, [V]."""
    import numpy as np

    index = {name: position for position, name in enumerate(data.classes.names)}
    return np.array([index[item.label] for item in data.items], dtype=np.int64)

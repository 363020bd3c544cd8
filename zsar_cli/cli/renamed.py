"""Options of earlier versions that are gone, and what to take in their place."""

from __future__ import annotations

from collections.abc import Collection

__all__ = ["in_place_of"]

# An old option, one that its command has now, and what to say.
_GONE = {
    "clips": ("windows", "windows are what a model sees: --windows N, or --window SECONDS"),
    "finetune": ("source", "--source raw trains the backbone too, --start MODEL begins with a trained one"),
    "labels": ("names", "--names FILE gives folders of a data set natural names"),
    "lexicon": ("model", "the action lexicon takes no part in scores; leave it out"),
    "smooth": ("onset", "segments are scenes that look alike, no smoothed scores; leave it out"),
}


def in_place_of(name: str, options: Collection[str]) -> str:
    """For a message: '; ' and what to take in the place of an option, or nothing where it was none.

    Args:
        name: without its "--"; case and "_" do not matter.
        options: those that there are, without "--".
    """
    name = name.lower().replace("_", "-")
    successor, pointer = _GONE.get(name, ("", ""))
    return f"; {pointer}" if successor in options and name not in options else ""

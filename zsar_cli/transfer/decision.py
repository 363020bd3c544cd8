"""How far to trust an answer: labels against a background of other actions, and from there to probabilities. Pure.

A label's similarity says little by itself. What tells is how far it stands above the actions that a video would be
nearest to if none of the labels were in it, in the manner of NegLabel (Jiang et al., ICLR 2024), and above the other
labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zsar_cli.settings import Number, Share, settings

__all__ = ["GENERAL", "NEAR", "Calibration", "above_background", "above_others"]

# On two development sets, three models: between all and a tenth of the background, 2 and 30 of its nearest, and cosines
# of 0.6 and 0.8, what is told apart is the same within its noise.
NEAREST = 5  # actions of the background that count for a video: those nearest to it
NEAR = 0.7  # cosine from which on an action may be what a label says, in other words


@settings
@dataclass(frozen=True)
class Calibration:
    """From similarities to probabilities, by logistic regression on labelled videos (Platt).

        p(label u is right)   = sigmoid(right + right_background b_u + right_others o_u + right_labels log U)
        p(none of the labels) = sigmoid(unknown + unknown_background max_u b_u)

    with b of `above_background`, o of `above_others` and U the number of labels.

    Args:
        reject: p(none of the labels) that 95% of videos whose label is among the labels stay at or below.
    """

    right: Number
    right_background: Number
    right_others: Number
    right_labels: Number
    unknown: Number
    unknown_background: Number
    reject: Share

    def probabilities(self, background: Tensor, others: Tensor, count: int) -> Tensor | None:
        """That each of the best of `count` labels is right, [V, K]; None for one label, which nothing is against."""
        if count < 2:
            return None
        return self.right_of(background, others, math.log(count))

    def right_of(self, background: Tensor, others: Tensor, length: Tensor | float) -> Tensor:
        """The first formula; `length` is log U, of all or of each."""
        by_margins = self.right_background * background + self.right_others * others
        return torch.sigmoid(self.right + self.right_labels * length + by_margins)

    def unknown_of(self, background: Tensor) -> Tensor:
        """That none of the labels is in the video, [V] from [V, K], the best label among these."""
        return torch.sigmoid(self.unknown + self.unknown_background * background.amax(dim=1))


# For models that were not calibrated: about the mean of those that were, which resemble each other, since similarities
# are in units of their spread.
GENERAL = Calibration(
    right=0.35, right_background=0.18, right_others=0.64, right_labels=-0.42,
    unknown=-0.11, unknown_background=-0.36, reject=0.74,
)  # fmt: skip


def above_background(similarity: Tensor, background: Tensor) -> Tensor:
    """How far each label stands above the background actions nearest to a video, [V, U].

    Args:
        similarity: of V videos to U labels.
        background: of the videos to B actions that are none of the labels, [V, B].

    Returns:
        differences to the mean of the nearest actions, in standard deviations over all of them; 0 where there are
        fewer than two.
    """
    if background.shape[1] < 2:
        return torch.zeros_like(similarity)
    nearest = background.topk(min(NEAREST, background.shape[1]), dim=1).values
    spread = background.std(dim=1, keepdim=True).clamp_min(1e-6)
    return (similarity - nearest.mean(dim=1, keepdim=True)) / spread


def above_others(similarity: Tensor) -> Tensor:
    """How far each label stands above the best of the others, [V, U]; for one label 0."""
    if similarity.shape[1] < 2:
        return torch.zeros_like(similarity)
    best = similarity.topk(2, dim=1)
    others = best.values[:, :1].expand_as(similarity).clone()
    others.scatter_(1, best.indices[:, :1], best.values[:, 1:])
    return similarity - others

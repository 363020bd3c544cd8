"""How a trained model scores, before it is a bundle: by the rules of `zsar_cli.transfer`, as its bundle will.

Shape letters: N clips, S seen classes, U labels, D dimensions of the shared space.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from zsar_cli.evaluation.measures import measure
from zsar_cli.networks.rest import RestHead, RestModel, class_means
from zsar_cli.text.tokens import TextTokens
from zsar_cli.training.losses import cosines
from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.transfer.compose import compose
from zsar_cli.transfer.relatedness import relatedness
from zsar_cli.transfer.scoring import TransferSettings, conse, score_labels

__all__ = ["SAMPLE", "Scorer", "embed_labels", "mean_per_class", "with_spreads"]

CHUNK = 64  # texts per forward pass: bounds memory, changes no result
SAMPLE = 1000  # clips that a spread is measured on
SMALLEST = 1e-4  # of a spread, in units of cosine


@torch.no_grad()
def embed_labels(model: RestModel, texts: TextTokens) -> Tensor:
    """Unit rows [U, D] on the CPU: of each label the normalised mean of its texts, as `text.encoder.encode_labels`."""
    device = model.modality.device
    parts = zip(torch.split(texts.tokens, CHUNK), torch.split(texts.keep, CHUNK), strict=True)
    rows = torch.cat([model.encode_text(tokens.to(device), keep.to(device)).cpu() for tokens, keep in parts])
    return class_means(rows, texts.owner, int(texts.owner.max()) + 1)


@dataclass(frozen=True)
class Scorer:
    """A model with its bank and settings.

    Args:
        model: in evaluation mode.
        seen: the S classes it was trained on.
        settings: with measured spreads.
    """

    model: RestModel
    seen: PrototypeBank
    settings: TransferSettings

    @classmethod
    def of(cls, model: RestModel, head: RestHead, v: Tensor, texts: TextTokens, settings: TransferSettings) -> Scorer:
        """Of a model in training.

        Args:
            head: holds the prototypes of the S classes.
            v: unit rows [N, D] of training clips; some `SAMPLE` of them do.
            texts: of the S classes.
            settings: all but the scales, which are measured.
        """
        names = tuple(f"seen {index}" for index in range(head.prototypes.shape[0]))
        prototypes = F.normalize(head.prototypes.detach().cpu(), dim=1)
        seen = PrototypeBank(names, embed_labels(model, texts), prototypes, "", "")
        return cls(model, seen, with_spreads(settings, v, seen, float(head.visual_scale.detach())))

    def weighed(self, transfer: float, text: float) -> Scorer:
        """With other weights of the two estimators."""
        return replace(
            self, settings=replace(self.settings, transfer_weight=transfer, conse_weight=0.0, text_weight=text)
        )

    def scores(self, v: Tensor, texts: TextTokens) -> Tensor:
        """Of clips, unit rows [N, D], over the U labels of `texts`: [N, U], as `score_labels`."""
        semantic, how = embed_labels(self.model, texts), self.settings
        names = [f"label {index}" for index in range(len(semantic))]  # what is seen, its embedding says
        composed, _ = compose(self.seen, names, semantic, how.top_k, how.temperature)
        return score_labels(v, how, self.seen, composed, semantic)


def mean_per_class(scores: Tensor, targets: Tensor) -> float:
    """Mean per class top-1 of scores [N, U] for clips of the labels [N]: 0..1."""
    return measure(scores.double().numpy(), targets.numpy()).mean_per_class_top1


def with_spreads(settings: TransferSettings, v: Tensor, seen: PrototypeBank, logit_scale: float) -> TransferSettings:
    """The settings with the spread of each kind of score over labels measured, so that a blend adds like to like.

    Leave-one-out: each seen class gets a prototype composed from the others alone.

    Args:
        settings: top_k and temperature are used, the scales are replaced.
        v: unit rows [N, D], the training clips.
        seen: S classes in the same space, visual and semantic.
        logit_scale: the factor on cosines that the model was trained with.
    """
    top_k = min(settings.top_k, len(seen) - 1)
    rows = torch.arange(len(seen))
    composed = []
    for row in rows:
        others = rows[rows != row]
        weights = relatedness(seen.semantic[row, None], seen.semantic[others], top_k, settings.temperature)
        composed.append(F.normalize(weights @ seen.visual[others], dim=1)[0])
    return replace(
        settings,
        logit_scale=logit_scale,
        transfer_scale=_spread(v @ torch.stack(composed).T),
        conse_scale=_spread(conse(v, seen, seen.semantic, settings.top_k, logit_scale)),
        text_scale=_spread(cosines(v, seen.semantic)),
    )


def _spread(scores: Tensor) -> float:
    """Root mean square over clips and labels of scores [N, S], each less its clip's mean, four digits."""
    centred = scores - scores.mean(dim=1, keepdim=True)
    return max(SMALLEST, float(f"{float(centred.square().mean().sqrt()):.4g}"))

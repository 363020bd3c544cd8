"""A model at its closed-form start: priors from the clips, prototypes at the class means."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from zsar_cli.networks.backbones import Backbone
from zsar_cli.networks.rest import RestConfig, RestHead, RestModel, class_means, sentence_embedding, video_summary
from zsar_cli.text.tokens import TextTokens
from zsar_cli.training.config import RawConfig, TrainConfig
from zsar_cli.training.sources import Source, evenly
from zsar_cli.training.state import Compute, Learner, TrainState, start_state
from zsar_cli.training.team import Team

__all__ = ["Begun", "Networks", "embed", "initial_state"]

MOST = 4096  # clips that the start is computed from


@dataclass(frozen=True)
class Begun:
    """A model that was trained before.

    Args:
        model: its weights.
        prototypes: [S, D] of all classes of the data set, zeros where it does not know one.
        visual_scale: that it was trained to.
    """

    model: RestModel
    prototypes: Tensor
    visual_scale: float

    def only(self, classes: Tensor) -> Begun:
        """For some of the classes."""
        return Begun(self.model, self.prototypes[classes], self.visual_scale)


@dataclass(frozen=True)
class Networks:
    """What is to be trained.

    Args:
        shape: of the Transformer.
        backbone: before it, where the source gives frames; None where it gives grids.
        raw: how the backbone learns.
        begun: a model to begin with; None begins at the closed-form start.
    """

    shape: RestConfig
    backbone: Backbone | None = None
    raw: RawConfig = field(default_factory=RawConfig)
    begun: Begun | None = None


@torch.no_grad()
def embed(learner: Learner, source: Source, rows: Tensor, team: Team, compute: Compute) -> Tensor:
    """Unit rows [n, D] on the CPU, the mean over the views of each clip; the processes share the work."""
    parts = [torch.empty(0, learner.model.config.space)]
    for views in source.plain(rows[list(team.share(len(rows)))]):
        grids = _grids(learner, views, compute)
        v = F.normalize(learner.model.encode_video(grids), dim=1).reshape(*views.shape[:2], -1)
        parts.append(v.mean(dim=1).cpu())
    return F.normalize(team.gather(torch.cat(parts), len(rows)), dim=1)


def _grids(learner: Learner, views: Tensor, compute: Compute) -> Tensor:
    """[n, V, ...], grids or frames -> grids float32 [n * V, T, h, w, C] on the device."""
    shown = views.flatten(0, 1).to(compute.device)
    if learner.backbone is None:
        return shown.float()
    with compute.autocast():
        grids: Tensor = learner.backbone(shown)
    return grids.float()


def initial_state(
    source: Source, texts: TextTokens, networks: Networks, config: TrainConfig, compute: Compute, team: Team
) -> TrainState:
    """The state before the first step, from at most `MOST` clips, of each class about as many."""
    begun = networks.begun
    model = RestModel(networks.shape) if begun is None else begun.model
    classes = int(source.targets.max()) + 1
    head = RestHead(torch.zeros(classes, networks.shape.space), begun.visual_scale if begun else 10.0)
    learner = Learner(model, head, networks.backbone, networks.raw).to(compute.device).eval()
    rows = evenly(source.targets, MOST)
    if begun is None:
        sentences = class_means(sentence_embedding(texts.tokens, texts.keep), texts.owner, classes)
        summaries = _summaries(learner, source, rows, team, compute)
        model.set_prior(
            summaries.to(compute.device), source.targets[rows].to(compute.device), sentences.to(compute.device)
        )
    prototypes = torch.zeros(classes, networks.shape.space) if begun is None else begun.prototypes.clone()
    unknown = prototypes.norm(dim=1) == 0
    rows = rows[unknown[source.targets[rows]]]
    if len(rows):
        means = class_means(embed(learner, source, rows, team, compute), source.targets[rows], classes)
        prototypes[unknown] = means[unknown]
    head.prototypes.data.copy_(prototypes)
    return start_state(learner, config, compute)


@torch.no_grad()
def _summaries(learner: Learner, source: Source, rows: Tensor, team: Team, compute: Compute) -> Tensor:
    """[n, 2C] on the CPU, the mean over the views of each clip; the processes share the work."""
    parts = [torch.empty(0, 2 * learner.model.config.features)]
    for views in source.plain(rows[list(team.share(len(rows)))]):
        summaries = video_summary(_grids(learner, views, compute)).reshape(*views.shape[:2], -1)
        parts.append(summaries.mean(dim=1).cpu())
    return team.gather(torch.cat(parts), len(rows))

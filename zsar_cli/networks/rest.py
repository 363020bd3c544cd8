"""The paper's model: one Transformer over video tokens, label tokens, or both (after ResT, arXiv 2205.01657).

The abstract of the paper fixes the idea: a cross-modal Transformer encodes videos and text labels jointly, its
video embeddings are discriminative and semantically consistent, and unseen visual prototypes are composed by
relatedness. Token layout, sizes and the linear priors below are choices of this project.

The model is built for few videos. Both embeddings are a residual on a linear map of frozen features,

    v = W_v summary(grid)          + g_v H_v(Transformer(video)),
    t = W_t mean of label tokens   + g_t H_t(Transformer(label)),

where the summary holds what is seen (mean of the grid) and what moves (its spread over time), and
`RestModel.set_prior` computes W_v, W_t from the training data in closed form: with small gates g the model starts
as the training-free baseline, not as noise.

Shape letters: B videos or video-label pairs, T frames, G cells a side, C backbone channels, U labels, L text tokens,
E text channels, W Transformer width, D dimensions of the shared space, S seen classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zsar_cli.settings import Number, OpenShare, Size, settings

__all__ = [
    "RestConfig",
    "RestHead",
    "RestModel",
    "class_means",
    "fourier_positions",
    "sentence_embedding",
    "video_summary",
]

MOST_PARAMETERS = 10**9  # 4 GB of weights


@settings
@dataclass(frozen=True)
class RestConfig:
    """The shape of a `RestModel`.

    Args:
        features: C, channels of the backbone's grid.
        posture: how many of them, the last ones, describe a posture; they are scaled on their own.
        text_features: E, channels of the sentence encoder's tokens.
        space: D, dimensions of the space that videos and labels share.
        width: W, of the Transformer; a multiple of `heads` and of 4.
        depth: blocks of the Transformer.
        heads: of its attention.
        expansion: hidden width of its feed-forward layers, in units of W.
        dropout: share of activations dropped while training, 0..1.
        gate, text_gate: initial g_v and g_t: how much the Transformer adds to the linear priors.
        checkpointing: compute activations again in the backward pass: less memory, about a third more time.
    """

    features: Size
    posture: Annotated[int, Field(ge=0)] = 0
    text_features: Size = 384
    space: Size = 384
    width: Size = 128
    depth: Annotated[int, Field(ge=1, le=1000)] = 2
    heads: Size = 4
    expansion: Size = 2
    dropout: OpenShare = 0.1
    gate: Number = 0.1
    text_gate: Number = 0.1
    checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.posture >= self.features:
            raise ValueError(f"posture is {self.posture}; it must be less than features ({self.features})")
        if self.width % self.heads or self.width % 4:
            raise ValueError(f"width {self.width} must be a multiple of heads ({self.heads}) and of 4")
        if self.parameters > MOST_PARAMETERS:
            raise ValueError(
                f"depth {self.depth}, width {self.width}, expansion {self.expansion} and space {self.space} make "
                f"{self.parameters:,} parameters; at most {MOST_PARAMETERS:,} are allowed"
            )

    @property
    def parameters(self) -> int:
        """Of the matrices; vectors hardly count."""
        blocks = self.depth * (4 + 2 * self.expansion) * self.width**2
        ends = (self.features + self.text_features + 2 * self.space) * self.width
        return blocks + ends + (2 * self.features + self.text_features) * self.space


class Block(nn.Module):
    """A pre-norm Transformer block: x + attention(x), then x + feed-forward(x)."""

    def __init__(self, config: RestConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.width * config.expansion
        self.heads = config.heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(hidden, width)
        )
        self.drop = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """[B, N, W], keep bool [B, N] (False: padding, attended by none) -> [B, N, W]."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=keep[:, None, None, :])
        x = x + self.drop(self.out(attended.transpose(1, 2).flatten(2)))
        result: Tensor = x + self.drop(self.feed(self.norm2(x)))
        return result


class RestModel(nn.Module):
    """See the module. One stack of blocks serves three passes: video alone, label alone, both.

    Buffers `origin` and `scale` [2C] bring the summary of a video to zero mean and each of its halves (in them: what
    the image network sees, and the posture) to norm about 1.
    """

    origin: Tensor
    scale: Tensor

    def __init__(self, config: RestConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.register_buffer("origin", torch.zeros(2 * config.features))
        self.register_buffer("scale", torch.ones(2 * config.features))
        self.video_in = nn.Linear(config.features, width)
        self.text_in = nn.Linear(config.text_features, width)
        self.modality = nn.Parameter(torch.randn(2, width) * 0.02)  # video, text
        self.query = nn.Parameter(torch.randn(3, width) * 0.02)  # read-out token of each pass: video, text, both
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.video_out = nn.Linear(width, config.space)
        self.text_out = nn.Linear(width, config.space)
        self.match_out = nn.Linear(width, 1)
        self.video_prior = nn.Linear(2 * config.features, config.space, bias=False)
        self.text_prior = nn.Linear(config.text_features, config.space, bias=False)
        self.video_gate = nn.Parameter(torch.tensor(config.gate))
        self.text_gate = nn.Parameter(torch.tensor(config.text_gate))
        for prior in (self.video_prior, self.text_prior):
            nn.init.orthogonal_(prior.weight)

    def encode_video(self, grid: Tensor) -> Tensor:
        """Video alone: grid float [B, T, G, G, C], any T and G -> v [B, D], not normalised."""
        tokens = self._video_tokens(grid)
        out = self._read(0, tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool))
        summary = (video_summary(grid) - self.origin) / self.scale
        v: Tensor = self.video_prior(summary) + self.video_gate * self.video_out(out)
        return v

    def encode_text(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """Label alone: tokens [U, L, E], keep bool [U, L] (False: padding) -> t [U, D], not normalised."""
        out = self._read(1, self._text_tokens(tokens), keep)
        t: Tensor = self.text_prior(sentence_embedding(tokens, keep)) + self.text_gate * self.text_out(out)
        return t

    def match(self, grid: Tensor, tokens: Tensor, keep: Tensor) -> Tensor:
        """Both jointly, one label for each video: [B, T, G, G, C], [B, L, E], [B, L] -> logits [B] of 'they match'."""
        video = self._video_tokens(grid)
        both = torch.cat([video, self._text_tokens(tokens)], dim=1)
        out = self._read(2, both, torch.cat([keep.new_ones(video.shape[:2]), keep], dim=1))
        logits: Tensor = self.match_out(out)[:, 0]
        return logits

    @torch.no_grad()
    def set_prior(self, summaries: Tensor, targets: Tensor, sentences: Tensor) -> None:
        """Closed-form start: W_v keeps the variance of the videos, W_t turns labels towards their class means.

        W_v: principal directions of the summaries (then arbitrary orthonormal ones, where N < D).
        W_t = argmin |W_t s_c - m_c| over orthonormal maps (Procrustes: U V^T of the SVD of sum m_c s_c^T), s and m
        centred over classes. An orthonormal map changes no cosine between labels, so relatedness stays what the
        sentence encoder says, while t already points towards its class.

        Args:
            summaries: [N, 2C], see `video_summary`, of the N training videos.
            targets: int64 [N], class of each video in 0..S-1; every class occurs.
            sentences: [S, E], sentence embeddings of the S classes.
        """
        self.origin.copy_(summaries.mean(dim=0))
        centred = summaries - self.origin
        sizes = 2 * [size for size in (self.config.features - self.config.posture, self.config.posture) if size]
        for part, scale in zip(torch.split(centred, sizes, dim=1), torch.split(self.scale, sizes), strict=True):
            scale.fill_(part.norm(dim=1).mean().clamp(min=1e-6))
        centred = centred / self.scale
        directions = _principal_rows(centred)
        self.video_prior.weight.copy_(_orthonormal_rows(directions, self.video_prior.weight))
        v = F.normalize(self.video_prior(centred), dim=1)
        means = class_means(v, targets, sentences.shape[0])
        cross = (means - means.mean(dim=0)).T @ (sentences - sentences.mean(dim=0))
        # The singular vectors of zero singular values are arbitrary; a little of the present weight settles them.
        left, _, right = torch.linalg.svd(cross + 1e-4 * self.text_prior.weight, full_matrices=False)
        self.text_prior.weight.copy_(left @ right)

    def _video_tokens(self, grid: Tensor) -> Tensor:
        """[B, T, G, G, C] -> [B, T * G * G, W]."""
        channels = self.config.features
        centred = (grid - self.origin[:channels]) / self.scale[:channels]
        frames, rows, columns = centred.shape[1:4]
        quarter = self.config.width // 4
        time = fourier_positions(frames, 2 * quarter).to(centred)
        row, column = (fourier_positions(count, quarter).to(centred) for count in (rows, columns))
        where = torch.cat(
            [
                time[:, None, None].expand(-1, rows, columns, -1),
                row[None, :, None].expand(frames, -1, columns, -1),
                column[None, None].expand(frames, rows, -1, -1),
            ],
            dim=-1,
        )
        tokens: Tensor = self.video_in(centred) + where + self.modality[0]
        return tokens.flatten(1, 3)

    def _text_tokens(self, tokens: Tensor) -> Tensor:
        """[U, L, E] -> [U, L, W]. The encoder's tokens know their order already, so no position is added."""
        # LayerNorm without parameters: encoders differ widely in the scale of their tokens.
        embedded: Tensor = self.text_in(F.layer_norm(tokens, tokens.shape[-1:])) + self.modality[1]
        return embedded

    def _read(self, which: int, tokens: Tensor, keep: Tensor) -> Tensor:
        """Run the shared blocks over a read-out token and `tokens` [B, N, W]; the read-out's final state [B, W]."""
        batch = tokens.shape[0]
        x = torch.cat([self.query[which].expand(batch, 1, -1), tokens], dim=1)
        keep = torch.cat([keep.new_ones(batch, 1), keep], dim=1)
        for block in self.blocks:
            if self.config.checkpointing and self.training:
                x = checkpoint(block, x, keep, use_reentrant=False)
            else:
                x = block(x, keep)
        out: Tensor = self.norm(x[:, 0])
        return out


class RestHead(nn.Module):
    """What only training needs: visual prototypes of the seen classes and the sharpness of both softmaxes.

    Args:
        prototypes: [S, D], initial prototypes, for example class means.
        visual_scale, text_scale: initial factors on cosines in the discrimination and the alignment objective;
            both are learned, as logarithms.
    """

    def __init__(self, prototypes: Tensor, visual_scale: float = 10.0, text_scale: float = 10.0) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(prototypes.detach().clone())
        self.log_visual_scale = nn.Parameter(torch.tensor(math.log(visual_scale)))
        self.log_text_scale = nn.Parameter(torch.tensor(math.log(text_scale)))

    @property
    def visual_scale(self) -> Tensor:
        """At most 100, as in CLIP: beyond that the softmax only fits noise."""
        return self.log_visual_scale.exp().clamp(max=100)

    @property
    def text_scale(self) -> Tensor:
        """At most 100."""
        return self.log_text_scale.exp().clamp(max=100)


def video_summary(grid: Tensor) -> Tensor:
    """What is seen and what moves: [B, T, G, G, C] -> [B, 2C], mean of the grid, then mean over cells of the standard
    deviation over frames (0 for a single frame)."""
    mean = grid.mean(dim=1, keepdim=True)
    # The gradient of the root at 0, a still cell, is infinite: hence the small constant.
    spread = ((grid - mean).square().mean(dim=1) + 1e-8).sqrt()
    return torch.cat([mean.mean(dim=(1, 2, 3)), spread.mean(dim=(1, 2))], dim=1)


def sentence_embedding(tokens: Tensor, keep: Tensor) -> Tensor:
    """Mean over the kept tokens, unit rows: [U, L, E], [U, L] -> [U, E]; MiniLM's own sentence embedding."""
    weight = keep.to(tokens.dtype)[..., None]
    return F.normalize((tokens * weight).sum(dim=1) / weight.sum(dim=1), dim=1)


def class_means(v: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Unit means of the unit rows of each class: [N, D], [N] -> [classes, D]; a class without rows stays zero."""
    sums = v.new_zeros(classes, v.shape[1]).index_add_(0, targets, F.normalize(v, dim=1))
    return F.normalize(sums, dim=1)


def fourier_positions(count: int, channels: int) -> Tensor:
    """[count, channels]: sine and cosine of the places (i + 1/2) / count in 0..1, at octaves of half a period.

    Places are relative, so any number of frames or cells covers the same range and nothing is interpolated.
    """
    place = (torch.arange(count) + 0.5) / count
    angle = torch.pi * place[:, None] * 2.0 ** torch.arange((channels + 1) // 2)
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :channels]


def _principal_rows(centred: Tensor) -> Tensor:
    """Principal directions of rows [N, C], the strongest first: [min(N, C), C]."""
    if centred.shape[0] <= centred.shape[1]:
        _, _, directions = torch.linalg.svd(centred, full_matrices=False)
        found: Tensor = directions
        return found
    _, vectors = torch.linalg.eigh(
        (centred.T @ centred).cpu().double()
    )  # of C x C numbers, however many rows there are
    found = vectors.T.flip(0).to(centred)
    return found


def _orthonormal_rows(first: Tensor, rest: Tensor) -> Tensor:
    """As many orthonormal rows as `rest` has [D, C]: the rows of `first`, then directions of `rest`."""
    rows = first[: rest.shape[0]]
    if rows.shape[0] == rest.shape[0]:
        return rows
    q, _ = torch.linalg.qr(torch.cat([rows, rest]).T)
    extra = q.T[rows.shape[0] : rest.shape[0]]
    return torch.cat([rows, extra, rest.new_zeros(rest.shape[0] - rows.shape[0] - extra.shape[0], rest.shape[1])])

"""The objectives that train `networks.rest`. Pure: tensors in, a scalar out.

The paper's abstract (ResT, arXiv 2205.01657) asks for video embeddings that are discriminative and semantically
consistent, learned jointly with video-label associations; the equations here are this project's reading of it.

Shape letters: B videos, U labels, S seen classes, D dimensions. cos is the cosine of two rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "alignment_loss",
    "consistency_loss",
    "cosines",
    "discrimination_loss",
    "episodic_loss",
    "hard_negatives",
    "matching_loss",
]


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """[N, D], [M, D] -> [N, M]."""
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T


def discrimination_loss(
    v: Tensor, prototypes: Tensor, targets: Tensor, scale: Tensor | float, smoothing: float = 0.0
) -> Tensor:
    """(a) Video discrimination: cosine softmax over the seen prototypes.

    L = -1/B sum_b sum_s q_bs log softmax_s(scale cos(v_b, p_s)),  q_bs = (1 - e) [s = y_b] + e / S.

    Args:
        v: [B, D]. prototypes: [S, D].
        targets: classes, int64 [B], or their shares, float [B, S] with rows that sum to 1 (mixed videos).
        scale: factor on the cosine. smoothing: e in 0..1.
    """
    return F.cross_entropy(scale * cosines(v, prototypes), targets, label_smoothing=smoothing)


def alignment_loss(v: Tensor, t: Tensor, positives: Tensor, scale: Tensor | float) -> Tensor:
    """(b) Visual-semantic alignment: symmetric contrast with several positives (SupCon's outer sum).

    L = 1/2 (L_vt + L_tv),
    L_vt = -1/B sum_b sum_u q_bu log softmax_u(scale cos(v_b, t_u)),  q_bu = w_bu / sum_u w_bu,
    L_tv: the same with videos and labels exchanged, over the labels that have a positive video.

    Args:
        v: [B, D]. t: [U, D].
        positives: w >= 0 [B, U], bool or float: which videos show which label; every video needs one above 0.
        scale: factor on the cosine.
    """
    logits = scale * cosines(v, t)
    weights = positives.to(logits.dtype)

    def one_way(rows: Tensor, target: Tensor) -> Tensor:
        total = target.sum(dim=1, keepdim=True)
        each = F.cross_entropy(rows, target / total.clamp(min=1e-12), reduction="none")  # 0 where nothing is shown
        return each.sum() / (total > 0).sum()

    return (one_way(logits, weights) + one_way(logits.T, weights.T)) / 2


@torch.no_grad()
def hard_negatives(similarity: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
    """Wrong pairs that look right: for each video the most similar wrong label, for each label the most similar video.

    Args:
        similarity: [B, U]. positives: bool [B, U].

    Returns:
        (videos, labels), int64 [M] each, on the CPU: M <= B + U pairs, none of them positive. A video that shows every
        label has no negative, and neither has a label that every video shows.
    """
    wrong = similarity.masked_fill(positives, -torch.inf)
    rows, columns = (torch.arange(count, device=wrong.device) for count in wrong.shape)
    videos, labels = torch.cat([rows, wrong.argmax(dim=0)]), torch.cat([wrong.argmax(dim=1), columns])
    kept = torch.cat([~positives.all(dim=1), ~positives.all(dim=0)])
    videos, labels, kept = torch.stack([videos, labels, kept.long()]).cpu()  # all that is waited for
    return videos[kept.bool()], labels[kept.bool()]


def matching_loss(logits: Tensor, right: Tensor, of: Tensor) -> Tensor:
    """(c) Cross-modal matching: is this the video's label? Right and wrong pairs weigh the same.

    L = 1/2 (-1/P sum_i log sigmoid(x_i) - 1/M sum_j log sigmoid(-y_j)),

    over P right and M wrong pairs (see `hard_negatives`); where there are no wrong ones, only the right ones count.

    Args:
        logits: x and y [K] of some of the pairs. Over all parts of the pairs the losses add up to L.
        right: bool [K], which of these are right; on the CPU, as `of`.
        of: bool [P + M], the same of all pairs.
    """
    wrong = int((~of).sum())
    shares = torch.where(right, 1 / max(1, len(of) - wrong), 1 / max(1, wrong)) / (2 if wrong else 1)
    signs = torch.where(right, -1.0, 1.0)
    return (F.softplus(signs.to(logits) * logits) * shares.to(logits)).sum()


def consistency_loss(prototypes: Tensor, t: Tensor, temperature: float) -> Tensor:
    """(d) Semantic consistency: visual prototypes are related as their labels are.

    L = 1/S sum_s KL(a_s || b_s),
    a_s = softmax_{r != s}(cos(t_s, t_r) / tau),  b_s = softmax_{r != s}(cos(p_s, p_r) / tau).

    The labels lead: no gradient reaches t.

    Args:
        prototypes: [S, D], S >= 2. t: [S, D'], embeddings of the same classes. temperature: tau > 0.
    """
    count = prototypes.shape[0]

    def relations(rows: Tensor) -> Tensor:
        # Row by row, without the diagonal: behind the first number each (count + 1)-th is of it.
        others = cosines(rows, rows).flatten()[1:].reshape(count - 1, count + 1)[:, :-1].reshape(count, count - 1)
        return torch.log_softmax(others / temperature, dim=1)

    return F.kl_div(relations(prototypes), relations(t.detach()), reduction="batchmean", log_target=True)


def episodic_loss(
    v: Tensor,
    targets: Tensor,
    prototypes: Tensor,
    t: Tensor,
    held_out: Tensor,
    temperature: float,
    scale: Tensor | float,
) -> Tensor:
    """(e) Episodic transfer: some seen classes are treated as unseen and classified by composed prototypes.

    For held-out classes h:  p_h' = normalise(sum_{s kept} softmax_s(cos(t_h, t_s) / tau) p_s),
    L = -1/B' sum_{b: y_b held out} log softmax_h(scale cos(v_b, p_h')).

    Args:
        v: [B, D]. targets: int64 [B]. prototypes: [S, D]. t: [S, D'], embeddings of the labels.
        held_out: bool [S], the classes treated as unseen, at least 2; at least one class is kept.
        temperature: tau > 0. scale: factor on the cosine.

    Returns:
        the loss over the B' videos of held-out classes; 0 where the batch shows none.
    """
    related = cosines(t, t) / temperature
    relatedness = torch.softmax(related.masked_fill(held_out, -torch.inf), dim=1)
    composed = relatedness @ F.normalize(prototypes, dim=1)
    logits = (scale * cosines(v, composed)).masked_fill(~held_out, -torch.inf)
    each = -torch.log_softmax(logits, dim=1).gather(1, targets[:, None])[:, 0]
    shown = held_out[targets]
    return torch.where(shown, each, 0).sum() / shown.sum().clamp(min=1)

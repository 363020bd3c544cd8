"""Visual prototypes of unseen labels, composed from a bank of seen classes: the paper's semantic transfer.

Shape letters: S seen classes, U unseen labels, E semantic dimensions, D visual dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from zsar_cli.labels import readable
from zsar_cli.transfer.bank import PrototypeBank, require_width
from zsar_cli.transfer.relatedness import relatedness

__all__ = ["compose", "compose_beside", "toward_examples"]

# Of an added bank (see `compose_beside`). Measured with means of exercise videos beside two models' own banks: shares
# of 0.3 to 0.4 and thresholds of 0.7 to 0.8 help the added classes and cost the other labels nothing.
ADDED_SHARE, ADDED_NEAR, ADDED_WIDTH = 0.4, 0.75, 0.05
# Of examples (see `toward_examples`). Measured with one video of a label as its example: more helps it and costs
# others, as a video is nearer to any video than to a composed prototype. Several examples want no larger share.
EXAMPLE_SHARE = 0.4


def compose(
    bank: PrototypeBank, labels: Sequence[str], semantic: Tensor, top_k: int, temperature: float
) -> tuple[PrototypeBank, Tensor]:
    """Visual prototypes of unseen labels: P_u = normalise(A @ P_s) (semantic transfer, ResT, arXiv 2205.01657).

    Args:
        bank: the seen classes.
        labels: U names. One that reads the same as a seen class is that class: its row of A is a row of the identity.
        semantic: T_u [U, E], from the bank's own text encoder.
        top_k, temperature: see `relatedness`.

    Returns:
        the composed bank of U classes, and A [U, S], who composed whom.

    Raises:
        PrototypeError: the bank's semantic rows have another width than T_u.
    """
    require_width(semantic, bank.semantic, "semantic")
    weights = relatedness(semantic, bank.semantic, top_k, temperature, bank.phrases)
    seen = {readable(label).casefold(): index for index, label in enumerate(bank.labels)}
    for row, label in enumerate(labels):
        if (index := seen.get(readable(label).casefold())) is not None:
            weights[row] = torch.zeros_like(weights[row]).index_fill_(0, torch.tensor(index), 1.0)
    visual = torch.nn.functional.normalize(weights @ bank.visual, dim=1)
    composed = replace(bank, labels=tuple(labels), semantic=semantic, visual=visual, kind="composed", phrases=None)
    return composed, weights


def compose_beside(
    own: PrototypeBank, own_weights: Tensor, added: PrototypeBank, top_k: int, temperature: float
) -> tuple[PrototypeBank, Tensor]:
    """Prototypes from a model's own bank and from an added one: P_u = normalise(P_own + share g_u P_added).

    Banks of different making do not compete class by class: prototypes from a handful of videos of one collection would
    win everywhere. Each bank composes by itself, and an added one composes only labels near to its classes:
    g_u = sigmoid((c_u - near) / width), c_u the cosine of label u to its nearest class there.

    Args:
        own, own_weights: U labels composed from the model's own S classes, and A [U, S].
        added: X classes of the same model.
        top_k, temperature: see `compose`.

    Returns:
        the composed bank of U classes, and each class's part in it, rows that sum to 1 [U, S + X], in the order of
        `bank.beside(added)`.
    """
    require_width(own.visual, added.visual, "visual")
    other, other_weights = compose(added, own.labels, own.semantic, top_k, temperature)
    nearest = (own.semantic @ added.semantic.T).amax(dim=1)
    gate = ADDED_SHARE * torch.sigmoid((nearest - ADDED_NEAR) / ADDED_WIDTH)[:, None]
    visual = torch.nn.functional.normalize(own.visual + gate * other.visual, dim=1)
    return replace(own, visual=visual), torch.cat([own_weights, gate * other_weights], dim=1) / (1 + gate)


def toward_examples(prototypes: Tensor, examples: Tensor) -> Tensor:
    """Prototypes of labels drawn towards what their examples look like: normalise(normalise(P_u) + share e_u).

    Args:
        prototypes: P [.., U, D].
        examples: e [U, D], unit rows, or zeros for a label without an example, which stays what it is.

    Returns:
        [.., U, D], unit rows.
    """
    unit = torch.nn.functional.normalize(prototypes, dim=-1)
    return torch.nn.functional.normalize(unit + EXAMPLE_SHARE * examples, dim=-1)

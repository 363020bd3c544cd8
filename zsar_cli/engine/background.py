"""What labels stand out against: everyday actions that are none of them (see `lexicon.background_actions`)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zsar_cli.engine.deciding import Beside
from zsar_cli.labels import LabelSet
from zsar_cli.text.encoder import TextEncoder, encode_labels
from zsar_cli.text.lexicon import background_actions
from zsar_cli.transfer.decision import NEAR
from zsar_cli.transfer.explanation import UNRELATED

if TYPE_CHECKING:
    from zsar_cli.engine.classifier import ZeroShotClassifier

__all__ = ["background_semantic", "cosine_to_background", "look_beside"]


def background_semantic(encoder: TextEncoder) -> Tensor:
    """Semantic embeddings of the B actions, [B, E], the packaged ones where these are of the encoder."""
    actions = background_actions()
    if encoder.fingerprint == actions.text_encoder:
        return actions.semantic
    return encode_labels(encoder, LabelSet.from_names(actions.names).labels)


def cosine_to_background(encoder: TextEncoder, labels: LabelSet) -> Tensor:
    """How much each label means the same as each action: cosines of semantic embeddings, [U, B]."""
    return encode_labels(encoder, labels.labels) @ background_semantic(encoder).T


def look_beside(members: Sequence[ZeroShotClassifier], labels: LabelSet) -> Beside:
    """What labels are judged against, by the relatedness encoder of the first model and the banks of all."""
    far = cosine_to_background(members[0].model.text, labels).amax(dim=0) < NEAR
    actions = tuple(compress(background_actions().names, far.tolist()))
    banks = [(member, bank) for member in members for bank in (member.bank, member.added) if bank is not None]
    nearest = [
        (encode_labels(member.model.text, labels.labels) @ bank.semantic.T).amax(dim=1) for member, bank in banks
    ]
    strange = torch.stack(nearest).amax(dim=0) < UNRELATED if nearest else torch.zeros(len(labels))
    return Beside(far, actions, frozenset(compress(labels.names, strange.tolist())))

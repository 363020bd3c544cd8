"""EfficientNet-Lite by OpenVINO, which takes less time on a CPU than torch and gives the same but for the last digits.

The network is written in OpenVINO's own operations: that and compiling it take a tenth of a second, so nothing is kept
between runs. To convert the module of torch would take seconds.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zsar_cli.errors import MissingExtraError, ModelError, UsageError
from zsar_cli.networks.efficientnet import EfficientNetLite, InvertedResidual, SameConv

__all__ = ["OpenVINOLite", "import_openvino", "precisions"]

OPERATIONS = "openvino.opset8"
REPORTS = "openvino.tools.ovc"
HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}


def import_openvino() -> Any:
    """The package, without its tools of conversion: their import reports to their makers over the network.

    Raises:
        MissingExtraError: it is not installed.
        ModelError: it is, but cannot be imported.
    """
    if (known := sys.modules.get("openvino")) is not None:
        return known
    sys.modules[REPORTS] = None  # type: ignore[assignment]  # an import of it fails, which the package takes for absence
    try:
        return import_module("openvino")
    except ModuleNotFoundError as error:
        if error.name == "openvino":
            raise MissingExtraError("openvino", "openvino", "--runtime openvino") from None
        raise _unusable(error) from None
    except (ImportError, OSError) as error:
        raise _unusable(error) from None
    finally:
        del sys.modules[REPORTS]


def precisions() -> tuple[str, ...]:
    """What OpenVINO computes with on this processor: "fp32", and "bf16" where it has that.

    Raises:
        MissingExtraError, ModelError: as `import_openvino`; no device of OpenVINO is a CPU.
    """
    try:
        able = import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except RuntimeError as error:
        raise _unusable(error) from None
    return ("fp32", "bf16") if "BF16" in able else ("fp32",)


class OpenVINOLite:
    """`EfficientNetLite.forward` on a CPU, with as many threads as torch has.

    OpenVINO is imported, and the network compiled, when it is first called: a run that finds all embeddings in the
    cache does neither.

    Args:
        network: its weights are read, at any time up to the first call.
        dtype: of the arithmetic, float32 or bfloat16.
    """

    def __init__(self, network: EfficientNetLite, dtype: torch.dtype = torch.float32) -> None:
        self._network, self._dtype = network, dtype
        self._compiled: dict[torch.Size, Any] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """float32 [B, 3, S, S] -> float32 [B, 1280].

        Raises:
            MissingExtraError, ModelError: OpenVINO cannot be used.
            UsageError: this processor has no bfloat16.
        """
        frames = images.permute(0, 2, 3, 1).contiguous()
        if frames.shape not in self._compiled:
            self._compiled[frames.shape] = self._compile(frames.shape)
        return torch.from_numpy(self._compiled[frames.shape](frames.numpy())[0])

    def _compile(self, shape: torch.Size) -> Any:
        if self._dtype == torch.bfloat16 and "bf16" not in precisions():
            raise UsageError("--precision bf16: OpenVINO has none on this processor; take fp32, or --runtime torch")
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[self._dtype],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # the decode processes have the same processors
        }
        openvino = import_openvino()
        try:
            return openvino.Core().compile_model(_written(openvino, self._network, shape), "CPU", settings)
        except (ImportError, RuntimeError) as error:  # a release before 2025 lacks the operations
            raise _unusable(error) from None


def _written(openvino: Any, network: EfficientNetLite, shape: torch.Size) -> Any:
    """The network as OpenVINO's model: float32 [B, S, S, 3] -> [B, 1280]."""
    ops = import_module(OPERATIONS)
    given = ops.parameter(list(shape), np.float32)
    x = _convolved(ops, ops.transpose(given, [0, 3, 1, 2]), network.stem)
    for block in network.blocks:
        assert isinstance(block, InvertedResidual)
        y = x if block.expand is None else _convolved(ops, x, block.expand)
        y = _convolved(ops, _convolved(ops, y, block.depthwise), block.project)
        x = ops.add(x, y) if block.residual else y
    pooled = ops.reduce_mean(_convolved(ops, x, network.head), [2, 3], keep_dims=False)
    return openvino.Model([pooled], [given], "efficientnet-lite")


def _convolved(ops: Any, x: Any, layer: SameConv) -> Any:
    weight, bias = (part.detach().float().contiguous() for part in (layer.weight, layer.bias) if part is not None)
    convolution = ops.convolution
    if layer.groups > 1:
        convolution, weight = ops.group_convolution, weight.reshape(layer.groups, -1, *weight.shape[1:])
    kernel = ops.constant(weight.numpy())
    y = convolution(x, kernel, list(layer.stride), [0, 0], [0, 0], [1, 1], auto_pad="same_upper")
    y = ops.add(y, ops.constant(bias.reshape(1, -1, 1, 1).numpy()))
    return ops.clamp(y, 0.0, 6.0) if layer.clamps else y


def _unusable(error: Exception) -> ModelError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return ModelError(
        f"OpenVINO is installed but cannot be used ({reason}): pip install --upgrade openvino, or take --runtime torch"
    )

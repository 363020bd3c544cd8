"""Tiny .tflite classifiers written by hand, operator by operator, so that their answers are known in closed form.

All but one average colour: the image input is averaged to one value per colour channel [1, 3], a fully connected layer
turns that into scores. A streaming one carries the running sum and the number of frames as its states.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed (pip install ai-edge-litert)")
import flatbuffers
from ai_edge_litert import schema_py_generated as schema

TYPES = {
    np.float32: schema.TensorType.FLOAT32,
    np.int32: schema.TensorType.INT32,
    np.int8: schema.TensorType.INT8,
    np.uint8: schema.TensorType.UINT8,
}


class Graph:
    """One subgraph under construction; tensors are named by their indices."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]  # buffer 0 is the empty one
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []

    def tensor(
        self, name: str, shape: list[int], dtype: Any = np.float32, coding: tuple[float, int] | None = None
    ) -> int:
        """A tensor that is computed or given; `coding` is its (scale, zero point). A size of -1 is open."""
        made = schema.TensorT()
        made.name, made.type, made.buffer = name, TYPES[dtype], 0
        made.shape = [max(size, 1) for size in shape]
        made.shapeSignature = shape if -1 in shape else None
        if coding is not None:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [coding[0]], [coding[1]]
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def constant(self, values: Any, dtype: Any = np.float32) -> int:
        """A tensor whose values are part of the file."""
        array = np.asarray(values, dtype)
        index = self.tensor(f"constant{len(self.model.buffers)}", list(array.shape), dtype)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self.graph.tensors[index].buffer = len(self.model.buffers)
        self.model.buffers.append(buffer)
        return index

    def apply(self, name: str, inputs: list[int], output: int, options: Any = None) -> int:
        """An operator such as "ADD"; its options object is named after its type."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, [output]
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.graph.operators.append(operator)
        return output

    def write(self, path: Path, inputs: dict[str, int], outputs: dict[str, int], signature: str | None) -> Path:
        """The file, with a signature of that key or with none."""
        self.graph.inputs, self.graph.outputs = list(inputs.values()), list(outputs.values())
        self.model.subgraphs = [self.graph]
        if signature is not None:
            definition = schema.SignatureDefT()
            definition.signatureKey, definition.subgraphIndex = signature, 0
            definition.inputs, definition.outputs = _named(inputs), _named(outputs)
            self.model.signatureDefs = [definition]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path


def _named(tensors: dict[str, int]) -> list[Any]:
    maps = []
    for name, index in tensors.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        maps.append(entry)
    return maps


def _scored(graph: Graph, colours: int, matrix: np.ndarray, softmax: bool) -> int:
    """Colours [1, 3], or any tensor of C values, through `matrix` [S, C] to scores [1, S]."""
    scores = graph.tensor("scores", [1, len(matrix)])
    options = schema.FullyConnectedOptionsT()
    graph.apply("FULLY_CONNECTED", [colours, graph.constant(matrix), -1], scores, options)
    if not softmax:
        return scores
    soft = schema.SoftmaxOptionsT()
    soft.beta = 1.0
    return graph.apply("SOFTMAX", [scores], graph.tensor("shares", [1, len(matrix)]), soft)


def _colours(graph: Graph, image: int, axes: list[int]) -> int:
    """The mean of an image tensor over `axes`, [1, 3]."""
    options = schema.ReducerOptionsT()
    options.keepDims = False
    colours = graph.tensor("colours", [1, 3])
    return graph.apply("MEAN", [image, graph.constant(axes, np.int32)], colours, options)


def write_plain(
    path: Path,
    matrix: np.ndarray,
    shape: tuple[int, ...] = (1, 8, 8, 3),
    softmax: bool = False,
    whole: bool = False,
    signature: str | None = "serving_default",
) -> Path:
    """A classifier without states: scores = matrix @ mean colour of the whole input.

    Args:
        path: to write.
        matrix: [S, 3].
        shape: of the image input.
        softmax: put one at the end.
        whole: the image input is uint8 with the scale 1 / 255.
        signature: its key; None writes a file without a signature.
    """
    graph = Graph()
    image = given = graph.tensor(
        "image", list(shape), np.uint8 if whole else np.float32, (1 / 255, 0) if whole else None
    )
    if whole:
        image = graph.apply("DEQUANTIZE", [given], graph.tensor("real", list(shape)), schema.DequantizeOptionsT())
    colours = _colours(graph, image, list(range(1, len(shape) - 1)))
    return graph.write(path, {"frames": given}, {"scores": _scored(graph, colours, matrix, softmax)}, signature)


def write_linear(path: Path, matrix: np.ndarray, size: int = 16) -> Path:
    """An image classifier that sees where something is: scores = matrix @ frame, matrix [S, size * size * 3]."""
    graph = Graph()
    image = graph.tensor("image", [1, size, size, 3])
    return graph.write(path, {"frames": image}, {"scores": _scored(graph, image, matrix, False)}, "serving_default")


def write_streaming(
    path: Path, matrix: np.ndarray, size: int = 8, step: int = 1, coding: tuple[float, int] | None = None
) -> Path:
    """A classifier with states: scores = matrix @ mean over all frames so far of their mean colour.

    Args:
        path: to write.
        matrix: [S, 3].
        size: of the frames.
        step: frames a call.
        coding: (scale, zero point) of an int8 state; None keeps it float.
    """
    graph = Graph()
    image = graph.tensor("image", [1, step, size, size, 3])
    kind = np.float32 if coding is None else np.int8
    before = graph.tensor("sum_before", [1, 3], kind, coding)
    count = graph.tensor("count_before", [1], np.int32)
    summed = before
    if coding is not None:
        summed = graph.apply("DEQUANTIZE", [before], graph.tensor("sum_real", [1, 3]), schema.DequantizeOptionsT())
    colours = _colours(graph, image, [1, 2, 3])
    total = graph.apply("ADD", [summed, colours], graph.tensor("sum_after", [1, 3]), schema.AddOptionsT())
    one = graph.constant([1], np.int32)
    frames = graph.apply("ADD", [count, one], graph.tensor("count_after", [1], np.int32), schema.AddOptionsT())
    cast = schema.CastOptionsT()
    cast.inDataType, cast.outDataType = schema.TensorType.INT32, schema.TensorType.FLOAT32
    divisor = graph.apply("CAST", [frames], graph.tensor("count_real", [1]), cast)
    mean = graph.apply("DIV", [total, divisor], graph.tensor("mean", [1, 3]), schema.DivOptionsT())
    scores = _scored(graph, mean, matrix, softmax=False)
    after = total
    if coding is not None:
        stored = graph.tensor("sum_stored", [1, 3], np.int8, coding)
        after = graph.apply("QUANTIZE", [total], stored, schema.QuantizeOptionsT())
    states_in = {"state_sum": before, "state_count": count}
    states_out = {"state_sum": after, "state_count": frames}
    return graph.write(path, {"image": image, **states_in}, {"logits": scores, **states_out}, "serving_default")

"""Reading ONNX files: initializers, and quantized weights as the numbers that the graph makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...formats.floats import ARRAY_LAYOUTS
from ..containers import package
from ..errors import CheckpointError
from ..tensor_info import NOT_MEASURED, Coded, Stream, TensorInfo
from .streams import byte_stream, open_at

__all__ = ["read_onnx"]


class _Weight(NamedTuple):
    """Where a node has its quantized weight: the places of codes, scale and zero point among its inputs, and the axis.

    The axis of the channels is that of `DequantizeLinear` where it is None.
    """

    codes: int
    scale: int
    zero: int
    axis: int | None


_QUANTIZED = {
    "DequantizeLinear": _Weight(0, 1, 2, None),
    "QLinearConv": _Weight(3, 4, 5, 0),
    "QLinearMatMul": _Weight(3, 4, 5, -1),
}
"""Nodes whose quantized weights are read, https://onnx.ai/onnx/operators/."""


def read_onnx(path: Path) -> Iterator[TensorInfo]:
    """List the initializers of an ONNX file; those of external data lie in files beside it.

    A weight that the graph dequantizes is one tensor, by the name of its codes.
    """
    onnx = package("onnx", path)
    try:
        model = onnx.load(str(path), load_external_data=False)
        tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        nodes = list(model.graph.node)
    except Exception as error:  # protobuf has errors of its own for a damaged file
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: not a whole ONNX file (truncated or damaged): {first}") from None
    if not model.ByteSize() or not model.ir_version:
        raise CheckpointError(f"{path}: not an ONNX file: it holds no model")
    weights = dict(_weights(path, nodes, tensors))
    parts = {part for weight in weights.values() if weight.coded for part in weight.coded.parts}
    reasons = dict(_not_recognized(nodes, tensors, parts))
    for name, tensor in tensors.items():
        if name in weights:
            yield weights[name]
        elif name not in parts:
            yield _initializer(path, tensor, reasons.get(name))


def _initializer(path: Path, tensor: Any, reason: str | None) -> TensorInfo:
    shape, name = tuple(tensor.dims), tensor.name
    try:
        dtype = _dtype(tensor)
    except (KeyError, TypeError, ValueError):
        return TensorInfo(name, f"type {tensor.data_type}", shape, path, f"type {tensor.data_type} of ONNX is unknown")
    measured = dtype.name in ARRAY_LAYOUTS or dtype.name.startswith("float8")
    skipped = reason or (None if measured else f"{dtype.name} {NOT_MEASURED}")
    if dtype.hasobject:
        return TensorInfo(name, "string", shape, path, f"string {NOT_MEASURED}")
    external = _external(path, tensor)
    if external is not None and dtype.name not in ("int4", "uint4", "float4_e2m1fn"):
        file, offset = external
        stream = byte_stream(file, name, dtype.newbyteorder("<"), partial(open_at, file, offset))
        return TensorInfo(name, dtype.name, shape, file, skipped, stream, divisible=True)
    return TensorInfo(name, dtype.name, shape, path, skipped, _flat(partial(_array, path, tensor)), divisible=True)


def _dtype(tensor: Any) -> np.dtype[Any]:
    from onnx.helper import tensor_dtype_to_np_dtype

    dtype: np.dtype[Any] = np.dtype(tensor_dtype_to_np_dtype(tensor.data_type))
    return dtype


def _external(path: Path, tensor: Any) -> tuple[Path, int] | None:
    """Return the file of a tensor's external data and where it begins; None where the data are in the model."""
    from onnx import TensorProto

    if tensor.data_location != TensorProto.EXTERNAL:
        return None
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = Path(entries.get("location", ""))
    file = path.parent / location
    if location.is_absolute() or ".." in location.parts or not location.name:
        raise CheckpointError(
            f"{path}: tensor {tensor.name!r} lies in {str(location)!r}, which is not beside the model"
        )
    if not file.is_file():
        raise CheckpointError(f"{path}: names the file {str(location)!r}, which is missing: put it beside the model")
    return file, int(entries.get("offset", 0))


def _array(path: Path, tensor: Any) -> NDArray[Any]:
    from onnx.numpy_helper import to_array

    _external(path, tensor)  # refuses what is missing, or not beside the model
    try:
        array: NDArray[Any] = np.asarray(to_array(tensor, base_dir=str(path.parent)))
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: tensor {tensor.name!r} cannot be read: {first}") from None
    return array


def _flat(array: Callable[[], NDArray[Any]]) -> Stream:
    def stream(sizes: Iterable[int], skip: int = 0) -> Iterator[NDArray[Any]]:
        flat, position = array().reshape(-1), skip
        for size in sizes:
            yield np.array(flat[position : position + size])
            position += size

    return stream


def _weights(path: Path, nodes: Iterable[Any], tensors: Mapping[str, Any]) -> Iterator[tuple[str, TensorInfo]]:
    """Yield the names of codes, and the weights that the graph makes of them."""
    for node in nodes:
        place = _QUANTIZED.get(node.op_type)
        if place is None or len(node.input) <= place.scale:
            continue
        codes, scale = node.input[place.codes], node.input[place.scale]
        zero = node.input[place.zero] if len(node.input) > place.zero else ""
        if codes not in tensors or scale not in tensors or (zero and zero not in tensors):
            continue  # activations
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        axis = attributes.get("axis", 1) if place.axis is None else place.axis
        names = [name for name in (codes, scale, zero) if name]
        parts = [tensors[name] for name in names]
        decode = partial(_decoded, path, parts, axis, attributes.get("block_size", 0))
        shape = tuple(parts[0].dims)
        bits = sum(int(np.prod(part.dims)) * _bits(part) for part in parts) / max(int(np.prod(shape)), 1)
        words = f"{_dtype(parts[0]).name} of ONNX, scales in {_dtype(parts[1]).name}"
        files = tuple(dict.fromkeys((_external(path, part) or (path, 0))[0] for part in parts))
        coded = Coded(words, tuple(names), bits, files)
        yield codes, TensorInfo(codes, "float32", shape, path, None, _flat(decode), True, coded)


def _bits(tensor: Any) -> int:
    dtype = _dtype(tensor)
    return 4 if dtype.name in ("int4", "uint4", "float4_e2m1fn") else 8 * dtype.itemsize


def _decoded(path: Path, parts: list[Any], axis: int, block: int) -> NDArray[np.float32]:
    """Return (codes - zero point) * scale as `DequantizeLinear`: a scale for all, for an axis, or for blocks of it."""
    codes, scale, *zero = (_array(path, part) for part in parts)
    stretched = [_along(part, codes.shape, axis, block) for part in (scale, *zero)]
    if any(part is None for part in stretched):
        raise CheckpointError(f"{path}: the codes and scales of {parts[0].name!r} do not belong together")
    factor, *offset = (np.asarray(part, np.float32) for part in stretched)
    difference = codes.astype(np.float32) - (offset[0] if offset else np.float32(0))
    return (difference * factor).astype(scale.dtype).astype(np.float32)


def _along(part: NDArray[Any], shape: tuple[int, ...], axis: int, block: int) -> NDArray[Any] | None:
    if part.size == 1:
        return part.reshape(())
    if not -len(shape) <= axis < len(shape):
        return None
    axis %= len(shape)
    if block and part.ndim == len(shape):
        index = [slice(None)] * len(shape)
        index[axis] = slice(shape[axis])
        long = np.repeat(part, block, axis)[tuple(index)]
        return long if long.shape == shape else None
    if part.shape != (shape[axis],):
        return None
    return part.reshape([-1 if place == axis else 1 for place in range(len(shape))])


def _not_recognized(nodes: Iterable[Any], tensors: Mapping[str, Any], parts: set[str]) -> Iterator[tuple[str, str]]:
    """Yield the floats beside integer matrices in nodes whose weights are not read: they are scales, not weights."""
    for node in nodes:
        inputs = [name for name in node.input if name in tensors and name not in parts]
        codes = next((name for name in inputs if len(tensors[name].dims) > 1 and _is_codes(tensors[name])), None)
        if codes is None or node.op_type in ("Gather", "GatherND"):
            continue
        for name in inputs:
            yield name, f"quantized in a way that is not recognized ({node.op_type} of {codes!r})"


def _is_codes(tensor: Any) -> bool:
    return _dtype(tensor).name in ("int8", "uint8", "int4", "uint4", "int2", "uint2")

"""Which tensors of a checkpoint are the codes, scales and zero points of a weight that another tool quantized."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError
from ..model_config import model_config
from ..safetensors import dtype_of, stored_type
from ..tensor_info import Coded, TensorInfo
from .grouped import awq, gptq
from .normal_float import four_bit_table
from .packed import four_bit_floats, packed_integers
from .parts import Decode, Meaning, Parts, read, rows_in
from .quanto import quanto_packed
from .scaled import scaled, scaled_by_columns, scaled_floats
from .torchao import torchao_bytes, torchao_four_bit_floats, torchao_four_bit_integers

__all__ = ["LAYOUTS", "Layout", "as_weights", "quantization_of"]

_PIECE = 1 << 17  # elements decoded at a time


_FLOAT8 = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
_CODE_TYPES = ("int8", "uint8", "int32", *_FLOAT8)


class Layout(NamedTuple):
    """How the tensors of one weight are named.

    Attributes
    ----------
    codes, weight : str
        What the name of the codes ends in, and that of the weight instead.
    needs, may : tuple of str
        What the names of the companions end in instead: those that must be there, those that can be.
    meaning : callable
        From the tensors and the model's ``quantization_config`` to what they stand for; None if it is another layout.
    types : tuple of str
        What the codes can be stored as.
    """

    codes: str
    weight: str
    needs: tuple[str, ...]
    may: tuple[str, ...]
    meaning: Callable[[Parts, dict[str, Any]], Meaning | None]
    types: tuple[str, ...] = _CODE_TYPES


_BITSANDBYTES = (
    ".nested_absmax",
    ".nested_quant_map",
    ".quant_state.bitsandbytes__nf4",
    ".quant_state.bitsandbytes__fp4",
)

_PRE_SCALE = "_weight_act_pre_scale"

_EXACT = (".exact_index", ".exact")
"""Values of our own files that stand in place of decoded ones, and their places in the flat weight."""

LAYOUTS = (
    # DeepSeek, Qwen: transformers' fine-grained FP8
    Layout("", "", ("_scale_inv",), (), scaled),
    # ModelOpt NVFP4
    Layout("", "", ("_scale", "_scale_2"), (), four_bit_floats),
    # compressed-tensors float- and int-quantized, ModelOpt FP8, our own files without their header
    Layout("", "", ("_scale",), ("_zero_point",), scaled),
    # compressed-tensors nvfp4- and mxfp4-pack-quantized, then pack-quantized
    Layout("_packed", "", ("_scale",), ("_global_scale",), four_bit_floats),
    Layout("_packed", "", ("_scale",), ("_shape", "_zero_point", "_g_idx"), packed_integers),
    # gpt-oss
    Layout("_blocks", "", ("_scales",), (), four_bit_floats),
    # GPTQ, AWQ
    Layout("qweight", "weight", ("qzeros", "scales"), ("g_idx",), gptq),
    Layout("qweight", "weight", ("qzeros", "scales"), (), awq),
    # bitsandbytes
    Layout("", "", (".absmax", ".quant_map"), _BITSANDBYTES, four_bit_table),
    Layout("weight", "weight", ("SCB",), ("weight_format",), scaled_by_columns),
    # Quanto int8 and float8, then of 2 and 4 bits
    Layout("._data", "", ("._scale",), (), scaled),
    Layout("._data._data", "", ("._scale", "._shift"), (), quanto_packed),
    # torchao: NVFP4Tensor and MXTensor, Int4Tensor, then Float8Tensor, Int8Tensor, IntxUnpackedToInt8Tensor, MXTensor
    Layout("_weight_qdata", "weight", ("_weight_scale",), ("_weight_per_tensor_scale", _PRE_SCALE),
           torchao_four_bit_floats),
    Layout("_weight_qdata", "weight", ("_weight_scale", "_weight_zero_point"), (_PRE_SCALE,),
           torchao_four_bit_integers),
    Layout("_weight_qdata", "weight", ("_weight_scale",), ("_weight_zero_point", _PRE_SCALE), torchao_bytes),
    # our own codes of 16 bits without their header
    Layout("", "", (".scale",), (".scale_outer", ".zero"), scaled_floats, ("float16", "bfloat16")),
)  # fmt: skip
"""How tools name and store quantized weights; the first that fits is taken."""

_COMPANIONS = (
    "scale", "scales", "scale_inv", "scale_2", "global_scale", "zero_point", "qzeros", "g_idx", "absmax", "quant_map",
    "SCB", "shift", "scale_and_zero", "per_tensor_scale", "act_pre_scale", "scale_outer", "zero", "exact",
    "exact_index",
)  # fmt: skip
_ACTIVATIONS = (
    "input_scale", "output_scale", "input_global_scale", "input_zero_point", "input_scale_inv", "k_scale", "v_scale",
    "q_scale", "activation_scale", "pre_quant_scale", "_weight_act_quant_scale", "_weight_act_quant_zero_point",
    "_weight_act_per_tensor_scale",
)  # fmt: skip


_WITH_SCALES = ("fp8", "fbgemm_fp8", "compressed-tensors", "modelopt", "torchao", "quanto")
"""Methods of ``quantization_config`` that store a scale beside each float8 weight."""


def quantization_of(path: Path) -> dict[str, Any]:
    """Return the ``quantization_config`` of a model's ``config.json`` beside a checkpoint; empty if there is none."""
    config = model_config(path).get("quantization_config")
    return config if isinstance(config, dict) else {}


def as_weights(tensors: Sequence[TensorInfo], config: dict[str, Any]) -> tuple[TensorInfo, ...]:
    """Put weights in place of the codes and companions that stand for them.

    Parameters
    ----------
    tensors : sequence of TensorInfo
        As the files have them.
    config : dict
        The model's ``quantization_config``.

    Returns
    -------
    tuple of TensorInfo
        The weights are float32, and say in ``coded`` how they are stored. What looks like codes or scales and is not
        recognized is not measured: its ``skipped`` says so.
    """
    by_name = {tensor.name: tensor for tensor in tensors}
    weights: dict[str, TensorInfo] = {}
    taken: set[str] = set()
    for tensor in tensors:
        weight = None if tensor.name in taken else _weight_of(tensor, by_name, config)
        if weight is not None:
            weights[tensor.name] = weight
            assert weight.coded is not None
            taken.update(weight.coded.parts)
    left = {name: tensor for name, tensor in by_name.items() if name not in taken}
    reasons = dict(_without_scales(left, config)) | dict(
        _not_weights(left, [tensor.name for tensor in weights.values()])
    )
    clash = next((tensor for tensor in weights.values() if tensor.name in left), None)
    if clash is not None:
        raise CheckpointError(f"{clash.source}: has the tensor {clash.name!r} twice, plain and quantized: remove one")
    merged = (weights.get(tensor.name, tensor) for tensor in tensors if tensor.name in weights or tensor.name in left)
    return tuple(
        dataclasses.replace(tensor, skipped=reasons[tensor.name]) if tensor.name in reasons else tensor
        for tensor in merged
    )


def _weight_of(codes: TensorInfo, by_name: Mapping[str, TensorInfo], config: dict[str, Any]) -> TensorInfo | None:
    for layout in LAYOUTS:
        if codes.dtype not in layout.types or not codes.name.endswith(layout.codes):
            continue
        stem = codes.name.removesuffix(layout.codes)
        parts = {"codes": codes} | {
            suffix: by_name[stem + suffix] for suffix in (*layout.needs, *layout.may) if stem + suffix in by_name
        }
        meaning = _meaning(layout, parts, config) if all(suffix in parts for suffix in layout.needs) else None
        if meaning is not None:
            name = stem + layout.weight
            exact = {suffix: by_name[name + suffix] for suffix in _EXACT if name + suffix in by_name}
            return _decoded(name, meaning, parts | exact if len(exact) == len(_EXACT) else parts)
    return None


def _meaning(layout: Layout, parts: Parts, config: dict[str, Any]) -> Meaning | None:
    try:
        return layout.meaning(parts, config)
    except CheckpointError:
        raise
    except (ValueError, TypeError, KeyError, IndexError):  # a description that is none
        return None


def _decoded(name: str, meaning: Meaning, parts: Parts) -> TensorInfo:
    codes, size = parts["codes"], rows_in(meaning.shape) * meaning.shape[-1]
    nbytes = sum(part.size * dtype_of(stored_type(part.dtype)).itemsize for part in parts.values())
    files = tuple(dict.fromkeys(part.source for part in parts.values()))
    coded = Coded(meaning.words, tuple(part.name for part in parts.values()), 8 * nbytes / max(size, 1), files)

    def stream(sizes: Iterable[int], skip: int = 0) -> Iterator[NDArray[Any]]:
        columns, place = meaning.shape[-1], skip
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                decode = meaning.decode()
                places, exact = _exact_values(parts, size)
                for wanted in sizes:
                    numbers = _flat(decode, columns, place, wanted)
                    first, last = np.searchsorted(places, (place, place + wanted))
                    numbers[places[first:last] - place] = exact[first:last]
                    yield numbers
                    place += wanted
        except CheckpointError:
            raise
        except (ValueError, TypeError, KeyError, IndexError) as error:
            what = f"the codes and scales of {name!r} do not belong together"
            raise CheckpointError(f"{codes.source}: {what}: {error}") from None

    divisible = codes.divisible and meaning.by_rows
    return TensorInfo(name, "float32", meaning.shape, codes.source, None, stream, divisible, coded)


def _exact_values(parts: Parts, size: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the places of values that are kept exactly, ascending, and the values."""
    if _EXACT[0] not in parts:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    places, values = read(parts[_EXACT[0]]).astype(np.int64), read(parts[_EXACT[1]])
    if places.shape != values.shape or (np.diff(places, prepend=-1, append=size) < 1).any():
        raise ValueError("the places of exact values are not in order, or not in the tensor")
    return places, values


def _flat(decode: Decode, columns: int, start: int, count: int) -> NDArray[np.float32]:
    """Return elements of the flat weight: whole rows, a piece at a time, cut at both ends."""
    numbers = np.empty(count, np.float32)
    step, done = max(1, _PIECE // max(columns, 1)), 0
    while done < count:
        row = (start + done) // columns
        last = min(row + step, -(-(start + count) // columns))
        piece = decode(range(row, last)).reshape(-1)[start + done - row * columns :][: count - done]
        numbers[done : done + piece.size] = piece
        done += piece.size
    return numbers


def _without_scales(left: Mapping[str, TensorInfo], config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield float8 weights whose config promises scales that are not there, and say so."""
    method = config.get("quant_method")
    if method not in _WITH_SCALES or config.get("format") == "dense":
        return
    plain = [str(name) for key in ("ignore", "modules_to_not_convert") for name in config.get(key) or ()]
    for name, tensor in left.items():
        if tensor.dtype in _FLOAT8 and len(tensor.shape) > 1 and name.removesuffix(".weight") not in plain:
            yield name, f"float8 codes without the scales that config.json promises (quant_method {method!r})"


def _not_weights(left: Mapping[str, TensorInfo], weights: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the tensors that are no weights, and why: scales of activations, and what is not recognized."""
    modules = {name.rpartition(".")[0] for name in weights}
    for name, tensor in left.items():
        last = name.rpartition(".")[2]
        if weights and last in _ACTIVATIONS and (name.rpartition(".")[0] in modules or tensor.size <= 1):
            yield name, "a scale of activations"
        for suffix in _COMPANIONS:
            stem = name.removesuffix(suffix).rstrip("._")
            if not name.endswith((f"_{suffix}", f".{suffix}")) or stem == name:
                continue
            wide = ("float16", "bfloat16") if f"{stem}.scale" in left and stem in left else ()  # ours
            owners = (one for one in _owners(stem) if one in left)
            owner = next((one for one in owners if _may_be_codes(left[one]) or left[one].dtype in wide), None)
            if owner is not None:
                yield owner, _unrecognized(owner, last)
                yield name, f"belongs to {owner!r}, which is quantized in a way that is not recognized"
                break


def _unrecognized(owner: str, companion: str) -> str:
    if owner.endswith("._data._data"):
        return "in groups of Quanto, which is not recognized without the weight's shape: dequantize it there"
    return f"quantized in a way that is not recognized ({companion!r} is beside it)"


def _owners(stem: str) -> Iterator[str]:
    yield from (stem, f"{stem}.weight", f"{stem}.qweight", f"{stem}_packed", f"{stem}_blocks", f"{stem}._data",
                f"{stem}_qdata", f"{stem}._data._data", f"{stem}._data._packed")  # fmt: skip


def _may_be_codes(tensor: TensorInfo) -> bool:
    return tensor.dtype in (*_CODE_TYPES, "uint16") and tensor.size > 1

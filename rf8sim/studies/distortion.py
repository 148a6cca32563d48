"""What quantization changed: a quantized checkpoint compared with its original, whichever tools wrote them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._base.threads import WORKER, available_threads
from ..checkpoints.checkpoint import CHUNK_ELEMENTS, CheckpointError
from ..checkpoints.opening import open_any
from ..checkpoints.pairing import Pair, Pairing, pair_tensors
from ..checkpoints.safetensors import dtype_of, stored_type
from ..checkpoints.tensor_info import TensorInfo
from ..quantization.records import Count, ExtendedFloat, Record

__all__ = ["Distortion", "NotCompared", "TensorDistortion", "compare_checkpoints"]

_PIECES = 16  # of CHUNK_ELEMENTS, in a part of a tensor that a thread reads


class TensorDistortion(Record, frozen=True):
    """A tensor compared with its original; or several together.

    Attributes
    ----------
    name, quantized_name : str
        Its names.
    shape : tuple of int
        Its shape.
    stored_as, original_as : str
        How it is stored, and how the original is: a type, or codes and scales.
    bits_per_weight : float
        Stored bits for each element, scales included.
    tied : bool
        Whether it is an output layer that one file lacks, compared with the embedding that it is tied to.
    elements : int
        Elements in all.
    finite : int
        Elements that are finite in both; the sums are over these.
    differing : int
        Elements that are finite in one alone.
    equal, underflow : int
        Elements that did not change, and that became zero.
    signal, noise, product, energy : float
        Sums of squares of the original and of the differences; of products of both; of squares of the quantized.
    relative, related : float, int
        Sum of ``|x - y| / |x|`` over elements that are not zero in either, and how many these are.
    largest_error, largest_value : float
        The largest magnitude of a difference, and of the original.
    """

    name: str
    quantized_name: str
    shape: tuple[int, ...]
    stored_as: str
    original_as: str
    bits_per_weight: float
    tied: bool
    elements: Count
    finite: Count
    differing: Count
    equal: Count
    underflow: Count
    signal: ExtendedFloat
    noise: ExtendedFloat
    product: ExtendedFloat
    energy: ExtendedFloat
    relative: ExtendedFloat
    related: Count
    largest_error: ExtendedFloat
    largest_value: ExtendedFloat
    derived = ("sqnr_db", "cosine", "relative_error", "mean_relative_error", "identical")

    @property
    def sqnr_db(self) -> ExtendedFloat:
        """Signal to quantization noise in dB: inf without noise, else -inf without signal; null in JSON."""
        if not self.noise:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf

    @property
    def cosine(self) -> float | None:
        """Cosine of the angle between both as vectors; None if one has no signal."""
        if not (self.signal and self.energy):
            return None
        return 1.0 if self.identical else min(1.0, self.product / math.sqrt(self.signal) / math.sqrt(self.energy))

    @property
    def relative_error(self) -> float | None:
        """Norm of the difference, divided by that of the original; None without signal."""
        return math.sqrt(self.noise / self.signal) if self.signal else None

    @property
    def mean_relative_error(self) -> float | None:
        """Mean of ``|x - y| / |x|`` over elements that are not zero in either; None if there are none."""
        return self.relative / self.related if self.related else None

    @property
    def identical(self) -> bool:
        """Whether no element changed."""
        return self.equal == self.finite and not self.differing


class NotCompared(Record, frozen=True):
    """A tensor that was not compared: its name, why, and whether the comparison is incomplete without it."""

    name: str
    reason: str
    matters: bool


class Distortion(Record, frozen=True):
    """Two checkpoints compared.

    Attributes
    ----------
    original, quantized : str
        Their names.
    tensors : tuple of TensorDistortion
        Tensor by tensor, in the order of the original.
    total : TensorDistortion
        All of them together, those that are tied to another counted once.
    not_compared : tuple of NotCompared
        Tensors that are in one file alone, or of other shapes, or no weights.
    notes : tuple of str
        How names were mapped.
    """

    original: str
    quantized: str
    tensors: tuple[TensorDistortion, ...]
    total: TensorDistortion
    not_compared: tuple[NotCompared, ...]
    notes: tuple[str, ...]
    derived = ("missing",)

    @property
    def missing(self) -> tuple[str, ...]:
        """Weights of the original that were not compared."""
        return tuple(tensor.name for tensor in self.not_compared if tensor.matters)

    @property
    def changed(self) -> tuple[TensorDistortion, ...]:
        """The tensors that changed, the lowest SQNR first."""
        return tuple(
            sorted((t for t in self.tensors if not t.identical), key=lambda t: (not t.differing, t.sqnr_db, t.name))
        )


def compare_checkpoints(
    original: str | Path,
    quantized: str | Path,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    threads: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Distortion:
    """Compare a quantized checkpoint with its original, tensor by tensor, whichever tools wrote them.

    Parameters
    ----------
    original, quantized : str or Path
        A file that `rf8sim` reads, an index of several, a folder, or an id of Hugging Face: plain, quantized by another
        tool, or by `quantize_checkpoint`. Quantized weights are read as the numbers that codes and scales stand for.
    include, exclude : sequence of str
        Patterns of names (``*.weight``) to compare alone, and to leave out.
    threads : int, optional
        Threads that read and compare; by default one for each CPU. The result does not depend on them.
    progress : callable, optional
        Called with a tensor's name, the elements done and the elements in all.

    Returns
    -------
    Distortion
        Errors of each tensor and of all; tensors without a certain counterpart are named and not compared.

    Raises
    ------
    CheckpointError
        If one cannot be read, or no tensor is in both.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/a.npz", w=np.float32([1.0, 2.0, 3.0]), b=np.float32([1.0]))
    ...     np.savez(f"{folder}/b.npz", w=np.float16([1.0, 2.0, 3.5]))
    ...     compared = compare_checkpoints(f"{folder}/a.npz", f"{folder}/b.npz")
    >>> compared.total.noise, round(compared.total.sqnr_db, 2), compared.missing
    (0.25, 17.48, ('b',))
    """
    first, second = open_any(original), open_any(quantized)
    pairing = _chosen(pair_tensors(first, second), include, exclude)
    if not pairing.pairs:
        doubt = next((f": {tensor.name!r}: {tensor.reason}" for tensor in pairing.unpaired if tensor.matters), "")
        raise CheckpointError(f"{second.path}: has no tensor to compare with one of {first.path}{doubt}")
    tensors = _measure(pairing.pairs, threads or available_threads(), progress)
    names = _names(Path(original), Path(quantized))
    return Distortion(
        original=names[0],
        quantized=names[1],
        tensors=tensors,
        total=_together(tensors),
        not_compared=tuple(NotCompared(t.name, t.reason, t.matters) for t in pairing.unpaired),
        notes=pairing.notes,
    )


def _names(original: Path, quantized: Path) -> tuple[str, str]:
    """Return what the two are called: their last names, or with their folders where these are the same."""
    names = [["/".join(path.parts[-count:]) for path in (original, quantized)] for count in (1, 2, 3)]
    first, second = next((pair for pair in names if pair[0] != pair[1]), names[0])
    return first, second


def _chosen(pairing: Pairing, include: Sequence[str], exclude: Sequence[str]) -> Pairing:
    def wanted(name: str) -> bool:
        inside = not include or any(fnmatchcase(name, pattern) for pattern in include)
        return inside and not any(fnmatchcase(name, pattern) for pattern in exclude)

    pairs = tuple(pair for pair in pairing.pairs if wanted(pair.original.name))
    return Pairing(pairs, tuple(tensor for tensor in pairing.unpaired if wanted(tensor.name)), pairing.notes)


def _measure(
    pairs: Sequence[Pair], threads: int, progress: Callable[[str, int, int], None] | None
) -> tuple[TensorDistortion, ...]:
    """Compare all pairs in threads; the parts of a tensor are put together in their order."""
    total, done = sum(pair.original.size for pair in pairs), 0
    parts = {(index, part): pair for index, pair in enumerate(pairs) for part in _parts(pair)}
    sums: dict[tuple[int, range], _Sums] = {}
    with ThreadPoolExecutor(threads, thread_name_prefix=WORKER) as pool:
        waiting: dict[Future[_Sums], tuple[int, range]] = {
            pool.submit(_part_sums, pair, part): (index, part) for (index, part), pair in parts.items()
        }
        try:
            while waiting:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    key = waiting.pop(future)
                    sums[key] = future.result()
                    done += len(key[1])
                    if progress:
                        progress(pairs[key[0]].original.name, done, total)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    ordered: list[list[_Sums]] = [[] for _ in pairs]
    for index, part in parts:
        ordered[index].append(sums[index, part])
    return tuple(_record(pair, mine) for pair, mine in zip(pairs, ordered, strict=True))


_Sums = tuple[NDArray[np.float64], NDArray[np.int64]]


def _step(pair: Pair) -> int:
    """Return the elements of a piece: whole heads, where rows are in another order."""
    shape, rows = pair.original.shape, pair.head_rows
    if not rows:
        return CHUNK_ELEMENTS
    head = rows * math.prod(shape[1:])
    return max(1, CHUNK_ELEMENTS // head) * head


def _parts(pair: Pair) -> list[range]:
    size, step = pair.original.size, _step(pair) * _PIECES
    if not (pair.original.divisible and pair.quantized.divisible):
        return [range(size)]
    return [range(start, min(start + step, size)) for start in range(0, size, step)] or [range(0)]


def _part_sums(pair: Pair, part: range) -> _Sums:
    from .._kernels.differences import difference_sums

    step = _step(pair)
    count = -(-len(part) // step)
    sums, counts = np.zeros((count, 7)), np.zeros((count, 5), np.int64)
    first = pair.original.stored(step, part.start, part.stop)
    second = pair.quantized.stored(step, part.start, part.stop)
    for piece, (x, y) in enumerate(zip(first, second, strict=True)):
        before, after = _plain_float(x), _plain_float(y)
        if pair.head_rows and pair.original_is_gguf:
            after = _in_gguf_order(after, pair)
        elif pair.head_rows:
            before = _in_gguf_order(before, pair)
        difference_sums(before, after, sums[piece], counts[piece])
    return sums, counts


def _plain_float(values: NDArray[Any]) -> NDArray[Any]:
    """Return numbers as float32, or as float64 if they are wider."""
    if values.dtype.name == "bfloat16":  # faster than a cast
        wide = np.empty(values.shape, np.uint32)
        np.left_shift(values.view(np.uint16), np.uint32(16), out=wide, dtype=np.uint32, casting="unsafe")
        return wide.view(np.float32)
    wanted = np.float64 if values.dtype.kind == "f" and values.dtype.itemsize >= 8 else np.float32
    return np.ascontiguousarray(values, wanted)


def _in_gguf_order(values: NDArray[Any], pair: Pair) -> NDArray[Any]:
    columns = math.prod(pair.original.shape[1:])
    halves = values.reshape(-1, 2, pair.head_rows // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(-1)


def _record(pair: Pair, parts: Sequence[_Sums]) -> TensorDistortion:
    sums = np.concatenate([part[0] for part in parts])
    finite, differing, related, underflow, equal = np.sum([part[1].sum(axis=0) for part in parts], axis=0).tolist()
    signal, noise, product, energy, relative = (_sum(sums[:, column]) for column in range(5))
    return TensorDistortion(
        name=pair.original.name,
        quantized_name=pair.quantized.name,
        shape=pair.original.shape,
        stored_as=_words(pair.quantized),
        original_as=_words(pair.original),
        bits_per_weight=_bits(pair.quantized),
        tied=pair.tied,
        elements=pair.original.size,
        finite=finite,
        differing=differing,
        equal=equal,
        underflow=underflow,
        signal=signal,
        noise=noise,
        product=product,
        energy=energy,
        relative=relative,
        related=related,
        largest_error=float(sums[:, 5].max(initial=0.0)),
        largest_value=float(sums[:, 6].max(initial=0.0)),
    )


def _together(tensors: Sequence[TensorDistortion]) -> TensorDistortion:
    counted = [tensor for tensor in tensors if not tensor.tied]
    elements = sum(tensor.elements for tensor in counted)

    def total(field: str) -> Any:
        values = [getattr(tensor, field) for tensor in counted]
        return _sum(np.array(values)) if isinstance(values[0], float) else sum(values)

    counts = ("finite", "differing", "equal", "underflow", "related")
    sums = ("signal", "noise", "product", "energy", "relative")
    return TensorDistortion(
        name="all",
        quantized_name="all",
        shape=(elements,),
        stored_as="",
        original_as="",
        bits_per_weight=math.fsum(t.bits_per_weight * t.elements for t in counted) / max(elements, 1),
        tied=False,
        elements=elements,
        largest_error=max(tensor.largest_error for tensor in counted),
        largest_value=max(tensor.largest_value for tensor in counted),
        **{field: total(field) for field in (*counts, *sums)},
    )


def _words(info: TensorInfo) -> str:
    return info.dtype if info.coded is None else info.coded.words


def _bits(info: TensorInfo) -> float:
    return 8.0 * dtype_of(stored_type(info.dtype)).itemsize if info.coded is None else info.coded.bits


def _sum(values: NDArray[np.float64]) -> float:
    return math.fsum(values) if np.isfinite(values).all() else float(np.sum(values))

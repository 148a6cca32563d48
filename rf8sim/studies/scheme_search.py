"""Which scale mode, block size and scale format suits a checkpoint: families of block-scaled schemes, all measured."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from .._base.checks import choose
from ..checkpoints.checkpoint import CHUNK_ELEMENTS, TensorInfo
from ..formats import Format
from ..quantization.numbers import number_bits
from ..quantization.records import Count, ExtendedFloat, Record, SchemeField, to_builtins
from ..quantization.scheme import Scales, Scheme, as_scheme
from .experiment import Settings
from .measuring import Metering, Prepared
from .meters import Meter
from .pieces import every_nth_row
from .rate_distortion import coded_bits, open_matrices
from .scheduling import map_tensors

__all__ = [
    "BLOCKS", "FAMILIES", "MODES", "SCALE_FORMATS", "Group", "SchemeSearch", "SearchSpace", "SearchedScheme",
    "SearchedTensor", "Tally", "block_scheme", "mode_of", "pareto_front", "search_schemes",
]  # fmt: skip


class Family(NamedTuple):
    """Formats of elements that are compared, and the formats of scales that they are tried with."""

    elements: tuple[str, ...]
    scale_formats: tuple[str, ...]


class Mode(NamedTuple):
    """A scale mode: the rule and the rounding of `Scales` that it is, and what it does."""

    rule: str
    rounding: str
    summary: str


MODES: dict[str, Mode] = {
    "floor": Mode("floor", "up", "floor(log2(amax)) - emax: OCP MX 1.0, section 6.3; torchao FLOOR"),
    "even": Mode("even", "up", "floor, amax first rounded to the precision of an element; torchao EVEN"),
    "nearest": Mode("max", "nearest-even", "amax / max rounded to the nearest number that the scale's format has"),
    "ceil": Mode("ceil", "up", "ceil(log2(amax)) - emax; torchao CEIL"),
    "rceil": Mode("rceil", "up", "ceil(log2(amax / max)), so that nothing is clipped; torchao RCEIL"),
    "up": Mode("max", "up", "amax / max rounded up, so that nothing is clipped"),
    "signed": Mode("signed", "up", "the element of largest magnitude, with its sign, maps to the lowest value (Q4_0)"),
    "mse": Mode("mse", "up", "least squared error on the block, found by search"),
}
"""Every scale mode. All but ``mse`` need only the largest magnitude of a block, amax."""

_MODES_OF_SCALES = {
    "e8m0fnu": ("floor", "even", "nearest", "ceil", "rceil", "mse"),
    "e4m3fn": ("nearest", "up", "mse"),
    "float16": ("nearest", "up", "signed", "mse"),
    "bfloat16": ("nearest", "up", "signed", "mse"),
    "float32": ("nearest", "signed", "mse"),
}
SCALE_FORMATS = tuple(_MODES_OF_SCALES)
"""Formats of scales; e4m3fn scales have a float32 scale for the tensor, as those of NVFP4 have."""

_FOR_FLOATS = ("e8m0fnu", "e4m3fn", "bfloat16", "float32")
FAMILIES: dict[str, Family] = {
    "mxfp8": Family(("e4m3fn", "e5m2"), _FOR_FLOATS),
    "mxfp6": Family(("e3m2fn", "e2m3fn"), _FOR_FLOATS),
    "mxfp4": Family(("e2m1fn",), _FOR_FLOATS),
    "mxint8": Family(("int8",), _FOR_FLOATS),
    "nvfp4": Family(("e2m1fn",), ("e4m3fn",)),
    "int4": Family(("int4",), ("e8m0fnu", "float16", "bfloat16", "float32")),
}
"""The families, by the name that ``--family`` takes."""

BLOCKS: tuple[int | str, ...] = (16, 32, 64, 128, "channel")
"""Elements of a row that share a scale."""

_REFERENCES = {4: ("nf4_g64", "q4_0"), 6: ("rf6/1x32",), 8: ("rf8/1x32", "q8_0")}
"""Schemes of other kinds, by the bits of an element, that are measured beside."""

_MOST_SCALE_BITS = 0.5
"""A scale that takes more bits for each of its elements is not tried: another element format spends them better."""

_BATCH = 16
"""Schemes measured in one pass over the checkpoint: their sums of rows are held together."""


def block_scheme(element: str, block: int | str, scale_format: str, mode: str) -> Scheme:
    """Return the scheme of a scale mode.

    Parameters
    ----------
    element : str
        The format of the elements.
    block : int or str
        Elements of a row that share a scale, or ``channel``.
    scale_format : str
        One of `SCALE_FORMATS`.
    mode : str
        One of `MODES`.

    Examples
    --------
    >>> str(block_scheme("e2m1fn", 32, "e8m0fnu", "floor")), str(block_scheme("e2m1fn", 16, "e4m3fn", "nearest"))
    ('mxfp4', 'nvfp4')
    """
    rule, rounding, _ = MODES[choose("scale mode", mode, MODES)]
    outer = Scales(None, "float32", "max") if scale_format == "e4m3fn" else None
    return Scheme(element, Scales(block, scale_format, rule, rounding, outer))


def mode_of(scheme: Scheme) -> str:
    """Return the scale mode of a scheme: the name in `MODES`, or for other schemes that of the rule.

    Examples
    --------
    >>> [mode_of(as_scheme(name)) for name in ("mxfp4", "nvfp4", "q4_0", "nf4_g64", "rf8/1x32")]
    ['floor', 'nearest', 'signed', 'up', 'mse']
    """
    if scheme.scales is None:
        return "none"
    rounding = {"nearest-even": "nearest"}.get(scheme.scales.rounding, scheme.scales.rounding)
    return rounding if scheme.scales.rule == "max" else scheme.scales.rule


class SearchSpace(Record, frozen=True):
    """The schemes that are tried.

    Attributes
    ----------
    families : tuple of str
        Keys of `FAMILIES`.
    blocks : tuple of int or str
        Elements of a row that share a scale; ``channel`` for a row.
    scale_formats : tuple of str
        Some of `SCALE_FORMATS`; empty for those of each family.
    mse : bool
        Whether the mode ``mse`` is among them, which takes most of the time.

    Examples
    --------
    >>> space = SearchSpace(("mxfp4",), (32,), ("e8m0fnu",))
    >>> [mode_of(scheme) for scheme in space.schemes()]
    ['floor', 'even', 'nearest', 'ceil', 'rceil', 'mse']
    """

    families: tuple[str, ...] = ("mxfp4",)
    blocks: tuple[int | str, ...] = BLOCKS
    scale_formats: tuple[str, ...] = ()
    mse: bool = True

    def __post_init__(self) -> None:
        for name in self.families:
            choose("family of schemes", name, FAMILIES)
        for name in self.scale_formats:
            choose("format of scales", name, SCALE_FORMATS)
        for block in self.blocks:
            if not (block == "channel" or (isinstance(block, int) and block >= 2)):
                raise ValueError(f"a block size is a whole number of 2 or more, or 'channel', got {block!r}")
        if not self.families or not self.blocks:
            raise ValueError("nothing to try: name a family and a block size")
        for field in ("families", "blocks", "scale_formats"):
            msgspec.structs.force_setattr(self, field, tuple(dict.fromkeys(getattr(self, field))))

    def schemes(self) -> tuple[Scheme, ...]:
        """Return the schemes by element format, scale format, block size and mode, each once.

        Raises
        ------
        ValueError
            If there is none: every scale would take more than half a bit for each element.
        """
        schemes: dict[Scheme, None] = {}
        for family in self.families:
            elements, usual = FAMILIES[family]
            for element, number, block in itertools.product(elements, self.scale_formats or usual, self.blocks):
                if isinstance(block, int) and number_bits(number) > _MOST_SCALE_BITS * block:
                    continue
                for mode in _MODES_OF_SCALES[number]:
                    if (mode == "mse" and not self.mse) or (mode == "signed" and element != "int4"):
                        continue
                    schemes[block_scheme(element, block, number, mode)] = None
        if not schemes:
            raise ValueError(
                "nothing to try: a scale of these formats would take more than half a bit for each element; give a "
                "larger --block"
            )
        return tuple(schemes)

    def references(self) -> tuple[Scheme, ...]:
        """Return schemes of other kinds with elements of the same widths."""
        tried = self.schemes()
        widths = sorted({scheme.format.bits for scheme in tried})
        others = (as_scheme(name) for width in widths for name in _REFERENCES[width])
        return tuple(scheme for scheme in others if scheme not in tried)


# --- records ----------------------------------------------------------------------------------------------------------


class Tally(Record, frozen=True):
    """Sums over weights in one scheme; those of other weights add up with ``|``.

    Attributes
    ----------
    weights : int
        Finite weights.
    sum_squares, sum_squared_error : float
        Of the weights, and of their errors.
    clipped : int
        Weights beyond the largest or below the lowest value times their scale.
    zeroed : int
        Weights that are not zero and are rounded to zero.
    stored_bits : int
        Bits of codes at the width of the format, of scales and outer scales.
    coded_bits : float
        Bits of the codes of each tensor coded by rANS, tables and heads counted, and of scales as they are.
    """

    weights: Count
    sum_squares: float
    sum_squared_error: float
    clipped: Count
    zeroed: Count
    stored_bits: Count
    coded_bits: float

    derived = ("sqnr_db", "bits_per_weight", "coded_bits_per_weight", "clipped_share", "zeroed_share")

    def __or__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))

    @property
    def sqnr_db(self) -> ExtendedFloat:
        """Signal to quantization noise ratio in dB; infinite (null in JSON) where every weight is exact."""
        if self.sum_squared_error == 0:
            return math.inf
        return 10 * math.log10(self.sum_squares / self.sum_squared_error) if self.sum_squares else -math.inf

    @property
    def bits_per_weight(self) -> float:
        """Bits stored for each weight, scales counted."""
        return self.stored_bits / self.weights if self.weights else 0.0

    @property
    def coded_bits_per_weight(self) -> float:
        """Bits for each weight with the codes coded by rANS, scales and tables counted."""
        return self.coded_bits / self.weights if self.weights else 0.0

    @property
    def clipped_share(self) -> float:
        """Share of the weights that are clipped."""
        return self.clipped / self.weights if self.weights else 0.0

    @property
    def zeroed_share(self) -> float:
        """Share of the weights that are rounded to zero."""
        return self.zeroed / self.weights if self.weights else 0.0


class SearchedTensor(Record, frozen=True):
    """A tensor that was measured.

    Attributes
    ----------
    name, kind : str
        Its name, and the kind that `ggd.survey.kind_of` takes it for.
    shape : tuple of int
        Shape of what was measured.
    """

    name: str
    kind: str
    shape: tuple[Count, ...]


class SearchedScheme(Record, frozen=True):
    """One scheme on all tensors.

    Attributes
    ----------
    scheme : Scheme
        How the tensors are stored.
    mode : str
        Its scale mode, as `mode_of` has it.
    total : Tally
        Of all tensors.
    kinds : dict of str to Tally
        Of the tensors of each kind.
    tensor_db : tuple of float
        SQNR of each tensor in dB; infinite (null in JSON) where every weight is exact.
    """

    scheme: SchemeField
    mode: str
    total: Tally
    kinds: dict[str, Tally]
    tensor_db: tuple[ExtendedFloat, ...]

    derived = ("name",)

    @property
    def name(self) -> str:
        """Name of the scheme, or its text form if it has none."""
        return str(self.scheme)

    @property
    def worst(self) -> int:
        """Index of the tensor of the least SQNR."""
        return min(range(len(self.tensor_db)), key=self.tensor_db.__getitem__)

    def sqnr_db(self, kind: str | None = None) -> float:
        """Return the SQNR of all tensors, or of those of a kind."""
        return (self.total if kind is None else self.kinds[kind]).sqnr_db


@dataclass(frozen=True)
class Group:
    """Schemes that differ in the scale mode alone.

    Attributes
    ----------
    element : Format
        The format of the elements.
    scale_format, block : str
        What scales are stored in, and the block as schemes write it: ``1x32``, ``channel``.
    results : tuple of SearchedScheme
        One for each mode.
    """

    element: Format
    scale_format: str
    block: str
    results: tuple[SearchedScheme, ...]

    @property
    def rules(self) -> tuple[SearchedScheme, ...]:
        """The modes that need only the largest magnitude of a block."""
        return tuple(result for result in self.results if result.mode != "mse")

    @property
    def baseline(self) -> SearchedScheme:
        """What others are compared with: OCP's floor for powers of two, ``nearest`` for other scales."""
        usual = "floor" if self.scale_format == "e8m0fnu" else "nearest"
        return next(result for result in self.results if result.mode == usual)

    def best(self, kind: str | None = None) -> SearchedScheme:
        """Return the rule of the highest SQNR, of those equal the first; on all tensors, or those of a kind."""
        return max(self.rules, key=lambda result: result.sqnr_db(kind))

    def result(self, mode: str) -> SearchedScheme | None:
        """Return the scheme of a mode; None if it was not tried."""
        return next((result for result in self.results if result.mode == mode), None)

    def gain(self, result: SearchedScheme, kind: str | None = None) -> float:
        """Return how many dB a scheme has over the baseline; 0 if both are exact."""
        high, low = result.sqnr_db(kind), self.baseline.sqnr_db(kind)
        return 0.0 if high == low else high - low

    def wins(self, result: SearchedScheme) -> int:
        """Count the tensors on which no other rule is better."""
        best = [max(column) for column in zip(*(rule.tensor_db for rule in self.rules), strict=True)]
        return sum(map(operator.ge, result.tensor_db, best))


class SchemeSearch(Record, frozen=True):
    """Everything that was measured.

    Attributes
    ----------
    checkpoint : str
        Its name.
    space : SearchSpace
        What was tried.
    every : int
        Every how many rows of each matrix were measured.
    tensors : tuple of SearchedTensor
        In the order of the file.
    results : tuple of SearchedScheme
        By element format, scale format, block size and mode.
    references : tuple of SearchedScheme
        Schemes of other kinds, as wide.
    """

    checkpoint: str
    space: SearchSpace
    every: Count
    tensors: tuple[SearchedTensor, ...]
    results: tuple[SearchedScheme, ...]
    references: tuple[SearchedScheme, ...]

    derived = ("schema",)

    @property
    def schema(self) -> Literal[1]:
        """Version of this form."""
        return 1

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of tensors, in the order of the file."""
        return tuple(dict.fromkeys(tensor.kind for tensor in self.tensors))

    def groups(self) -> tuple[Group, ...]:
        """Return the schemes in groups that differ in the scale mode alone."""
        groups: dict[tuple[Format, str, str], list[SearchedScheme]] = {}
        for result in self.results:
            scales = result.scheme.scales
            assert scales is not None
            groups.setdefault((result.scheme.format, scales.format, scales.block_text), []).append(result)
        return tuple(Group(*key, tuple(results)) for key, results in groups.items())

    def front(self, coded: bool = False) -> tuple[SearchedScheme, ...]:
        """Return the schemes, references among them, that no other dominates, by rising bits.

        Parameters
        ----------
        coded : bool
            Whether bits are those with the codes coded by rANS, not those stored.
        """
        both = (*self.results, *self.references)
        return tuple(both[index] for index in pareto_front([(rate(r, coded), r.sqnr_db()) for r in both]))

    def to_json(self) -> dict[str, Any]:
        """Return plain data; numbers that follow from the sums stand beside them, an infinite one is None."""
        data: dict[str, Any] = to_builtins(self)
        return data


def rate(result: SearchedScheme, coded: bool) -> float:
    """Return the bits per weight of a scheme, entropy-coded or as stored."""
    return result.total.coded_bits_per_weight if coded else result.total.bits_per_weight


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which points no other dominates, that is, has no more bits and no fewer dB, and not the same of both.

    Parameters
    ----------
    points : sequence of (float, float)
        Bits, of which less is better, and dB, of which more is better.

    Returns
    -------
    list of int
        Indices, by rising bits; of equal points all.

    Examples
    --------
    >>> pareto_front([(4.0, 18.0), (4.0, 17.0), (5.0, 18.0), (6.0, 20.0), (6.0, 20.0)])
    [0, 3, 4]
    """
    order = sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1], index))
    front: list[int] = []
    for index in order:
        if not front or points[index][1] > points[front[-1]][1] or points[index] == points[front[-1]]:
            front.append(index)
    return front


# --- measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tallying(Metering):
    """What is done with a tensor: a tally for each scheme."""

    def __call__(self, tensor: TensorInfo, advance: Callable[[int], None]) -> list[Tally]:
        prepared, meters = self.meters(tensor, advance)
        return self.merge(tensor, prepared, [meters])

    def merge(self, tensor: TensorInfo, prepared: Prepared, measured: list[list[Meter]]) -> list[Tally]:
        """Return the tallies of the tensor from the meters of its parts."""
        return [_tally(Meter.of_parts(parts), tensor.shape) for parts in zip(*measured, strict=True)]


def _tally(meter: Meter, shape: tuple[int, ...]) -> Tally:
    error, scheme = meter.errors.total(), meter.scheme
    scales, codes = scheme.scale_bits(shape), scheme.format.bits * error.total
    coded, _ = coded_bits(error.code_counts, "rans", scheme.format.bits)
    return Tally(
        error.count, error.sum_squares, error.sum_squared_error, error.overflow, error.underflow, codes + scales,
        coded + scales,
    )  # fmt: skip


def search_schemes(
    path: str | Path,
    space: SearchSpace | None = None,
    *,
    every: int = 1,
    wants: Callable[[str], bool] = lambda name: True,
    threads: int | None = None,
    chunk_elements: int = CHUNK_ELEMENTS,
    progress: Callable[[str, int, int], None] | None = None,
) -> SchemeSearch:
    """Measure every scheme of some families on the matrices of a checkpoint.

    The checkpoint is read a chunk at a time, once for each 16 schemes. The numbers depend neither on the chunks nor on
    threads: they are those of quantizing each tensor in one piece. Weights that are not finite are passed over.

    Parameters
    ----------
    path : str or Path
        The checkpoint.
    space : SearchSpace, optional
        What to try; by default the family ``mxfp4``.
    every : int
        Measure only rows 0, ``every``, 2 ``every`` and so on of each matrix.
    wants : callable
        Which tensors, by their names; tensors of fewer than two axes are left out.
    threads : int, optional
        Tensors measured at a time, and parts of a large one; by default as many as the process has processors.
    chunk_elements : int
        The most elements of a tensor held at a time, by each thread.
    progress : callable, optional
        Called with a tensor's name, the work done and all.

    Returns
    -------
    SchemeSearch
        The measurements.

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be read, or no matrix is left.
    ValueError
        If nothing is left to try, or ``every`` is below 1.

    Examples
    --------
    >>> space = SearchSpace(("mxfp4",), (32,), ("e8m0fnu",))
    >>> search = search_schemes("examples/lm/model.safetensors", space, wants=lambda name: "head" in name)
    >>> [group] = search.groups()
    >>> group.best().mode, round(group.gain(group.best()), 2)
    ('even', 0.08)
    """
    from ggd.survey import kind_of

    if every < 1:
        raise ValueError(f"every must be at least 1, got {every}")
    space = space or SearchSpace()
    tried, references = space.schemes(), space.references()
    schemes = (*tried, *references)
    tensors = [every_nth_row(matrix.info, every, chunk_elements) for matrix in open_matrices(path, wants)]
    kinds = [kind_of(tensor.name) for tensor in tensors]
    measured: list[SearchedScheme] = []
    for batch, shown in _batches(schemes, progress):
        work = _Tallying(Settings(batch), chunk_elements)
        columns = zip(*map_tensors(work, tensors, threads=threads, progress=shown), strict=True)
        measured += [_searched(scheme, column, kinds) for scheme, column in zip(batch, columns, strict=True)]
    known = tuple(SearchedTensor(tensor.name, kind, tensor.shape) for tensor, kind in zip(tensors, kinds, strict=True))
    results, beside = tuple(measured[: len(tried)]), tuple(measured[len(tried) :])
    return SchemeSearch(Path(path).name, space, every, known, results, beside)


def _batches(
    schemes: Sequence[Scheme], progress: Callable[[str, int, int], None] | None
) -> Iterator[tuple[tuple[Scheme, ...], Callable[[str, int, int], None] | None]]:
    """Yield some schemes at a time, and what shows the progress of all."""
    starts = range(0, len(schemes), _BATCH)

    def shown(number: int, name: str, done: int, total: int) -> None:
        if progress:
            progress(name, number * total + done, len(starts) * total)

    for number, start in enumerate(starts):
        yield tuple(schemes[start : start + _BATCH]), functools.partial(shown, number) if progress else None


def _searched(scheme: Scheme, tallies: Sequence[Tally], kinds: Sequence[str]) -> SearchedScheme:
    of_kinds: dict[str, Tally] = {}
    for kind, tally in zip(kinds, tallies, strict=True):
        of_kinds[kind] = of_kinds[kind] | tally if kind in of_kinds else tally
    decibels = tuple(tally.sqnr_db for tally in tallies)
    return SearchedScheme(scheme, mode_of(scheme), functools.reduce(operator.or_, tallies), of_kinds, decibels)


def element_formats(results: Sequence[SearchedScheme]) -> tuple[Format, ...]:
    """Return the formats of the elements, each once."""
    return tuple({result.scheme.format: None for result in results})

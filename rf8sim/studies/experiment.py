"""What is measured on a checkpoint: plain records that merge and that JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import numpy as np

from .._base import display as _display
from .._base.checks import choose
from ..codec.rounding import Rounding, RoundingMode, check_choices
from ..formats import get_format
from ..quantization.metrics import QuantizationError
from ..quantization.scaling import SCALE_RULES, SCALINGS

__all__ = [
    "SCHEMA_VERSION", "ChannelRecord", "ChoiceRecord", "Experiment", "FitRecord", "FormatRecord", "Settings",
    "SkippedTensor", "TensorRecord",
]  # fmt: skip

SCHEMA_VERSION = 1
"""Version of the JSON form of an `Experiment`; it changes when a field's name or meaning does."""

_Record = TypeVar("_Record")


@dataclass(frozen=True)
class FormatRecord:
    """What one format does to some numbers; two records of the same format merge with ``|``.

    Attributes
    ----------
    format : str
        Name of the format.
    bits : int
        Bits of a code.
    error : QuantizationError
        The sums, over the finite numbers.
    scales, scale_bits : int
        Number of scales stored, and bits of each.
    smallest_scale, largest_scale : float
        The range of the scales.
    """

    format: str
    bits: int
    error: QuantizationError
    scales: int
    scale_bits: int
    smallest_scale: float
    largest_scale: float

    def __or__(self, other: FormatRecord) -> FormatRecord:
        """Merge with the record of other numbers in the same format."""
        if (self.format, self.bits, self.scale_bits) != (other.format, other.bits, other.scale_bits):
            raise ValueError(f"records of {self.format} and of {other.format} do not merge")
        return FormatRecord(
            format=self.format,
            bits=self.bits,
            error=self.error | other.error,
            scales=self.scales + other.scales,
            scale_bits=self.scale_bits,
            smallest_scale=min(self.smallest_scale, other.smallest_scale),
            largest_scale=max(self.largest_scale, other.largest_scale),
        )

    @property
    def sqnr_db(self) -> float | None:
        """``10 log10(sum x**2 / sum error**2)`` in dB; inf if every number is exact, None if all are zero.

        None too for float64 numbers so large that their squares overflow.
        """
        return _existing(self.error.sqnr_db) if math.isfinite(self.error.sum_squares) else None

    @property
    def mean_relative_error(self) -> float | None:
        """Mean of ``|error| / |x|`` over the numbers that do not become zero; None if there is none."""
        return _existing(self.error.mean_relative_error)

    @property
    def max_relative_error(self) -> float | None:
        """The largest ``|error| / |x|`` of them."""
        return self.error.max_relative_error if self.error.relative_count else None

    @property
    def underflow_share(self) -> float | None:
        """Share of the numbers that are not zero and become zero."""
        return _existing(self.error.underflow_share)

    @property
    def overflow_share(self) -> float | None:
        """Share of the numbers that lie beyond the range of the format."""
        return _existing(self.error.overflow_share)

    @property
    def entropy_bits(self) -> float | None:
        """Entropy of the codes in bits per weight: what an ideal entropy coder would need."""
        return _existing(self.error.entropy_bits)

    @property
    def scale_overhead_bits(self) -> float | None:
        """Bits per weight that the scales take."""
        return self.scales * self.scale_bits / self.error.count if self.error.count else None

    @property
    def bits_per_weight(self) -> float | None:
        """Bits per weight stored, scales included, without entropy coding."""
        return None if self.scale_overhead_bits is None else self.bits + self.scale_overhead_bits

    @property
    def coded_bits_per_weight(self) -> float | None:
        """Bits per weight with ideal entropy coding of the codes, scales included."""
        if self.entropy_bits is None or self.scale_overhead_bits is None:
            return None
        return self.entropy_bits + self.scale_overhead_bits

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data: the sums, and what follows from them."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "error"}
        sums = {field.name: getattr(self.error, field.name) for field in fields(QuantizationError)}
        counts = sums.pop("code_counts").tolist()
        numbers = {**own, **{name: getattr(self, name) for name in _DERIVED}, **sums}
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in numbers.items()}
        return {**finite, "code_counts": counts}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FormatRecord:
        """Return the record that `to_json` wrote."""
        sums = {field.name: data[field.name] for field in fields(QuantizationError)}
        sums = {name: math.inf if value is None else value for name, value in sums.items()}
        sums["code_counts"] = np.array(sums["code_counts"], dtype=np.int64)
        return _plain(cls, data, error=QuantizationError(**sums))


def _existing(value: float) -> float | None:
    return None if math.isnan(value) else value


_DERIVED = (
    "sqnr_db", "mean_relative_error", "underflow_share", "overflow_share", "entropy_bits", "bits_per_weight",
    "coded_bits_per_weight",
)  # fmt: skip


@dataclass(frozen=True)
class FitRecord:
    """The generalized Gaussian fitted to some weights, and what rival families cost beside it.

    Attributes
    ----------
    shape, scale : float
        Parameters of the fit, centred on zero (scipy's ``gennorm``: shape 2 is Gaussian, 1 Laplace).
    shape_error : float or None
        Standard error of the shape, for independent weights.
    bits : dict of str to float
        For each family, its mean negative log2 density over the nonzero finite weights, in bits per weight.
        Only differences have a meaning: what coding with one family rather than another costs.
    family : str or None
        The family that `ggd.select` chooses: the simplest of those that lose nothing to speak of.
    """

    shape: float
    scale: float
    shape_error: float | None
    bits: dict[str, float]
    family: str | None = None


@dataclass(frozen=True)
class ChannelRecord:
    """The channels of a tensor in one format, where it has several and all its elements are finite.

    Attributes
    ----------
    format : str
        Name of the format.
    channels : int
        Channels, along axis 0, that have an SQNR: not all zero, and not exact.
    worst : int
        Index of the channel of the least SQNR.
    worst_db, median_db : float
        Its SQNR and the median of all, in dB.
    worst_rms : float
        Its root mean square over that of the tensor.
    """

    format: str
    channels: int
    worst: int
    worst_db: float
    median_db: float
    worst_rms: float


@dataclass(frozen=True)
class ChoiceRecord:
    """What another rounding mode or scaling gives on the sampled part of some tensors.

    Attributes
    ----------
    scaling, scale_rule, rounding : str
        As in `Settings`.
    tensors : tuple of str
        Names of the tensors: the largest of each kind.
    record : FormatRecord
        One format on the first rows of them.
    """

    scaling: str
    scale_rule: str
    rounding: str
    tensors: tuple[str, ...]
    record: FormatRecord

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {**{field.name: getattr(self, field.name) for field in fields(self)}, "record": self.record.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ChoiceRecord:
        """Return the record that `to_json` wrote."""
        return _plain(cls, data, record=FormatRecord.from_json(data["record"]))


@dataclass(frozen=True)
class TensorRecord:
    """One tensor, or all tensors together.

    Attributes
    ----------
    checkpoint, name : str
        Where it is from; the checkpoint is empty in the record of all.
    dtype : str
        Stored type; empty in the record of all, as is the shape.
    shape : tuple of int
        Shape.
    count : int
        Elements.
    zeros, nans, infinities : int
        How many are zero, NaN, infinite.
    mean_magnitude, rms : float
        Mean of the magnitudes and root of the mean square, over the finite elements.
    largest : float
        The largest finite magnitude; 0 if there is none.
    first_bin : int
        The first bin of the histogram.
    bins : tuple of int
        Histogram of the nonzero finite magnitudes in quarter octaves: bin ``4 e + i`` holds those from
        ``2**e (1 + i/4)`` to ``2**e (1 + (i+1)/4)``.
    fit : FitRecord or None
        None where the weights determine none.
    fit_doubt : str
        Why there is no fit, or why it is not to be trusted; else empty.
    formats : tuple of FormatRecord
        In the order of the settings.
    channels : tuple of ChannelRecord
        Of the formats in which channels have an error; empty for a vector and in the record of all.
    """

    checkpoint: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    count: int
    zeros: int
    nans: int
    infinities: int
    mean_magnitude: float
    rms: float
    largest: float
    first_bin: int
    bins: tuple[int, ...]
    fit: FitRecord | None
    fit_doubt: str
    formats: tuple[FormatRecord, ...]
    channels: tuple[ChannelRecord, ...] = ()

    def format(self, name: str) -> FormatRecord:
        """Return the record of one format."""
        return next(record for record in self.formats if record.format == name)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        own["fit"] = None if self.fit is None else asdict(self.fit)
        own["channels"] = [asdict(record) for record in self.channels]
        return {**own, "formats": [record.to_json() for record in self.formats]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TensorRecord:
        """Return the record that `to_json` wrote."""
        fit = None if data["fit"] is None else _plain(FitRecord, data["fit"])
        channels = tuple(_plain(ChannelRecord, record) for record in data["channels"])
        formats = tuple(map(FormatRecord.from_json, data["formats"]))
        return _plain(cls, data, fit=fit, formats=formats, channels=channels)


@dataclass(frozen=True)
class SkippedTensor:
    """A tensor that is not measured, and why."""

    checkpoint: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class Settings:
    """What is asked of an experiment.

    Attributes
    ----------
    formats : tuple of str
        Names of formats.
    scaling, scale_rule, rounding : str
        As in `rf8sim.quantize`. Channels lie along axis 0 and blocks along all the other axes together; a
        tensor of fewer than two axes is one channel.
    block_size : int
        Elements in a block.
    seed : int
        Seed of stochastic rounding.
    include, exclude : tuple of str
        Shell patterns of tensor names: those measured (all if empty), and those of them left out.
    """

    formats: tuple[str, ...] = ("rf8", "e4m3fn", "e5m2", "e3m4", "int8")
    scaling: str = "tensor"
    scale_rule: str = "mse"
    rounding: str = "nearest-even"
    block_size: int = 32
    seed: int = 0
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def check(self) -> None:
        """Raise ValueError if a name is unknown or the settings do not fit each other."""
        choose("scaling", self.scaling, SCALINGS)
        choose("scale rule", self.scale_rule, SCALE_RULES)
        if self.block_size < 1:
            raise ValueError(f"a block has at least 1 element, got {self.block_size}")
        for name in self.formats:
            check_choices(get_format(name), Rounding(self.rounding))
        if not self.formats:
            choose("rounding mode", self.rounding, list(RoundingMode))

    def wants(self, name: str) -> bool:
        """Return whether a tensor of that name is to be measured."""
        included = not self.include or any(fnmatchcase(name, pattern) for pattern in self.include)
        return included and not any(fnmatchcase(name, pattern) for pattern in self.exclude)


@dataclass(frozen=True)
class Experiment:
    """Everything that was measured.

    Attributes
    ----------
    settings : Settings
        What was asked.
    versions : dict of str to str
        Versions of the packages that the numbers depend on.
    checkpoints : tuple of str
        The checkpoints by their names in the records.
    tensors : tuple of TensorRecord
        In the order of the files.
    total : TensorRecord
        All of them together.
    skipped : tuple of SkippedTensor
        What the checkpoints hold besides.
    choices : tuple of ChoiceRecord
        Other rounding modes and scalings than those of the settings, on a sample; the settings' own first.
    """

    settings: Settings
    versions: dict[str, str]
    checkpoints: tuple[str, ...]
    tensors: tuple[TensorRecord, ...]
    total: TensorRecord
    skipped: tuple[SkippedTensor, ...]
    choices: tuple[ChoiceRecord, ...] = ()

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [
            ("tensors", f"{len(self.tensors)}, {self.total.count:,} weights"),
            ("settings", f"{self.settings.scaling} scales by {self.settings.scale_rule}, {self.settings.rounding}"),
        ]
        for record in self.total.formats:
            quality = "–" if record.sqnr_db is None else f"{record.sqnr_db:.2f} dB"
            bits = "–" if record.coded_bits_per_weight is None else f"{record.coded_bits_per_weight:.3f}"
            rows.append((record.format, f"{quality}, {bits} bits per weight entropy-coded"))
        return _display.facts(", ".join(self.checkpoints), rows)

    def to_json(self) -> dict[str, Any]:
        """Return the experiment as plain data for JSON; derived numbers stand beside the sums they come from.

        A number that is infinite or does not exist is None.
        """
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        own |= {"settings": asdict(self.settings), "total": self.total.to_json()}
        own |= {"tensors": [tensor.to_json() for tensor in self.tensors]}
        own |= {"choices": [choice.to_json() for choice in self.choices]}
        return {"schema": SCHEMA_VERSION, **own, "skipped": [asdict(tensor) for tensor in self.skipped]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Experiment:
        """Return the experiment that `to_json` wrote.

        Raises
        ------
        ValueError
            If the data are not such an experiment, or of another version.
        """
        if data.get("schema") != SCHEMA_VERSION:
            raise ValueError(
                f"not a report of this version: expected schema {SCHEMA_VERSION}, got {data.get('schema')!r}"
            )
        try:
            return cls(
                settings=_plain(Settings, data["settings"]),
                versions=dict(data["versions"]),
                checkpoints=tuple(data["checkpoints"]),
                tensors=tuple(TensorRecord.from_json(tensor) for tensor in data["tensors"]),
                total=TensorRecord.from_json(data["total"]),
                skipped=tuple(_plain(SkippedTensor, tensor) for tensor in data["skipped"]),
                choices=tuple(ChoiceRecord.from_json(choice) for choice in data["choices"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a whole report: {error}") from None


def _plain(kind: type[_Record], data: Mapping[str, Any], **given: Any) -> _Record:
    """Make a record from JSON: lists are tuples, and what is not a field (a derived number) is left out."""
    names = {field.name for field in fields(kind)} - given.keys()  # type: ignore[arg-type]
    values = {name: tuple(data[name]) if isinstance(data[name], list) else data[name] for name in names}
    return kind(**values, **given)

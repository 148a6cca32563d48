"""What is measured on a checkpoint: records that merge, each declared once for Python, JSON and the JSON Schema."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

import msgspec

from .._base import display as _display
from ..quantization.metrics import QuantizationError
from ..quantization.records import Count, ExtendedFloat, Record, SchemeField, convert, to_builtins
from ..quantization.scheme import Scheme, as_scheme

__all__ = [
    "SCHEMA_VERSION", "ChannelRecord", "ChoiceRecord", "Experiment", "FitRecord", "SchemeRecord", "Settings",
    "SkippedTensor", "TensorRecord", "check_version",
]  # fmt: skip

SCHEMA_VERSION: Final = 2
"""Version of the JSON form of an `Experiment`; it changes when a field's name or meaning does."""


class SchemeRecord(Record, frozen=True):
    """Error and size of some numbers in one scheme; two records of the same scheme merge with ``|``.

    Attributes
    ----------
    scheme : Scheme
        How the numbers are stored.
    error : QuantizationError
        Sums over the finite numbers.
    scales : int
        Number of scales, outer ones included.
    scale_bits : int
        Bits that all scales and zero points take together.
    smallest_scale, largest_scale : float
        Range of the magnitudes of what decoded values are multiplied by; 1 without scales.
    """

    scheme: SchemeField
    error: QuantizationError
    scales: Count
    scale_bits: Count
    smallest_scale: float
    largest_scale: float

    derived = (
        "name", "sqnr_db", "mean_relative_error", "underflow_share", "overflow_share",
        "entropy_bits", "bits_per_weight", "coded_bits_per_weight",
    )  # fmt: skip

    def __or__(self, other: SchemeRecord) -> SchemeRecord:
        """Merge with the record of other numbers in the same scheme."""
        if self.scheme != other.scheme:
            raise ValueError(f"records of {self.scheme} and of {other.scheme} do not merge")
        return SchemeRecord(
            scheme=self.scheme,
            error=self.error | other.error,
            scales=self.scales + other.scales,
            scale_bits=self.scale_bits + other.scale_bits,
            smallest_scale=min(self.smallest_scale, other.smallest_scale),
            largest_scale=max(self.largest_scale, other.largest_scale),
        )

    @property
    def name(self) -> str:
        """Name of the scheme, or its text form if it has none."""
        return str(self.scheme)

    @property
    def sqnr_db(self) -> float | None:
        """Signal to quantization noise in dB; null in JSON if every number is exact, or all are zero (see the sums)."""
        return _existing(self.error.sqnr_db) if math.isfinite(self.error.sum_squares) else None

    @property
    def mean_relative_error(self) -> float | None:
        """Mean of ``|error| / |x|`` over the numbers that do not become zero; None if there is none."""
        return _existing(self.error.mean_relative_error)

    @property
    def max_relative_error(self) -> float | None:
        """Largest ``|error| / |x|`` of them."""
        return self.error.max_relative_error if self.error.relative_count else None

    @property
    def underflow_share(self) -> float | None:
        """Share of the numbers that are not zero and become zero."""
        return _existing(self.error.underflow_share)

    @property
    def overflow_share(self) -> float | None:
        """Share of the numbers that lie beyond the range of the scaled format."""
        return _existing(self.error.overflow_share)

    @property
    def entropy_bits(self) -> float | None:
        """Entropy of the codes in bits per weight: the rate of an ideal entropy coder."""
        return _existing(self.error.entropy_bits)

    @property
    def scale_overhead_bits(self) -> float | None:
        """Bits per weight that scales and zero points take."""
        return self.scale_bits / self.error.count if self.error.count else None

    @property
    def bits_per_weight(self) -> float | None:
        """Bits per weight stored, scales and zero points included, without entropy coding."""
        return None if self.scale_overhead_bits is None else self.scheme.format.bits + self.scale_overhead_bits

    @property
    def coded_bits_per_weight(self) -> float | None:
        """Bits per weight with ideal entropy coding of the codes, scales and zero points included."""
        if self.entropy_bits is None or self.scale_overhead_bits is None:
            return None
        return self.entropy_bits + self.scale_overhead_bits


def _existing(value: float) -> float | None:
    return None if math.isnan(value) else value


class FitRecord(Record, frozen=True):
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


class ChannelRecord(Record, frozen=True):
    """The channels of a tensor in one scheme, where it has several and all its elements are finite.

    Attributes
    ----------
    scheme : Scheme
        How the tensor is stored.
    channels : int
        Channels that have an SQNR: not all zero, and not exact. A channel is a row of
        `rf8sim.quantization.blocks.matrix_shape`: an output, of each expert where these are stacked.
    worst : int
        Index of the channel of the least SQNR.
    worst_db, median_db : float
        Its SQNR and the median of all, in dB.
    worst_rms : float
        Its root mean square over that of the tensor.
    """

    scheme: SchemeField
    channels: Count
    worst: Count
    worst_db: float
    median_db: float
    worst_rms: float


class ChoiceRecord(Record, frozen=True):
    """Another scheme on the sampled part of some tensors, which differs from one of the settings in one thing.

    Attributes
    ----------
    base : Scheme
        The scheme of the settings.
    varied : str
        What differs: ``rounding``, ``block``, ``rule`` or ``scale_format``; ``none`` for the scheme of the settings.
    tensors : tuple of str
        Names of the tensors: the largest of each kind.
    record : SchemeRecord
        The other scheme on the first rows of them.
    """

    base: SchemeField
    varied: Literal["none", "rounding", "block", "rule", "scale_format"]
    tensors: tuple[str, ...]
    record: SchemeRecord


class TensorRecord(Record, frozen=True):
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
    schemes : tuple of SchemeRecord
        In the order of the settings.
    channels : tuple of ChannelRecord
        Of the schemes in which channels have an error; empty for a vector and in the record of all.
    stored_as : str
        How another tool stored it, if it was quantized already: its numbers are those that its codes and scales stand
        for. Else empty.
    stored_bits : float
        The bits for each element that it takes so.
    """

    checkpoint: str
    name: str
    dtype: str
    shape: tuple[Count, ...]
    count: Count
    zeros: Count
    nans: Count
    infinities: Count
    mean_magnitude: ExtendedFloat
    rms: ExtendedFloat
    largest: float
    first_bin: int
    bins: tuple[Count, ...]
    fit: FitRecord | None
    fit_doubt: str
    schemes: tuple[SchemeRecord, ...]
    channels: tuple[ChannelRecord, ...] = ()
    stored_as: str = ""
    stored_bits: float = 0.0

    def scheme(self, scheme: str | Scheme) -> SchemeRecord:
        """Return the record of one scheme."""
        wanted = as_scheme(scheme)
        return next(record for record in self.schemes if record.scheme == wanted)


class SkippedTensor(Record, frozen=True):
    """A tensor that is not measured, and why."""

    checkpoint: str
    name: str
    dtype: str
    shape: tuple[Count, ...]
    reason: str


class Settings(Record, frozen=True):
    """What is asked of an experiment.

    Attributes
    ----------
    schemes : tuple of Scheme
        How the tensors are to be stored; by default in formats of 8 bits with a scale for each channel, as ``rf8sim
        quantize`` stores them. Texts are read by `rf8sim.as_scheme`; each scheme is measured once.
    seed : int
        Seed of stochastic rounding.
    include, exclude : tuple of str
        Shell patterns of tensor names: those measured (all if empty), and those of them left out.

    Examples
    --------
    >>> Settings(("rf8", "mxfp4", "int8/channel")).schemes
    (Scheme('rf8'), Scheme('mxfp4'), Scheme('int8/channel'))
    """

    schemes: tuple[SchemeField, ...] = (  # type: ignore[assignment]
        "rf8/channel", "e4m3fn/channel", "e5m2/channel", "e3m4/channel", "int8/channel",
    )  # fmt: skip
    seed: Count = 0
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        schemes = tuple(dict.fromkeys(map(as_scheme, self.schemes)))
        msgspec.structs.force_setattr(self, "schemes", schemes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the schemes."""
        return tuple(map(str, self.schemes))

    def wants(self, name: str) -> bool:
        """Return whether a tensor of that name is to be measured."""
        included = not self.include or any(fnmatchcase(name, pattern) for pattern in self.include)
        return included and not any(fnmatchcase(name, pattern) for pattern in self.exclude)


class Experiment(Record, frozen=True):
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
        The other tensors of the checkpoints.
    choices : tuple of ChoiceRecord
        Schemes that differ from those of the settings in one thing, on a sample; for each its own first.
    notes : tuple of str
        What was left out of the files, such as the state of an optimizer: a sentence each.
    """

    settings: Settings
    versions: dict[str, str]
    checkpoints: tuple[str, ...]
    tensors: tuple[TensorRecord, ...]
    total: TensorRecord
    skipped: tuple[SkippedTensor, ...]
    choices: tuple[ChoiceRecord, ...] = ()
    notes: tuple[str, ...] = ()

    derived = ("schema",)

    @property
    def schema(self) -> Literal[2]:
        """Version of this form."""
        return SCHEMA_VERSION

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [("tensors", f"{len(self.tensors)}, {self.total.count:,} weights")]
        for record in self.total.schemes:
            quality = "–" if record.sqnr_db is None else f"{record.sqnr_db:.2f} dB"
            stored, coded = record.bits_per_weight, record.coded_bits_per_weight
            bits = (
                "–" if stored is None or coded is None else f"{stored:.3f} bits per weight, {coded:.3f} entropy-coded"
            )
            rows.append((record.name, f"{quality}, {bits}"))
        return _display.facts(", ".join(self.checkpoints), rows)

    def to_json(self) -> dict[str, Any]:
        """Return the experiment as plain data for JSON; derived numbers stand beside the sums they come from.

        A number that is infinite or does not exist is None.
        """
        data: dict[str, Any] = to_builtins(self)
        return data

    def to_dataframe(self, library: str = "pandas") -> Any:
        """Return a table with a row for each tensor and scheme, and for all tensors together.

        Parameters
        ----------
        library : str
            ``pandas`` or ``polars``.

        Returns
        -------
        DataFrame
            Columns: what the tensor is (``checkpoint``, ``name``, ``shape`` ...; the name of all together is empty),
            its fit, ``scheme``, and the scheme's figures in the words of `SchemeRecord`. None where a number does not
            exist.

        Raises
        ------
        ValueError
            If the library is another, or is not installed.

        Examples
        --------
        >>> import rf8sim.studies.measuring, rf8sim.studies.experiment as e
        >>> settings = e.Settings(("rf8", "int8"), include=("head.weight",))
        >>> measured = rf8sim.studies.measuring.run(["examples/lm/model.safetensors"], settings)
        >>> frame = measured.to_dataframe()
        >>> frame.pivot(index="name", columns="scheme", values="sqnr_db").round(1)
        scheme       int8   rf8
        name
                     38.1  27.6
        head.weight  38.1  27.6
        """
        from .dataframe import to_dataframe

        return to_dataframe(self, library)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Experiment:
        """Return the experiment that `to_json` wrote.

        Raises
        ------
        ValueError
            If the data are not such an experiment, or of another version.
        """
        check_version(data)
        return convert(data, cls)


def check_version(data: Mapping[str, Any]) -> None:
    """Raise ValueError if data of JSON are not of this version."""
    if data.get("schema") != SCHEMA_VERSION:
        got = data.get("schema")
        raise ValueError(f"not a report of this version: expected schema {SCHEMA_VERSION}, got {got!r}")

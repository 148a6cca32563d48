"""What was measured as a table of pandas or polars."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .._base.checks import choose

if TYPE_CHECKING:
    from .experiment import Experiment, TensorRecord

__all__ = ["to_dataframe"]

_TENSOR = ("checkpoint", "name", "dtype", "count", "zeros", "nans", "infinities", "rms", "largest", "stored_as")
_SCHEME = (
    "sqnr_db", "mean_relative_error", "max_relative_error", "underflow_share", "overflow_share", "entropy_bits",
    "bits_per_weight", "coded_bits_per_weight", "scales", "smallest_scale", "largest_scale",
)  # fmt: skip


def to_dataframe(experiment: Experiment, library: str) -> Any:
    """Return a table with a row for each tensor and scheme (`Experiment.to_dataframe`)."""
    choose("library of tables", library, ("pandas", "polars"))
    try:
        module = importlib.import_module(library)
    except ImportError:
        raise ValueError(f"a table of {library} needs {library}: pip install {library}") from None
    rows = [row for record in (*experiment.tensors, experiment.total) for row in _rows(record)]
    return module.DataFrame(rows)


def _rows(record: TensorRecord) -> Iterator[dict[str, Any]]:
    tensor = {name: getattr(record, name) for name in _TENSOR}
    fit = {
        "shape": "x".join(map(str, record.shape)),
        "ggd_shape": None if record.fit is None else record.fit.shape,
        "ggd_scale": None if record.fit is None else record.fit.scale,
        "family": None if record.fit is None else record.fit.family,
    }
    for scheme in record.schemes:
        yield {**tensor, **fit, "scheme": scheme.name, **{name: getattr(scheme, name) for name in _SCHEME}}

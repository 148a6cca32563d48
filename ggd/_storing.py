"""A histogram as plain data and as a file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Stored"]

_FORMAT = "ggd.MagnitudeHistogram/1"
_COUNTERS = ("low_bits", "zero_count", "nan_count", "inf_count", "clamped_low", "clamped_high")


class Stored:
    """The part of `MagnitudeHistogram` that writes and reads."""

    keys: NDArray[np.uint16]
    counts: NDArray[np.int64]
    low_sums: NDArray[np.int64]
    min: float
    max: float

    @property
    def count(self) -> int:
        """Number of finite values."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return the histogram as plain numbers and lists for JSON.

        Returns
        -------
        dict

        Examples
        --------
        >>> from ggd import MagnitudeHistogram
        >>> h = MagnitudeHistogram.from_array([1.0, 2.0])
        >>> MagnitudeHistogram.from_dict(h.to_dict()) == h
        True
        """
        return {
            "format": _FORMAT,
            "keys": self.keys.tolist(),
            "counts": self.counts.tolist(),
            "low_sums": self.low_sums.tolist(),
            **{name: getattr(self, name) for name in _COUNTERS},
            "min": self.min if self.count else None,
            "max": self.max if self.count else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the histogram that `to_dict` wrote.

        Parameters
        ----------
        data : mapping

        Returns
        -------
        MagnitudeHistogram

        Raises
        ------
        ValueError
            If the data are not such a histogram.

        Examples
        --------
        >>> from ggd import MagnitudeHistogram
        >>> MagnitudeHistogram.from_dict({})
        Traceback (most recent call last):
            ...
        ValueError: not a stored histogram: expected format 'ggd.MagnitudeHistogram/1', got None
        """
        if data.get("format") != _FORMAT:
            raise ValueError(f"not a stored histogram: expected format {_FORMAT!r}, got {data.get('format')!r}")
        h = cls()
        try:
            keys = np.asarray(data["keys"], dtype=np.int64)
            h.counts = np.asarray(data["counts"], dtype=np.int64)
            h.low_sums = np.asarray(data["low_sums"], dtype=np.int64)
            for name in _COUNTERS:
                setattr(h, name, int(data[name]))
            h.min, h.max = (math.nan if data[end] is None else float(data[end]) for end in ("min", "max"))
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"not a stored histogram: {error}") from None
        if not (keys.ndim == 1 and keys.shape == h.counts.shape == h.low_sums.shape):
            raise ValueError("not a stored histogram: keys, counts and low_sums differ in length")
        low_ok = (h.low_sums >= 0) & (h.low_sums <= 65535 * h.counts)
        finite = (keys >= 0) & (keys < 65536) & ((keys & 0x7FFF) < 0x7F80)
        if not (np.all(np.diff(keys) > 0) and np.all(finite) and np.all(h.counts > 0) and np.all(low_ok)):
            raise ValueError("not a stored histogram: a key, a count or a sum is out of range")
        h.keys = keys.astype(np.uint16)
        return h

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the histogram to an npz file, whole or not at all.

        Parameters
        ----------
        path : str or path
            Written as named.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> from ggd import MagnitudeHistogram
        >>> h = MagnitudeHistogram.from_array([1.0, 2.0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     h.save(pathlib.Path(folder) / "h.npz")
        ...     MagnitudeHistogram.load(pathlib.Path(folder) / "h.npz") == h
        True
        """
        path = Path(path)
        beside = path.with_name(path.name + ".part")
        try:
            with open(beside, "wb") as file:
                np.savez_compressed(
                    file,
                    format=np.array(_FORMAT),
                    keys=self.keys,
                    counts=self.counts,
                    low_sums=self.low_sums,
                    counters=np.array([getattr(self, name) for name in _COUNTERS], dtype=np.int64),
                    extremes=np.array([self.min, self.max]),
                )
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a histogram that `save` wrote.

        Parameters
        ----------
        path : str or path

        Returns
        -------
        MagnitudeHistogram

        Raises
        ------
        ValueError
            If the file is not such a histogram.
        OSError
            If it cannot be read.

        Examples
        --------
        See `save`.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                stored = {name: file[name] for name in file.files}
            low, high = (None if math.isnan(end) else float(end) for end in stored["extremes"])
            counters = dict(zip(_COUNTERS, stored["counters"].tolist(), strict=True))
            lists = {name: stored[name].tolist() for name in ("keys", "counts", "low_sums")}
            data = {"format": str(stored["format"]), **lists, **counters, "min": low, "max": high}
        except OSError:
            raise
        except Exception as error:  # whatever numpy and zipfile say of a damaged file
            raise ValueError(f"{os.fspath(path)} is not a stored histogram: {error}") from None
        return cls.from_dict(data)

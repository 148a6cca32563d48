"""What a user may write, checked by mypy in strict mode: the public functions have types that fit together."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import ggd
import rf8sim


def compare(x: NDArray[np.float32], names: list[str]) -> dict[str, float]:
    """Return the SQNR of each format."""
    found: dict[str, float] = {}
    for name in names:
        fmt: rf8sim.Format = rf8sim.get_format(name)
        q: rf8sim.QuantizedTensor = rf8sim.quantize(x, rf8sim.Scheme(fmt, rf8sim.Scales("channel")))
        error: rf8sim.QuantizationError = rf8sim.measure(x, q)
        found[name] = error.sqnr_db
    return found


def there_and_back(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """Encode, multiply, decode."""
    codes: NDArray[np.uint8] = rf8sim.encode(x, "rf8", rounding="residual")
    square: NDArray[np.uint8] = rf8sim.multiply(codes, codes, "rf8")
    y: NDArray[np.float32] = rf8sim.decode(square, "rf8").astype(np.float32)
    return y


def shape_of(path: Path) -> float:
    """Fit the generalized Gaussian to a file of numbers."""
    summary: ggd.MagnitudeHistogram = ggd.MagnitudeHistogram.from_array(np.load(path))
    fit: ggd.FitResult = ggd.fit(summary)
    density = ggd.GGD(shape=fit.shape, scale=fit.scale)
    return float(density.entropy()) if fit.trusted else float("nan")

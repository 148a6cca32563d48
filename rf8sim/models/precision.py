"""What of a model is rounded: weights, activations, the cache of keys and values, sums."""

from __future__ import annotations

from typing import Any

import msgspec

from ..quantization.records import Record, SchemeField
from ..quantization.scheme import Scheme, as_scheme
from .datapath import Datapath

__all__ = ["ORIGINAL", "Precision", "as_precision"]

ORIGINAL = "float32"
"""Name of the precision that rounds nothing."""


class Precision(Record, frozen=True):
    """What of a model is rounded; the default rounds nothing.

    Attributes
    ----------
    weights : Scheme or None
        How matrices are stored, or its text form; None leaves them as they are.
    activations : Scheme or None
        How the inputs of layers are rounded. A scheme with one scale for the tensor has a static one for each layer,
        chosen on calibration data; any other chooses scales on the fly (``int8/channel,max``: one for each token).
    cache : Scheme or None
        How keys and values are stored; a row is what one head keeps of one token.
    accumulator : str
        What `torch.nn.Linear` sums in, as in `rf8sim.models.datapath.Datapath`; empty for PyTorch's own product.

    Examples
    --------
    >>> str(Precision("rf8", activations="int8/channel,max")), str(Precision())
    ('rf8, activations int8_channel', 'float32')
    >>> Precision(accumulator="float16")
    Traceback (most recent call last):
    ValueError: accumulator 'float16' sums products of rounded weights: give a scheme for the weights
    """

    weights: SchemeField | None = None
    activations: SchemeField | None = None
    cache: SchemeField | None = None
    accumulator: str = ""

    def __post_init__(self) -> None:
        for name in ("weights", "activations", "cache"):
            value = getattr(self, name)
            if value is not None:
                msgspec.structs.force_setattr(self, name, as_scheme(value))
        if self.accumulator:
            if self.weights is None:
                raise ValueError(
                    f"accumulator {self.accumulator!r} sums products of rounded weights: give a scheme for the weights"
                )
            self.datapath().check()

    def datapath(self) -> Datapath:
        """Return the datapath of the products; needs weights and an accumulator."""
        assert self.weights is not None
        return Datapath(self.weights, self.activations, self.accumulator)

    def __str__(self) -> str:
        """Return what is rounded, in words."""
        parts = [str(self.weights or ORIGINAL)]
        parts += [f"activations {self.activations}"] * (self.activations is not None)
        parts += [f"cache {self.cache}"] * (self.cache is not None)
        parts += [f"accumulator {self.accumulator}"] * bool(self.accumulator)
        return ", ".join(parts)


def as_precision(value: Precision | Scheme | Any) -> Precision:
    """Return a precision; a scheme or its text is that of the weights, ``float32`` rounds nothing.

    Examples
    --------
    >>> as_precision("mxfp4") == Precision("mxfp4"), as_precision("float32") == Precision()
    (True, True)
    """
    if isinstance(value, Precision):
        return value
    return Precision() if isinstance(value, str) and value == ORIGINAL else Precision(value)

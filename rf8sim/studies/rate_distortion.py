"""What a way to store a tensor costs, in bits with everything counted, and what error it makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checkpoints.checkpoint import CheckpointError, TensorInfo, open_checkpoint
from ..checkpoints.packing import packed_bytes
from ..checkpoints.plan import Recipe
from ..entropy.code_lengths import code_lengths
from ..entropy.coding import stored_bits
from ..entropy.prefix_codes import exp_golomb_lengths
from ..quantization.metrics import measure
from ..quantization.tensor import QuantizedTensor, quantize

__all__ = ["CODES", "Cost", "Matrix", "coded_bits", "cost_of", "cost_of_uniform", "open_matrices"]

CODES = {"rans": "rans", "huffman": "huffman", "eg": "exp-golomb"}
"""The code of each coder, as `code_lengths` names it."""


@dataclass(frozen=True)
class Cost:
    """Rate and distortion of some weights; costs of different weights add up with ``|``.

    Attributes
    ----------
    weights : int
        How many.
    code_bits : float
        Bits of their codes as they are stored: codes, tables, heads and checksums.
    scale_bits : float
        Bits of the scales.
    entropy_bits : float
        Bits of the codes alone by their entropy in each tensor: a bound, which no decoder can read.
    signal, error : float
        Sum of squares, and of squared errors.
    """

    weights: int = 0
    code_bits: float = 0.0
    scale_bits: float = 0.0
    entropy_bits: float = 0.0
    signal: float = 0.0
    error: float = 0.0

    def __or__(self, other: Cost) -> Cost:
        return Cost(
            self.weights + other.weights,
            self.code_bits + other.code_bits,
            self.scale_bits + other.scale_bits,
            self.entropy_bits + other.entropy_bits,
            self.signal + other.signal,
            self.error + other.error,
        )

    @property
    def bits_per_weight(self) -> float:
        """Bits for each weight, everything counted; NaN without a weight."""
        return (self.code_bits + self.scale_bits) / self.weights if self.weights else math.nan

    @property
    def entropy_per_weight(self) -> float:
        """Entropy of the codes for each weight, without scales, tables and heads."""
        return self.entropy_bits / self.weights if self.weights else math.nan

    @property
    def sqnr_db(self) -> float:
        """Signal to quantization noise ratio in dB; inf without error, NaN without signal."""
        if not self.signal > 0:
            return math.nan
        return math.inf if self.error == 0 else 10 * math.log10(self.signal / self.error)


@dataclass(frozen=True)
class Matrix:
    """A tensor of at least two axes."""

    name: str
    info: TensorInfo

    def read(self) -> NDArray[Any]:
        """Return the tensor, of its own shape; raise CheckpointError if it holds NaN or infinities."""
        [chunk] = self.info.row_chunks([range(self.info.matrix_shape[0])])
        values = chunk.values.astype(np.float32) if chunk.values.dtype.itemsize == 1 else chunk.values
        values = values.reshape(self.info.shape)
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"{self.info.source}: {self.name!r} holds NaN or infinities: replace them (numpy.nan_to_num), or leave "
                "the tensor out"
            )
        return values


def open_matrices(path: str | Path, wants: Callable[[str], bool] = lambda name: True) -> list[Matrix]:
    """List the tensors of a checkpoint that have two axes or more and are wanted.

    Parameters
    ----------
    path : str or Path
        As for `rf8sim.checkpoints.checkpoint.open_checkpoint`.
    wants : callable
        Of a tensor's name.

    Returns
    -------
    list of Matrix
        At least one.

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be read, or no such tensor is left.

    Examples
    --------
    >>> [matrix.name for matrix in open_matrices("examples/lm/model.safetensors", lambda name: "mlp.up" in name)][:2]
    ['blocks.0.mlp.up.weight', 'blocks.1.mlp.up.weight']
    """
    checkpoint = open_checkpoint(path)
    matrices = [
        Matrix(info.name, info)
        for info in checkpoint
        if info.skipped is None and len(info.shape) > 1 and info.size and wants(info.name)
    ]
    if not matrices:
        raise CheckpointError(f"{checkpoint.path}: no tensor of two axes or more is left by the patterns")
    return matrices


def cost_of(
    values: NDArray[Any], recipe: Recipe, scale: NDArray[np.float32] | None = None
) -> tuple[Cost, QuantizedTensor]:
    """Quantize a tensor and measure what it costs.

    Parameters
    ----------
    values : ndarray
        The weights.
    recipe : Recipe
        How.
    scale : ndarray of float32, optional
        Scales to use instead of those of the recipe's rule.

    Returns
    -------
    cost : Cost
        Exact error; the bits are those of a file, but for the last bytes of each block of codes.
    quantized : QuantizedTensor
        The codes and scales.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(256, 256))
    >>> cost, _ = cost_of(x, Recipe("rf8/tensor", entropy="rans"))
    >>> round(cost.bits_per_weight, 1), round(cost.sqnr_db)
    (6.2, 29)
    """
    scheme = recipe.scheme
    quantized = quantize(values, scheme, seed=recipe.seed, scale=scale)
    error = measure(values, quantized)
    code, entropy = coded_bits(error.code_counts, recipe.entropy, scheme.format.bits)
    if recipe.entropy == "none":  # each row ends with a byte
        code = 8.0 * packed_bytes(values.shape, scheme.format.bits)
    scales = float(scheme.scale_bits(values.shape))
    return Cost(values.size, code, scales, entropy, error.sum_squares, error.sum_squared_error), quantized


def coded_bits(counts: NDArray[np.int64], entropy: str, width: int = 8) -> tuple[float, float]:
    """Return the bits of codes of given counts as a coder stores them, and their entropy in bits.

    Parameters
    ----------
    counts : ndarray of int64, shape (n,)
        How often each code occurs.
    entropy : str
        ``rans``, ``huffman``, ``eg``, or ``none`` for packed codes.
    width : int
        Bits of a code, as it is packed.
    """
    bound = code_lengths(counts, "entropy").payload_bits
    if entropy == "none":
        return float(width * int(counts.sum())), bound
    if entropy not in CODES:
        raise ValueError(
            f"the size that coder {entropy!r} makes is known only of a file: compare none, {', '.join(CODES)}"
        )
    return stored_bits(code_lengths(counts, CODES[entropy])), bound


_ESCAPE = 128
"""The first index that the alphabet of a uniform quantizer does not hold."""


def cost_of_uniform(
    values: NDArray[Any], step: np.float32, entropy: str
) -> tuple[Cost, int, Callable[[], NDArray[np.float32]]]:
    """Round a tensor to multiples of a step, none of them too large, and return what that costs.

    Indices of -127 to 127 and an escape are the symbols of the coder; after an escape follow the sign and, by an
    Exp-Golomb code of the best order, how far beyond the index lies. With a step of a sixteenth of the root mean square
    or more an escape is 8 deviations away: by Chebyshev's inequality at most 1 weight in 63.

    Parameters
    ----------
    values : ndarray
        The weights, finite.
    step : float32
        The step, as it is stored.
    entropy : str
        ``rans``, ``huffman`` or ``eg``.

    Returns
    -------
    cost : Cost
        The entropy is that of the indices themselves.
    width : int
        Bits of the narrowest signed integer that holds every index.
    rounded : callable
        Makes the weights as they are rounded.

    Examples
    --------
    >>> x = np.r_[np.random.default_rng(0).normal(size=9999), 1000.0]
    >>> cost, width, rounded = cost_of_uniform(x, np.float32(0.5), "rans")
    >>> width, float(rounded()[-1]), bool(cost.error <= x.size * 0.5**2 / 4)
    (12, 1000.0, True)
    """
    indices = np.rint(values.astype(np.float64).ravel() / float(step)).astype(np.int64)
    error = values.astype(np.float64).ravel() - indices * float(step)
    least, most = int(indices.min(initial=0)), int(indices.max(initial=0))
    occurring = np.bincount(indices - least)
    counts = occurring[occurring > 0].astype(np.float64)
    ideal = float(np.dot(counts, np.log2(counts.sum() / counts)))
    beyond = np.abs(indices)
    beyond = beyond[beyond >= _ESCAPE] - _ESCAPE
    symbols = np.bincount(np.where(np.abs(indices) < _ESCAPE, indices + _ESCAPE, 0), minlength=256)
    code = stored_bits(code_lengths(symbols, CODES[entropy]))
    if beyond.size:
        code += beyond.size + min(float(exp_golomb_lengths(beyond, k).sum()) for k in range(9)) + 8  # the order
    width = 1 + max(most, -least - 1, 0).bit_length()
    wide = values.astype(np.float64).ravel()
    cost = Cost(values.size, code, 32.0, ideal, float(np.dot(wide, wide)), float(np.dot(error, error)))
    return cost, width, lambda: (indices * float(step)).astype(np.float32).reshape(values.shape)


def with_progress(
    matrices: Sequence[Matrix], progress: Callable[[str, int, int], None] | None
) -> Iterator[tuple[Matrix, NDArray[Any]]]:
    """Read matrices one after the other, and report progress."""
    total, done = sum(matrix.info.size for matrix in matrices), 0
    for matrix in matrices:
        if progress:
            progress(matrix.name, done, total)
        yield matrix, matrix.read()
        done += matrix.info.size

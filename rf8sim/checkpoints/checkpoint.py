"""Reading weights: one iterable of tensors for every kind of file, in chunks of a bounded size.

Nothing here runs code from a file: NumPy pickles are refused, PyTorch files are read with ``weights_only``.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..formats.floats import ARRAY_LAYOUTS, SAFETENSORS_LAYOUTS
from ..quantization.blocks import matrix_shape
from .errors import CheckpointError

if TYPE_CHECKING:
    import torch

__all__ = ["CHUNK_ELEMENTS", "Checkpoint", "CheckpointError", "Chunk", "TensorInfo", "open_checkpoint"]

CHUNK_ELEMENTS = 1 << 20
"""The most elements that are held in memory at a time."""


class _Stream(Protocol):
    """A source of elements: passes over some, then yields pieces of the sizes given, flat, in C order."""

    def __call__(self, sizes: Iterable[int], skip: int = 0) -> Iterator[NDArray[Any]]: ...


_Opener = Callable[[], IO[bytes]]

_NOT_MEASURED = "is not a floating-point type that is measured"
_NUMPY_FLOATS = tuple(name for name in ARRAY_LAYOUTS if hasattr(np, name))

# What a folder is taken for: the first of these patterns that matches anything must match one file.
_FOLDER_PATTERNS = (
    "*.safetensors.index.json", "*.safetensors", "*.bin.index.json", "*.bin", "*.pt", "*.pth",
    "*.npz", "*.npy",
)  # fmt: skip


class Chunk(NamedTuple):
    """A piece of a tensor, seen as the matrix of its channels (`TensorInfo.matrix_shape`).

    Attributes
    ----------
    row, column : int
        Where the piece begins in that matrix; the column is 0 unless one row alone exceeds the limit.
    values : ndarray, shape (rows, columns)
        The elements, in the stored dtype, native byte order, C-contiguous and writable.
    """

    row: int
    column: int
    values: NDArray[Any]


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a checkpoint: what it is, and how to read it.

    Attributes
    ----------
    name : str
        Its name in the file.
    dtype : str
        The stored type, in NumPy's and ml_dtypes' words where they have one (``float32``, ``bfloat16``).
    shape : tuple of int
        Its shape.
    source : Path
        The file that holds it.
    skipped : str or None
        Why it cannot be measured (integers, for one); None for a tensor that can.
    divisible : bool
        Whether reading can begin at any row at no cost: not in an archive, nor in Fortran order.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    source: Path
    skipped: str | None = None
    _stream: _Stream | None = field(default=None, repr=False, compare=False)
    divisible: bool = field(default=False, repr=False, compare=False)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """The shape as the matrix whose rows are the channels (`rf8sim.quantization.blocks.matrix_shape`)."""
        return matrix_shape(self.shape)

    def chunks(self, elements: int = CHUNK_ELEMENTS, multiple: int = 1, rows: range | None = None) -> Iterator[Chunk]:
        """Read the tensor piece by piece: whole rows together, or parts of a row that alone is too large.

        Parameters
        ----------
        elements : int
            The most elements in a piece (a row is cut only if it is larger).
        multiple : int
            Where a row is cut, it is cut at a multiple of this number (of a block size, for one).
        rows : range, optional
            Successive rows to read alone; by default all of them.

        Yields
        ------
        Chunk
            The pieces in order; none for a tensor without elements.

        Raises
        ------
        CheckpointError
            If the tensor is one that is skipped, or the file ends early or is damaged.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/w.npy", np.arange(6.0).reshape(3, 2))
        ...     [tensor] = open_checkpoint(f"{folder}/w.npy")
        ...     [(chunk.row, chunk.values.tolist()) for chunk in tensor.chunks(elements=4)]
        [(0, [[0.0, 1.0], [2.0, 3.0]]), (2, [[4.0, 5.0]])]
        """
        if self.skipped is not None or self._stream is None:
            raise CheckpointError(f"{self.source}: tensor {self.name!r} is not read: {self.skipped}")
        height, columns = self.matrix_shape
        rows = range(height) if rows is None else rows
        if height * columns == 0:
            return
        pieces: list[tuple[int, int, int, int]]
        if columns <= elements:
            step = max(1, elements // columns)
            pieces = [(row, 0, min(step, rows.stop - row), columns) for row in range(rows.start, rows.stop, step)]
        else:
            step = max(multiple, elements // multiple * multiple)
            cuts = range(0, columns, step)
            pieces = [(row, cut, 1, min(step, columns - cut)) for row in rows for cut in cuts]
        data = self._stream((height * width for _, _, height, width in pieces), rows.start * columns)
        for (row, column, height, width), flat in zip(pieces, data, strict=True):
            yield Chunk(row, column, flat.reshape(height, width))

    def row_chunks(self, pieces: Sequence[range]) -> Iterator[Chunk]:
        """Read successive rows of the matrix, a chunk for each range, in one pass.

        Parameters
        ----------
        pieces : sequence of range
            Rows, each range beginning where the one before ends.

        Yields
        ------
        Chunk
            The rows of each range.

        Raises
        ------
        CheckpointError
            As for `chunks`.
        """
        if self.skipped is not None or self._stream is None:
            raise CheckpointError(f"{self.source}: tensor {self.name!r} is not read: {self.skipped}")
        columns = self.matrix_shape[1]
        if self.size:
            data = self._stream((len(piece) * columns for piece in pieces), pieces[0].start * columns)
            for piece, flat in zip(pieces, data, strict=True):
                yield Chunk(piece.start, 0, flat.reshape(len(piece), columns))

    def stored(self, elements: int = CHUNK_ELEMENTS) -> Iterator[NDArray[Any]]:
        """Read the tensor as it is stored, also one that is not measured, to carry it over.

        Parameters
        ----------
        elements : int
            The most elements in a piece.

        Yields
        ------
        ndarray
            The pieces in order, flat; none for a tensor without elements.

        Raises
        ------
        CheckpointError
            If it is of a type that numpy has not, or the file is damaged.
        """
        if self._stream is None:
            raise CheckpointError(f"{self.source}: tensor {self.name!r} cannot be carried over: {self.skipped}")
        yield from self._stream(min(elements, self.size - start) for start in range(0, self.size, elements))


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one checkpoint, in the order of its files. Iterable; no file is held open."""

    path: Path
    tensors: tuple[TensorInfo, ...]

    def __iter__(self) -> Iterator[TensorInfo]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint's table of contents and check that the file is whole; no weights are read yet.

    Parameters
    ----------
    path : str or Path
        A ``.safetensors``, ``.npz`` or ``.npy`` file; with PyTorch installed a ``.pt``, ``.pth`` or ``.bin``
        file; the ``.index.json`` of a checkpoint in several files; or a folder that holds one of these.

    Returns
    -------
    Checkpoint
        Its tensors.

    Raises
    ------
    CheckpointError
        If there is no such file, its kind is unknown, or it is damaged, incomplete or empty.
    """
    path = Path(path)
    if path.is_dir():
        path = _in_folder(path)
    elif not path.exists():
        raise CheckpointError(f"{path}: no such file or folder")
    reader = next((read for suffix, read in _READERS.items() if path.name.lower().endswith(suffix)), None)
    if reader is None:
        known = ", ".join(_READERS)
        raise CheckpointError(f"{path}: unknown kind of file: expected one of {known}, or a folder")
    try:
        tensors = tuple(reader(path))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors")
    return Checkpoint(path, tensors)


def _in_folder(folder: Path) -> Path:
    """Return the one file of a folder that is its checkpoint."""
    for pattern in _FOLDER_PATTERNS:
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            names = ", ".join(file.name for file in found[:3]) + (", ..." if len(found) > 3 else "")
            raise CheckpointError(
                f"{folder}: holds {len(found)} files {pattern} ({names}) and no index: name the files instead"
            )
        if found:
            return found[0]
    looked = ", ".join(_FOLDER_PATTERNS)
    raise CheckpointError(f"{folder}: this folder holds no checkpoint (looked for {looked})")


def _byte_stream(path: Path, name: str, dtype: np.dtype[Any], open_at_data: _Opener) -> _Stream:
    """Make the source of elements that lie as bytes, in order, in something that opens like a file."""

    def stream(sizes: Iterable[int], skip: int = 0) -> Iterator[NDArray[Any]]:
        try:
            with open_at_data() as file:
                if skip:
                    file.seek(skip * dtype.itemsize, 1)
                for size in sizes:
                    piece = np.empty(size, dtype=dtype)
                    if file.readinto(piece.view(np.uint8)) < piece.nbytes:  # type: ignore[attr-defined]
                        raise CheckpointError(f"{path}: ends in the middle of tensor {name!r}")
                    yield piece.astype(dtype.newbyteorder("="), copy=False)
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise CheckpointError(f"{path}: tensor {name!r} cannot be read: {error}") from None

    return stream


def _open_at(path: Path, offset: int) -> IO[bytes]:
    file = path.open("rb")
    file.seek(offset)
    return file


# --- safetensors --------------------------------------------------------------------------------------------


def _read_safetensors(path: Path) -> Iterator[TensorInfo]:
    """List a safetensors file: its own library checks it, its header says where each tensor's bytes lie."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy"):
            pass
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a whole safetensors file (truncated or damaged): {error}") from None
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, dict[str, Any]] = json.loads(file.read(length))
    if "rf8sim" in header.pop("__metadata__", {}):
        raise CheckpointError(
            f"{path}: is quantized already, its tensors are codes: 'rf8sim dequantize' writes their numbers, or "
            "start from the original"
        )
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        stored, shape = entry["dtype"], tuple(entry["shape"])
        layout = SAFETENSORS_LAYOUTS.get(stored)
        if layout is None or layout.dtype is None or layout.dtype_name is None:
            yield TensorInfo(name, stored, shape, path, f"{stored} {_NOT_MEASURED}")
            continue
        dtype, known = layout.dtype.newbyteorder("<"), layout.dtype_name
        opener = partial(_open_at, path, 8 + length + entry["data_offsets"][0])
        yield TensorInfo(name, known, shape, path, None, _byte_stream(path, name, dtype, opener), divisible=True)


def _read_index(path: Path) -> Iterator[TensorInfo]:
    """List a checkpoint in several files by its Hugging Face index (``weight_map``: tensor name to file)."""
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"{path}: not an index of a checkpoint: expected JSON with a weight_map from tensors to files"
        ) from None
    for shard in shards:
        file = path.parent / str(shard)
        if Path(str(shard)).name != shard:
            raise CheckpointError(f"{path}: names {shard!r}, which is not a file beside the index")
        if not file.is_file():
            raise CheckpointError(f"{path}: names the file {shard!r}, which is missing: put it beside the index")
        tensors = {tensor.name: tensor for tensor in open_checkpoint(file)}
        missing = [name for name, owner in weight_map.items() if owner == shard and name not in tensors]
        if missing:
            raise CheckpointError(f"{file}: lacks the tensor {missing[0]!r} that the index places there")
        yield from (tensor for name, tensor in tensors.items() if weight_map.get(name, shard) == shard)


# --- NumPy --------------------------------------------------------------------------------------------------


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of a .npy stream: shape, whether in Fortran order, dtype. ValueError if it is none."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version[0]}.{version[1]} of the .npy format holds records, not numbers")


def _numpy_reason(dtype: np.dtype[Any]) -> str | None:
    """Say why arrays of a dtype are not measured; None if they are."""
    if dtype.hasobject:
        return "Python objects (a pickle) are never loaded"
    if dtype.name in _NUMPY_FLOATS:
        return None
    if dtype.names is not None:
        return "records, not numbers"
    if dtype.kind == "V":
        return f"raw {dtype.itemsize}-byte items: NumPy files lose bfloat16 and float8 types; use safetensors"
    return f"{dtype.name} {_NOT_MEASURED}"


def _numpy_tensor(
    path: Path, name: str, file: IO[bytes], stored: int, reopen: _Opener, packed: bool = False
) -> TensorInfo:
    """Describe one .npy stream, opened at its beginning; `stored` is its length in the container."""
    try:
        shape, fortran, dtype = _npy_header(file)
    except (ValueError, EOFError) as error:
        raise CheckpointError(f"{path}: {name!r} is not a NumPy array, or is damaged: {error}") from None
    reason, begin = _numpy_reason(dtype), file.tell()
    if not dtype.hasobject and stored != begin + math.prod(shape) * dtype.itemsize:
        raise CheckpointError(f"{path}: {name!r} is truncated or damaged: its length is not its header's")
    if dtype.hasobject or dtype.names is not None or dtype.kind not in "fiub":
        return TensorInfo(name, dtype.name, shape, path, reason)

    def open_at_data() -> IO[bytes]:
        again = reopen()
        again.read(begin)
        return again

    stream, turned = _byte_stream(path, name, dtype, open_at_data), fortran and len(shape) > 1
    if turned:
        stream = _in_c_order(stream, shape, dtype.newbyteorder("="))
    return TensorInfo(name, dtype.name, shape, path, reason, stream, divisible=not (turned or packed))


def _in_c_order(fortran: _Stream, shape: tuple[int, ...], dtype: np.dtype[Any]) -> _Stream:
    """Turn a source in Fortran order into one in C order, through a temporary file rather than memory."""
    import tempfile

    def stream(sizes: Iterable[int], skip: int = 0) -> Iterator[NDArray[Any]]:
        total = math.prod(shape)
        with tempfile.TemporaryFile() as file:
            steps = (min(CHUNK_ELEMENTS, total - start) for start in range(0, total, CHUNK_ELEMENTS))
            for piece in fortran(steps):
                file.write(piece.data)
            file.flush()
            flat = np.memmap(file, dtype=dtype, mode="r", shape=shape, order="F").flat
            position = skip
            for size in sizes:
                yield np.array(flat[position : position + size])
                position += size

    return stream


def _read_npy(path: Path) -> Iterator[TensorInfo]:
    """Read a .npy file: one tensor, named by the file."""
    with path.open("rb") as file:
        tensor = _numpy_tensor(path, path.stem, file, path.stat().st_size, partial(_open_at, path, 0))
    if tensor.skipped is not None:
        raise CheckpointError(f"{path}: {tensor.skipped}")
    yield tensor


def _read_npz(path: Path) -> Iterator[TensorInfo]:
    """Read the members of a .npz archive, compressed or not."""

    def open_member(name: str) -> IO[bytes]:
        with zipfile.ZipFile(path) as archive:  # its file stays open until the last member is closed
            return archive.open(name)

    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.filename.endswith(".npy"):
                    continue
                with archive.open(member) as file:
                    name, reopen = member.filename.removesuffix(".npy"), partial(open_member, member.filename)
                    yield _numpy_tensor(path, name, file, member.file_size, reopen, packed=True)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        message = f"{path}: not a whole .npz archive (truncated or damaged): {error}"
        raise CheckpointError(message) from None


# --- PyTorch ------------------------------------------------------------------------------------------------


def _read_torch(path: Path) -> Iterator[TensorInfo]:
    """Read a PyTorch checkpoint, mapped from the file; tensors inside dicts and lists get dotted names."""
    try:
        import torch
    except ImportError:
        raise CheckpointError(
            f"{path}: this kind of file needs PyTorch: pip install torch, or install rf8sim[torch], or convert it to "
            "safetensors"
        ) from None
    import pickle
    import warnings

    try:
        with warnings.catch_warnings():  # PyTorch warns of old pickle protocols; what fails is said below
            warnings.simplefilter("ignore")
            # Only files in the zip format of PyTorch 1.6 and later can be mapped; an older one is read whole.
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: not a file of weights alone: it is damaged, or holds Python objects that would run "
            "code (never done here): save model.state_dict() instead"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: not a whole PyTorch file (truncated or damaged): {first}") from None
    seen: dict[object, str] = {}
    for name, tensor in _torch_leaves(loaded, ""):
        yield _torch_tensor(path, name or path.stem, tensor, seen)


def _torch_leaves(node: object, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Iterate over the tensors of nested dicts, lists and tuples; other objects in them are no weights."""
    import torch

    if isinstance(node, torch.Tensor):
        yield name, node
    elif isinstance(node, dict | list | tuple):
        entries = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in entries:
            yield from _torch_leaves(value, f"{name}.{key}" if name else str(key))


def _torch_tensor(path: Path, name: str, tensor: torch.Tensor, seen: dict[object, str]) -> TensorInfo:
    """Describe one PyTorch tensor; a second name of the same memory (tied weights) is skipped."""
    import ml_dtypes
    import torch

    dtype, shape = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
    own = getattr(ml_dtypes, dtype, None) or getattr(np, dtype.replace("bool", "bool_"), None)
    if tensor.layout != torch.strided or own is None:
        what = dtype if tensor.layout == torch.strided else str(tensor.layout).removeprefix("torch.")
        return TensorInfo(name, dtype, shape, path, f"{what} {_NOT_MEASURED}")
    numpy_dtype = np.dtype(own)
    skipped = None if tensor.is_floating_point() else f"{dtype} {_NOT_MEASURED}"
    memory = (tensor.data_ptr(), shape, tensor.stride(), dtype)
    first = seen.setdefault(memory, name) if tensor.numel() and skipped is None else name
    if first != name:
        skipped = f"the same memory as {first!r}"
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]

    def stream(sizes: Iterable[int], skip: int = 0) -> Iterator[NDArray[Any]]:
        flat = tensor.detach().reshape(-1).view(bits)
        position = skip
        for size in sizes:
            yield flat[position : position + size].numpy().copy().view(numpy_dtype)
            position += size

    return TensorInfo(name, dtype, shape, path, skipped, stream, divisible=tensor.is_contiguous())


_READERS: dict[str, Callable[[Path], Iterator[TensorInfo]]] = {
    ".safetensors": _read_safetensors,
    ".index.json": _read_index,
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".pt": _read_torch,
    ".pth": _read_torch,
    ".bin": _read_torch,
}

"""Packed checkpoints: safetensors files coded without loss, which come back to the byte.

A packed file is a safetensors file itself, with a sealed header, that holds bytes alone: the header of the original,
and for each of its tensors what `rf8sim.entropy.patterns` makes of it, a piece after another, each after its size. How
a tensor is cut follows from its type (`cut_of`), and checksums cover every byte; so nothing else is stored but the
SHA-256 of the original.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from .._base.checks import choose
from .._base.files import check_place, flush, goes_to_file, staged
from .._base.threads import in_pieces
from .._version import __version__
from ..entropy.blobs import BlobError
from ..entropy.coding import compress, decompress
from ..entropy.patterns import BYTES, Cut, compress_patterns, decompress_patterns
from ..formats.floats import SAFETENSORS_LAYOUTS
from ..quantization.records import Count, convert
from .errors import CheckpointError
from .hub import from_hub, is_hub_id
from .prediction import Prediction, Predictor
from .safetensors import DTYPES, Entry, Header, Writer, dtype_of, is_one_file, parsed_header, read_header, seal_of

__all__ = [
    "SUFFIX", "PackReport", "PackedTensor", "cut_of", "find_packed_damage", "is_packed", "pack_checkpoint",
    "unpack_checkpoint",
]  # fmt: skip

SUFFIX = ".rf8z"
"""How the names of packed files end."""

FORM = 1
"""The version of the form, which a reader must know."""

_KEY = "rf8sim_packed"
_PIECE = 1 << 20
"""Bytes of a tensor with a code of their own: rows of a tensor differ, and a table takes a hundred bytes."""

_AT_ONCE = 16
"""Pieces that are in memory at once, for threads to share."""

_FEW = 1 << 12
"""A tensor of fewer bytes is one plane of bytes: checksums of several would cost more than they gain."""

_SIZE = struct.Struct("<Q")  # bytes of a coded piece, before it

Progress = Callable[[str, int, int], None]


class PackedHeader(msgspec.Struct):
    """What a packed file says of itself, as JSON under the key ``rf8sim_packed`` of its header.

    Attributes
    ----------
    form : int
        `FORM`.
    version : str
        That of rf8sim which wrote it.
    header : str
        The name of the array that holds the header of the original, coded by `compress`.
    size : int
        Bytes of the original.
    sha256 : str
        Of the original.
    """

    form: int
    version: str
    header: str
    size: Count
    sha256: str


@dataclass(frozen=True)
class PackedTensor:
    """A tensor, and what it takes.

    Attributes
    ----------
    name, dtype : str
        Its name, and its type in safetensors' words.
    shape : tuple of int
        Its shape.
    nbytes, stored : int
        Its bytes, as they were and packed.
    prediction : Prediction or None
        What its distribution says beforehand; None if that was not asked for, or the type has no exponents.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    stored: int
    prediction: Prediction | None = None

    @property
    def size(self) -> int:
        """Numbers in it; of a type that is not known here, bytes."""
        return self.nbytes // (dtype_of(self.dtype).itemsize if self.dtype in DTYPES else 1)

    @property
    def bits(self) -> float | None:
        """Bits of each number; None without one."""
        return 8 * self.stored / self.size if self.size else None


@dataclass(frozen=True)
class PackReport:
    """What packing came to.

    Attributes
    ----------
    tensors : tuple of PackedTensor
        All tensors, in the order of the files.
    nbytes, stored : int
        Bytes of the weight files, as they were and packed: headers and checksums too.
    """

    tensors: tuple[PackedTensor, ...]
    nbytes: int
    stored: int


def cut_of(dtype: str, nbytes: int) -> Cut:
    """Return how a tensor of a type of safetensors and of so many bytes is cut into planes.

    Examples
    --------
    >>> cut_of("BF16", 1 << 20), cut_of("I64", 1 << 20), cut_of("F8_E4M3", 1 << 20), cut_of("BF16", 100)
    (Cut(planes=2, rotation=1), Cut(planes=8, rotation=0), Cut(planes=1, rotation=0), Cut(planes=1, rotation=0))
    """
    if nbytes < _FEW or dtype not in DTYPES:
        return BYTES
    if dtype == "C64":  # two of float32
        return Cut(4, 1)
    planes = dtype_of(dtype).itemsize
    return Cut(planes, int(planes > 1 and dtype in SAFETENSORS_LAYOUTS))


def pack_checkpoint(
    source: str | Path,
    output: str | Path,
    coder: str = "rans",
    *,
    predict: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> PackReport:
    """Write a checkpoint coded without loss: it is decoded and compared before it is put in place.

    Parameters
    ----------
    source : str or Path
        A ``.safetensors`` file; a folder, of which every such file is packed and every other copied; or the id of a
        model of Hugging Face.
    output : str or Path
        A file whose name ends in ``.rf8z``; or, for a folder, one that does not exist or is empty.
    coder : str
        ``rans``, the smallest, or ``huffman``, which is decoded faster.
    predict : bool
        Fit a generalized Gaussian to each tensor, and report the bits that it predicts.
    threads : int, optional
        At most this many. The bytes do not depend on it.
    progress : callable, optional
        Called with a tensor's name, the bytes done and those in all.

    Returns
    -------
    PackReport

    Raises
    ------
    CheckpointError
        If the source cannot be read, or changes meanwhile; then nothing is written.
    ValueError
        If the output is named as another kind of file.
    OSError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = pack_checkpoint("examples/lm/model.safetensors", f"{folder}/lm.rf8z")
    ...     unpack_checkpoint(f"{folder}/lm.rf8z", f"{folder}/lm.safetensors")
    ...     same = Path(f"{folder}/lm.safetensors").read_bytes() == Path("examples/lm/model.safetensors").read_bytes()
    >>> same, report.stored < 0.86 * report.nbytes
    (True, True)
    """
    choose("coder", coder, ("rans", "huffman"))
    source, output = Path(source), Path(output)
    if not source.exists() and is_hub_id(source.as_posix()):
        source = from_hub(source.as_posix())
    single = goes_to_file(output, (SUFFIX,), f"a packed checkpoint is a {SUFFIX} file, or a folder of them")
    check_place(output)
    files = _files(source, output, ".safetensors", single)
    steps = _Steps(progress, 2 * sum(path.stat().st_size for path in files))
    tensors: list[PackedTensor] = []
    stored = nbytes = 0
    with staged(output) as (beside, place):
        targets = _carry_over(source, beside, files, lambda name: name + SUFFIX, single)
        for path, target in zip(files, targets, strict=True):
            tensors += _pack(path, target, coder, predict, threads, steps)
            _compare(path, target, threads, steps)
            nbytes, stored = nbytes + path.stat().st_size, stored + target.stat().st_size
        place()
    return PackReport(tuple(tensors), nbytes, stored)


def unpack_checkpoint(
    source: str | Path, output: str | Path, *, threads: int | None = None, progress: Progress | None = None
) -> None:
    """Write the original of a packed checkpoint: every byte is as it was, by its SHA-256, before it is put in place.

    Parameters
    ----------
    source : str or Path
        What `pack_checkpoint` wrote: a file or a folder.
    output : str or Path
        A ``.safetensors`` file; or, for a folder, one that does not exist or is empty.
    threads : int, optional
        At most this many.
    progress : callable, optional
        As for `pack_checkpoint`.

    Raises
    ------
    CheckpointError
        If anything is damaged, which is named; then nothing is written.
    ValueError
        If the output is named as another kind of file.
    OSError
        If it cannot be written.
    """
    source, output = Path(source), Path(output)
    single = is_one_file(output)
    check_place(output)
    files = _files(source, output, SUFFIX, single)
    opened = [_Packed(path, threads) for path in files]
    steps = _Steps(progress, sum(packed.form.size for packed in opened))
    with staged(output) as (beside, place):
        targets = _carry_over(source, beside, files, lambda name: name.removesuffix(SUFFIX), single)
        for packed, target in zip(opened, targets, strict=True):
            digest = hashlib.sha256()
            with target.open("xb") as file:
                for name, piece in packed.contents():
                    file.write(piece)
                    digest.update(piece)
                    steps(name, len(piece))
            flush(target)
            if digest.hexdigest() != packed.form.sha256:
                raise CheckpointError(f"{packed.path}: what it decodes to is not the original: restore it")
        if not single:
            flush(beside)
        place()


def is_packed(path: Path) -> bool:
    """Whether a path is named as a packed file, or is a folder with such files."""
    return any(file.name.endswith(SUFFIX) for file in _visible(path)) if path.is_dir() else path.name.endswith(SUFFIX)


def find_packed_damage(
    source: str | Path, *, threads: int | None = None, progress: Progress | None = None
) -> list[str]:
    """Decode a packed checkpoint, and return what is damaged, in a sentence each.

    Parameters
    ----------
    source, threads, progress
        As for `unpack_checkpoint`.

    Raises
    ------
    CheckpointError
        If there is no packed checkpoint.
    """
    damage = []
    for path in _files(Path(source), None, SUFFIX, Path(source).is_file()):
        try:
            packed = _Packed(path, threads)
        except CheckpointError as error:
            damage.append(str(error))
            continue
        steps, digest, sentences = _Steps(progress, packed.form.size), hashlib.sha256(packed.original.raw), []
        for entry in packed.tensors:
            try:
                for piece in packed.pieces(entry):
                    digest.update(piece.data)
                    steps(entry.name, len(piece))
            except CheckpointError as error:
                sentences.append(str(error))
        if not sentences and digest.hexdigest() != packed.form.sha256:
            sentences = [f"{path}: what it decodes to is not the original: restore it"]
        damage += sentences
    return damage


# --- files and folders ------------------------------------------------------------------------------------------------


class _Steps:
    """Counts bytes for a progress bar."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.done, self.total = progress, 0, total

    def __call__(self, name: str, size: int) -> None:
        self.done += size
        if self.progress:
            self.progress(name, self.done, self.total)


def _files(source: Path, output: Path | None, suffix: str, single: bool) -> list[Path]:
    """Return the weight files of a source; raise CheckpointError if it has none, or does not fit the output."""
    if not source.exists():
        raise CheckpointError(f"{source}: no such file or folder")
    if source.is_dir():
        if single:
            raise CheckpointError(f"{source}: is a folder, and {output} is a file: name a folder for the output")
        if output is not None and output.resolve().is_relative_to(source.resolve()):
            raise CheckpointError(f"{output}: lies in the folder that it is made from: name another place")
        files = sorted(path for path in _visible(source) if path.name.endswith(suffix))
        if not files:
            raise CheckpointError(f"{source}: this folder holds no {suffix} file")
        return files
    if not source.name.endswith(suffix):
        raise CheckpointError(f"{source}: expected a {suffix} file, or a folder with such files")
    if not single:
        raise CheckpointError(f"{source}: is a file, and {output} names none: end its name as that of a file")
    return [source]


def _visible(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and of those in it, hidden ones left out."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield path


def _carry_over(
    source: Path, beside: Path, files: Sequence[Path], renamed: Callable[[str], str], single: bool
) -> list[Path]:
    """Copy what lies beside the weight files of a folder; return where these go."""
    if single:
        return [beside]
    targets = []
    for path in _visible(source):
        place = beside / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path in files:
            targets.append(place.with_name(renamed(place.name)))
            if path.with_name(targets[-1].name).exists():
                raise CheckpointError(f"{source}: holds {path.name} and {targets[-1].name}: move one of them away")
        else:
            shutil.copyfile(path, place)
            flush(place)
    return targets


# --- packing ----------------------------------------------------------------------------------------------------------


def _opened(path: Path) -> Header:
    try:
        return read_header(path)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None


def _in_order(header: Header) -> list[Entry]:
    return sorted(header.entries.values(), key=lambda entry: (entry.begin, entry.end))


def _pack(
    path: Path, target: Path, coder: str, predict: bool, threads: int | None, steps: _Steps
) -> Iterator[PackedTensor]:
    """Write the packed form of a file, and yield its tensors."""
    header = _opened(path)
    if _KEY in header.metadata:
        raise CheckpointError(f"{path}: is packed already")
    name = "header"
    while name in header.entries:
        name += "_"
    tensors, digest = _in_order(header), hashlib.sha256(header.raw)
    entries = [Entry(part, "U8", (-1,)) for part in (name, *header.entries)]
    with Writer(target, entries, 1024) as writer, path.open("rb") as file:
        writer.put(name, np.frombuffer(compress(np.frombuffer(header.raw, np.uint8), coder), np.uint8))
        file.seek(len(header.raw))
        steps(name, len(header.raw))
        for entry in tensors:
            predictor = Predictor(entry.dtype) if predict else None

            def coded(entry: Entry = entry, predictor: Predictor | None = predictor) -> Iterator[bytes]:
                cut, pieces = cut_of(entry.dtype, entry.end - entry.begin), _read(file, path, entry)
                while batch := list(islice(pieces, _AT_ONCE)):
                    for piece in batch:
                        digest.update(piece.data)
                        if predictor:
                            predictor.add(piece)
                    for data in _each(partial(compress_patterns, cut=cut, coder=coder, threads=1), batch, threads):
                        yield from (_SIZE.pack(len(data)), data)
                    steps(entry.name, sum(piece.size for piece in batch))

            stored = writer.extend(entry.name, coded())
            prediction = predictor.result() if predictor else None
            yield PackedTensor(entry.name, entry.dtype, entry.shape, entry.end - entry.begin, stored, prediction)
        size = len(header.raw) + max((entry.end for entry in tensors), default=0)
        form = PackedHeader(FORM, __version__, name, size, digest.hexdigest())
        writer.finish({_KEY: json.dumps(msgspec.to_builtins(form))})


def _each(work: Callable[[Any], Any], items: Sequence[Any], threads: int | None) -> list[Any]:
    """Return what a function makes of each item, in threads."""
    results: list[Any] = [None] * len(items)

    def run(start: int, stop: int) -> None:
        results[start:stop] = map(work, items[start:stop])

    in_pieces(run, len(items), threads, weight=_PIECE)
    return results


def _read(file: IO[bytes], path: Path, entry: Entry) -> Iterator[NDArray[np.uint8]]:
    """Read a tensor from where the file stands, a piece after another."""
    left = entry.end - entry.begin
    while left:
        piece = np.empty(min(left, _PIECE), np.uint8)
        if file.readinto(piece.data) != piece.size:  # type: ignore[attr-defined]
            raise CheckpointError(f"{path}: ends in the middle of tensor {entry.name!r}")
        left -= piece.size
        yield piece


def _compare(path: Path, target: Path, threads: int | None, steps: _Steps) -> None:
    """Decode what was written, and compare it with the original to the byte."""
    with path.open("rb") as file:
        for name, piece in _Packed(target, threads).contents():
            if file.read(len(piece)) != bytes(piece):
                what = f"tensor {name!r}" if name else "the header"
                raise CheckpointError(f"{path}: {what} changed while it was packed, or memory is faulty: try again")
            steps(name, len(piece))
        if file.read(1):
            raise CheckpointError(f"{path}: grew while it was packed: try again")


# --- unpacking --------------------------------------------------------------------------------------------------------


class _Packed:
    """An open packed file."""

    def __init__(self, path: Path, threads: int | None) -> None:
        self.path, self.threads = path, threads
        self.header = _opened(path)
        if _KEY not in self.header.metadata:
            raise CheckpointError(f"{path}: is not packed: name what 'rf8sim pack' wrote")
        if seal_of(self.header.raw) is None:
            raise CheckpointError(f"{path}: its header is damaged: restore it")
        try:
            data = msgspec.json.decode(self.header.metadata[_KEY])
            if isinstance(data, dict) and data.get("form") != FORM:
                raise CheckpointError(f"{path}: is of form {data.get('form')}, this version reads form {FORM}: update "
                                      "rf8sim")  # fmt: skip
            self.form = convert(data, PackedHeader)
            raw = decompress(self.header.read(self.form.header)).tobytes()
            self.original = parsed_header(path, raw, self.form.size)
        except CheckpointError:
            raise
        except (ValueError, KeyError, RecursionError) as error:
            raise CheckpointError(f"{path}: its header is damaged: {error}") from None
        self.tensors = _in_order(self.original)
        missing = [entry.name for entry in self.tensors if entry.name not in self.header.entries]
        if missing:
            raise CheckpointError(f"{path}: its header is damaged: there is no tensor {missing[0]!r}")

    def contents(self) -> Iterator[tuple[str, Any]]:
        """Yield all bytes of the original: the header, with an empty name, and pieces of each tensor."""
        yield "", self.original.raw
        for entry in self.tensors:
            for piece in self.pieces(entry):
                yield entry.name, piece

    def pieces(self, entry: Entry) -> Iterator[NDArray[np.uint8]]:
        """Decode a tensor; raise CheckpointError, which names it, if it is damaged."""
        left = entry.end - entry.begin
        cut = cut_of(entry.dtype, left)
        sizes = iter([_PIECE] * (left // _PIECE) + [left % _PIECE] * (left % _PIECE > 0))
        place = self.header.entries[entry.name]
        stored = place.end - place.begin
        with self.header.open_at(entry.name) as file:
            while batch := list(islice(sizes, _AT_ONCE)):
                coded = []
                for size in batch:
                    head = file.read(_SIZE.size)
                    length = _SIZE.unpack(head)[0] if len(head) == _SIZE.size else stored
                    stored -= _SIZE.size + length
                    if stored < 0:
                        raise self._damaged(entry, "a piece goes on beyond its end")
                    coded.append((file.read(length), size, cut))
                try:
                    yield from _each(
                        lambda part: decompress_patterns(part[0], part[1], cut, threads=1), coded, self.threads
                    )
                except BlobError as error:
                    raise self._damaged(entry, str(error).partition(":")[0]) from None
        if stored:
            raise self._damaged(entry, f"{stored} bytes too many")

    def _damaged(self, entry: Entry, how: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: tensor {entry.name!r} is damaged ({how}): restore the file from a copy")

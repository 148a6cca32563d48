"""The folder of hardware sources: hand-written SystemVerilog, and what is generated around it."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

from ..._version import __version__
from ...formats import Format, get_format
from . import c_dpi, c_header, packages
from .block import vector_lines
from .blocks import blocks, lfsr_words, multiplication_table
from .float8_blocks import ENCODER_PROOFS, prove_encoder
from .rom_bench import rom_bench
from .roms import Rom, rom_block, rom_sources, roms
from .testbench import bench_source
from .vhdl_bench import encoder_bench

__all__ = ["hdl_files", "lfsr_words", "rtl_sources", "write_hdl"]

_MANIFEST = "manifest.json"
_BUILT = {"build", "answers", "__pycache__"}  # what the Makefile leaves in the folder


def rtl_sources() -> dict[str, str]:
    """Return the hand-written SystemVerilog modules: file name to text.

    Examples
    --------
    >>> "rf8_multiply.sv" in rtl_sources()
    True
    """
    return {name: data.decode() for name, data in _shipped("") if name.endswith(".sv")}


def _shipped(folder: str) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a folder of the package's ``rtl``, by name."""
    root: Traversable = importlib.resources.files("rf8sim.hardware") / "rtl"
    for entry in sorted((root / folder if folder else root).iterdir(), key=lambda entry: entry.name):
        if entry.is_file() and not entry.name.endswith(".pyc"):
            yield entry.name, entry.read_bytes()


def hdl_files(formats: Sequence[str | Format] = ("rf8",)) -> dict[str, bytes]:
    """Return every file of the folder.

    Parameters
    ----------
    formats : sequence of str or Format
        Formats of 1 to 16 bits to write as packages, ROM decoders and C headers. The blocks are RF8's, with E4M3's and
        INT8's to compare.

    Returns
    -------
    dict of str to bytes
        Contents by path inside the folder. The same bytes for the same version, everywhere.

    Raises
    ------
    ValueError
        If a format is unknown, or two have one name in the sources.

    Examples
    --------
    >>> files = hdl_files(["e4m3fn"])
    >>> sorted(name for name in files if "e4m3fn" in name and name.startswith(("c/", "package/")))
    ['c/e4m3fn.h', 'c/e4m3fn_dpi.c', 'c/e4m3fn_dpi_pkg.sv', 'package/e4m3fn_pkg.sv', 'package/e4m3fn_pkg.vhd']
    """
    files: dict[str, bytes] = {}
    for name, data in _shipped(""):
        files[name if name == "README.md" else f"rtl/{name}"] = data
    for name, data in _shipped("bench"):
        files[name if name == "Makefile" else f"bench/{name}"] = data
    for mode, suffix in (("nearest-even", ""), ("residual", "_residual")):
        rows = "".join(f"{code:02x}\n" for code in multiplication_table(mode).tolist())
        files[f"rtl/rf8_multiply{suffix}.mem"] = rows.encode()
    for name, mode in ENCODER_PROOFS:
        files[f"bench/prove_{name}_{mode.replace('-', '_')}.ys"] = prove_encoder(name, mode).encode()
    chosen = [get_format(fmt) for fmt in formats]
    decoders: list[Rom] = []
    for fmt in chosen:
        name = packages.identifier(fmt)
        if f"package/{name}_pkg.sv" in files:
            raise ValueError(f"two formats are named {name} in the sources: give each format once")
        files |= {path: text.encode() for path, text in _format_files(fmt).items()}
        decoders += roms(fmt)
    files |= {path: text.encode() for path, text in rom_sources(decoders).items()}
    every = (*blocks(), *map(rom_block, decoders))
    files["bench/tb_roms.vhd"] = rom_bench(decoders).encode()
    files["bench/tb_rf8.sv"] = bench_source(every).encode()
    files["bench/tb_rf8_encode.vhd"] = encoder_bench(every).encode()
    for block in every:
        lines = vector_lines([*block.inputs.values(), *block.outputs.values()])
        files[f"vectors/{block.name}.mem"] = lines
    return files | {_MANIFEST: _manifest(files, chosen)}


def _format_files(fmt: Format) -> dict[str, str]:
    """Return packages and C sources of a format; vectors and testbench of the package if it has tables."""
    name = packages.identifier(fmt)
    files = {
        f"package/{name}_pkg.sv": packages.systemverilog_package(fmt),
        f"package/{name}_pkg.vhd": packages.vhdl_package(fmt),
        f"c/{name}.h": c_header.c_header(fmt),
        f"c/{name}_dpi.c": c_dpi.c_dpi(fmt),
        f"c/{name}_dpi_pkg.sv": c_dpi.dpi_package(fmt),
    }
    if fmt.bits > packages.TABLE_BITS:
        return files
    return files | {
        f"bench/tb_{name}_pkg.vhd": packages.vhdl_testbench(fmt),
        f"vectors/{name}_codes.txt": packages.code_lines(fmt),
    }


def _manifest(files: Mapping[str, bytes], formats: Sequence[Format]) -> bytes:
    data = {
        "made_by": "rf8sim hdl",
        "version": __version__,
        "formats": [fmt.name for fmt in formats],
        "sha256": {path: hashlib.sha256(files[path]).hexdigest() for path in sorted(files)},
    }
    return (json.dumps(data, indent=1) + "\n").encode()


def write_hdl(folder: str | Path, formats: Sequence[str | Format] = ("rf8",)) -> Path:
    """Write the folder of hardware sources: whole, or not at all.

    The files are written beside the folder, which is then renamed. A folder that an earlier call wrote is replaced if
    nothing in it was changed or added, what the Makefile builds aside; any other folder must be empty.

    Parameters
    ----------
    folder : path
        Where; made if it does not exist.
    formats : sequence of str or Format
        As in `hdl_files`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        If the folder holds something else.
    OSError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     sorted(path.name for path in write_hdl(place + "/hdl").iterdir())
    ['Makefile', 'README.md', 'bench', 'c', 'manifest.json', 'package', 'rom', 'rtl', 'vectors']
    """
    folder = Path(os.path.abspath(folder))
    _check_free(folder)
    files = hdl_files(formats)
    beside = _beside(folder)
    try:
        new, old = beside / "new", beside / "old"
        for path, data in files.items():
            (new / path).parent.mkdir(parents=True, exist_ok=True)
            (new / path).write_bytes(data)
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(new, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(folder)) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _beside(folder: Path) -> Path:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(folder)) from None


def _check_free(folder: Path) -> None:
    """Raise ValueError if a folder holds anything that this module did not write."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file: give a folder that is empty or does not exist")
    if not any(folder.iterdir()):
        return
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        ours = manifest["sha256"] if manifest["made_by"] == "rf8sim hdl" else None
    except (OSError, ValueError, KeyError, TypeError):
        ours = None
    if not isinstance(ours, dict):
        raise ValueError(f"{folder} is not empty and was not written by rf8sim hdl: give another folder")
    for path in sorted(folder.rglob("*")):
        name = PurePosixPath(path.relative_to(folder).as_posix())
        if path.is_dir() or name.as_posix() == _MANIFEST or _BUILT & set(name.parts):
            continue
        if ours.get(name.as_posix()) != hashlib.sha256(path.read_bytes()).hexdigest():
            what = "was changed since" if name.as_posix() in ours else "is not"
            raise ValueError(f"{folder}: {name} {what} written by rf8sim hdl, so it would be lost: give another folder")

"""What blocks cost in silicon: synthesis by Yosys to the cells of a liberty file."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .hdl import rtl_sources

__all__ = [
    "LIBERTY", "Area", "Subject", "area_table", "dot_subjects", "find_liberty", "subjects", "synthesize",
    "unit_subjects",
]  # fmt: skip

LIBERTY = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
"""Where Debian's package qflow-tech-osu018 puts its library: 0.18 um, made at universities, free to use."""

WAYS = ("synth -flatten", "synth -flatten -noalumacc", "synth; flatten; opt -full")
"""Ways through Yosys. The first may merge a multiplier and the adder after it: good for some blocks, bad for others."""

GUARD = 12
"""Guard bits of the accumulators that are compared: sums of 4096 products."""


@dataclass(frozen=True)
class Area:
    """The synthesis result of one module.

    Attributes
    ----------
    area : float
        In the library's unit, of all cells; wires are not in it.
    gates : float
        Gate equivalents: the area over that of a two-input NAND.
    depth : int
        Cells on the longest path between registers or ports.
    cells : int
        How many cells.
    """

    area: float
    gates: float
    depth: int
    cells: int


@dataclass(frozen=True)
class Subject:
    """One block to compare: for each format the module, the parameters of all, and those of each format.

    Attributes
    ----------
    title : str
        What the block is.
    modules : dict of str to str
        The module by format.
    parameters : dict of str to int
        Parameters that all modules are given.
    choices : dict of str to dict
        Parameters by format, beside those.
    """

    title: str
    modules: Mapping[str, str]
    parameters: Mapping[str, int] = field(default_factory=dict)
    choices: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def subjects() -> tuple[Subject, ...]:
    """Return what is compared: decoder, multipliers and accumulators of RF8, E4M3 and INT8.

    Examples
    --------
    >>> [subject.title for subject in subjects()][:2]
    ['decoder, to fixed point', 'product, exact: significand and exponent']
    """

    def of(suffix: str, int8: str | None = None) -> dict[str, str]:
        return {"rf8": f"rf8_{suffix}", "e4m3fn": f"e4m3_{suffix}"} | ({"int8": int8} if int8 else {})

    return (
        Subject("decoder, to fixed point", of("decode")),
        Subject("product, exact: significand and exponent", of("product", "int8_multiply")),
        Subject("product, exact: fixed point", of("multiply_exact", "int8_multiply")),
        Subject("weight x INT8 activation, exact: fixed point", of("times_int8", "int8_multiply")),
        Subject(f"MAC, exact, {GUARD} guard bits", of("mac", "int8_mac"), {"GUARD": GUARD}),
        Subject(f"MAC of weight x INT8, exact, {GUARD} guard bits", of("int8_mac", "int8_mac"), {"GUARD": GUARD}),
    )


def dot_subjects() -> tuple[Subject, ...]:
    """Return the exact dot products of 16 that are compared: with INT8 operands, and with both operands in the format.

    Those of MX blocks add the exponents of their scales; their like of INT8 is MXINT8.

    Examples
    --------
    >>> [sorted(subject.modules) for subject in dot_subjects()][0]
    ['e4m3fn', 'int8', 'mxfp4', 'mxfp8', 'rf8']
    """
    weights = {"rf8": (0, 0), "e4m3fn": (1, 0), "mxfp8": (1, 1), "int8": (2, 0), "mxfp4": (3, 1)}
    modules = dict.fromkeys(weights, "dot_product")
    choices = {name: {"WEIGHT": weight, "SCALED": scaled} for name, (weight, scaled) in weights.items()}
    return tuple(
        Subject(f"dot of 16, {title}", modules, {"LANES": 16, "STAGES": 0, "INT8": mixed}, choices)
        for title, mixed in (("weights x INT8 activations", 1), ("both operands in the format", 0))
    )


def unit_subjects() -> tuple[Subject, ...]:
    """Return the units that round: encoders, sums of a product and a float32 number, and dot products of MX blocks.

    Encoders take float32 numbers, and the exact product of two codes in fixed point. Those of MX blocks keep 13 or 25
    bits of each product below the largest exponent.

    Examples
    --------
    >>> [subject.title for subject in unit_subjects()][3:5]
    ['product + float32 to float32 (fma)', 'running float32 sum of products (MAC)']
    """
    float8 = {"e4m3fn": 0, "e5m2": 1}

    def of(module: str, *names: str) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
        return dict.fromkeys(float8, module), {fmt: dict.fromkeys(names, number) for fmt, number in float8.items()}

    from_float32, formats = of("float32_to_float8", "E5M2")
    from_fixed = {"rf8": "rf8_encode"} | of("float8_encode")[0]
    widths = {"rf8": (40, 38), "e4m3fn": (36, 18), "e5m2": (64, 32)}
    fixed = {
        fmt: dict(zip(("WIDTH", "FRACTION"), width, strict=True)) | formats.get(fmt, {})
        for fmt, width in widths.items()
    }
    random = {"ROUNDING": 2, "RANDOM_BITS": 12}
    fma, operands = of("float8_fma", "A_E5M2", "B_E5M2")
    return (
        Subject("float32 to the format, nearest-even", from_float32, {"RANDOM_BITS": 1}, formats),
        Subject("float32 to the format, stochastic, 12 bits", from_float32, random, formats),
        Subject("exact product to the format, nearest-even", from_fixed, {}, fixed),
        Subject("product + float32 to float32 (fma)", fma, {}, operands),
        Subject("running float32 sum of products (MAC)", dict.fromkeys(fma, "float8_mac"), {}, operands),
        *(
            Subject(f"dot of 16 + float32, {bits} bits", {"mxfp8": "mxfp8_dot"}, {"LANES": 16, "FRACTION": bits})
            for bits in (13, 25)
        ),
    )


def find_liberty(given: str | Path | None = None) -> Path:
    """Return the liberty file to use, or raise ValueError with what to install.

    Examples
    --------
    >>> find_liberty("nothing.lib")
    Traceback (most recent call last):
    ...
    ValueError: nothing.lib: there is no such liberty file
    """
    if given is not None:
        if not Path(given).is_file():
            raise ValueError(f"{given}: there is no such liberty file")
        return Path(given)
    if not LIBERTY.is_file():
        raise ValueError(
            "area needs a liberty file: install Debian's qflow-tech-osu018 (apt install qflow-tech-osu018), or give "
            "your own with --liberty FILE"
        )
    return LIBERTY


def _nand_area(liberty: Path) -> float:
    """Return the area of the smallest two-input NAND of a library: inputs A and B, output ``!(A B)``."""
    text = liberty.read_text(encoding="utf-8", errors="replace")
    areas = []
    for cell in re.split(r"\n\s*cell\s*\(", text)[1:]:
        function = re.search(r"function\s*:\s*\"([^\"]*)\"", cell)
        size = re.search(r"\barea\s*:\s*([\d.eE+-]+)", cell)
        compact = re.sub(r"\s+", "", function[1]) if function else ""
        spaced = re.sub(r"\s+", " ", function[1]).strip() if function else ""
        if size and (
            re.fullmatch(r"\(?!\((\w+)[*&](\w+)\)\)?", compact) or re.fullmatch(r"\(?!\(\w+ \w+\)\)?", spaced)
        ):
            areas.append(float(size[1]))
    if not areas:
        raise ValueError(
            f"{liberty}: no two-input NAND found in it, so there is no gate equivalent: give another library"
        )
    return min(areas)


def synthesize(
    module: str,
    parameters: Mapping[str, int] | None = None,
    liberty: str | Path | None = None,
    ways: Sequence[str] = WAYS,
) -> Area:
    """Synthesize one shipped module and count its cells.

    Yosys optimizes, ABC maps to the library's cells with its default script: for area, no timing constraint, no
    wires. Of several ways the smallest result counts.

    Parameters
    ----------
    module : str
        A module of the shipped sources.
    parameters : dict of str to int, optional
        Its parameters.
    liberty : path, optional
        A liberty file; by default Debian's osu018.
    ways : sequence of str
        Ways through Yosys, at least one.

    Returns
    -------
    Area
        The cells and their area.

    Raises
    ------
    ValueError
        If Yosys or the library is missing, or Yosys refuses one of them.

    Examples
    --------
    >>> synthesize("rf8_decode", liberty="none.lib")
    Traceback (most recent call last):
    ...
    ValueError: none.lib: there is no such liberty file
    """
    library = find_liberty(liberty).resolve()
    if shutil.which("yosys") is None:
        raise ValueError("area needs Yosys: install it (apt install yosys) and try again")
    _nand_area(library)  # what is no library is refused before the work, by its name
    return min((_synthesized(module, parameters, library, way) for way in ways), key=lambda found: found.area)


def _synthesized(module: str, parameters: Mapping[str, int] | None, library: Path, way: str) -> Area:
    given = "".join(f" -chparam {name} {value}" for name, value in (parameters or {}).items())
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, text in rtl_sources().items():
            (place / name).write_text(text, encoding="utf-8")
        (place / "library.lib").symlink_to(library)
        script = (
            "read_liberty -lib library.lib; read_verilog -sv -defer *.sv; "
            f"hierarchy -top {module}{given}; {way}; dfflegalize -cell $_DFF_P_ x; "
            "abc -liberty library.lib; opt_clean -purge; tee -q -o depth.txt ltp -noff; "
            "dfflibmap -liberty library.lib; opt_clean -purge; tee -q -o stat.txt stat -liberty library.lib"
        )
        run = subprocess.run(
            ["yosys", "-q", "-p", script], cwd=place, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}
        )
        if run.returncode:
            raise ValueError(f"yosys cannot synthesize {module}: {' '.join((run.stderr or run.stdout).split())[-300:]}")
        counted, depth = (place / "stat.txt").read_text(), (place / "depth.txt").read_text()
    area = re.search(r"Chip area for .*: ([\d.]+)", counted)
    cells = re.search(r"Number of cells:\s+(\d+)", counted)
    longest = re.search(r"length=(\d+)", depth)
    if not (area and cells and longest):
        raise ValueError(f"yosys reported no area for {module}: is {library} a library of cells with areas?")
    size = float(area[1])
    return Area(size, size / _nand_area(library), int(longest[1]), int(cells[1]))


def area_table(
    liberty: str | Path | None = None, chosen: Sequence[Subject] | None = None, ways: Sequence[str] = WAYS
) -> list[tuple[Subject, dict[str, Area]]]:
    """Synthesize every block that is compared, for each of its formats.

    Parameters
    ----------
    liberty : path, optional
        A liberty file.
    chosen : sequence of Subject, optional
        By default `subjects`.
    ways : sequence of str
        Ways through Yosys, as `synthesize` takes them.

    Returns
    -------
    list of tuple
        Each subject with the area by format. Seconds for each block.

    Examples
    --------
    >>> area_table(chosen=[])
    []
    """
    wanted = chosen if chosen is not None else subjects()
    blocks = {
        (title, fmt): (module, {**subject.parameters, **subject.choices.get(fmt, {})})
        for title, subject in enumerate(wanted)
        for fmt, module in subject.modules.items()
    }
    distinct = {(module, tuple(given.items())): (module, given) for module, given in blocks.values()}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        areas = pool.map(lambda block: synthesize(block[0], block[1], liberty, ways), distinct.values())
        known = dict(zip(distinct, areas, strict=True))

    def area(title: int, fmt: str) -> Area:
        module, given = blocks[title, fmt]
        return known[module, tuple(given.items())]

    return [(subject, {fmt: area(title, fmt) for fmt in subject.modules}) for title, subject in enumerate(wanted)]

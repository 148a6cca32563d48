"""The command that says what is installed, and what the rest would be good for."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import typer

from ._common import app, as_json, print_table

__all__ = ["doctor"]


class _Part(NamedTuple):
    name: str
    needed_for: str
    install: str


REQUIRED = ("numpy", "numba", "scipy", "matplotlib", "ml_dtypes", "msgspec", "safetensors", "jinja2", "typer", "rich")

PACKAGES = (
    _Part("torch", "training, .pt checkpoints", "pip install torch"),
    _Part("transformers", "rf8sim evaluate --text", "pip install 'rf8sim[hf]'"),
    _Part("zstandard", "rf8sim quantize --entropy zstd", "pip install 'rf8sim[zstd]'"),
    _Part("distributed", "--scheduler and --workers", "pip install distributed"),
    _Part("cocotb", "the scoreboard rf8sim.hardware.cocotb, the bench of rf8sim hdl", "pip install cocotb"),
)

PROGRAMS = (
    _Part("iverilog", "simulating what rf8sim hdl writes", "apt install iverilog, brew install icarus-verilog"),
    _Part("yosys", "synthesis: rf8sim hdl --area", "apt install yosys, brew install yosys"),
    _Part("ghdl", "the VHDL package", "apt install ghdl, brew install ghdl"),
    _Part("chromium", "tests of the report's page", "apt install chromium chromium-driver"),
    _Part("gcc", "the C header", "apt install gcc, or the command line tools of macOS"),
)
"""Programs that tests and commands look for on the path."""


@app.command(
    short_help="Say what is installed: versions, threads, optional tools.",
    epilog="Examples: rf8sim doctor; rf8sim doctor --json",
)
def doctor(json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False) -> None:
    """Say which versions are installed, how many threads there are, and which optional parts are missing."""
    import platform
    import shutil
    from importlib import metadata

    from .._base.threads import available_threads
    from .._version import __version__
    from ..report.tables.table import Column, Table

    def version(name: str) -> str | None:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None

    facts = {"rf8sim": __version__, "Python": platform.python_version(), "system": platform.platform()}
    facts |= {"threads": str(available_threads())} | {name: version(name) or "missing" for name in REQUIRED}
    optional = [(part, version(part.name)) for part in PACKAGES] + [
        (part, shutil.which(part.name)) for part in PROGRAMS
    ]
    if json_:
        print(as_json({**facts, "optional": {part.name: installed for part, installed in optional}}))
        return
    print_table(Table("Installed", (Column("What"), Column("Found")), tuple(facts.items())))
    columns = (Column("What"), Column("Found"), Column("Needed for"))
    rows = tuple((part.name, installed or f"no: {part.install}", part.needed_for) for part, installed in optional)
    print_table(Table("Optional", columns, rows))

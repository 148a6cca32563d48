"""Runs the cocotb tests on Icarus Verilog, from the folder that holds rtl/, vectors/ and bench/: ``make cocotb``."""

from pathlib import Path

from cocotb_tools.runner import get_runner

BENCH = Path(__file__).resolve().parent


def run(top: str, parameters: dict[str, int]) -> None:
    """Build one module, and run the tests that are for it."""
    runner = get_runner("icarus")
    folder = Path("build") / f"cocotb_{top}"
    sources = sorted(Path("rtl").glob("*.sv"))
    timescale = ("1ns", "1ps")
    runner.build(
        sources=sources, hdl_toplevel=top, parameters=parameters, build_dir=folder, always=True, timescale=timescale
    )  # fmt: skip
    results = runner.test(
        test_module="cocotb_rf8", hdl_toplevel=top, build_dir=folder, test_dir=BENCH, timescale=timescale,
        extra_env={"VECTORS": str(Path("vectors").resolve())}, results_xml=str((folder / "results.xml").resolve()),
    )  # fmt: skip
    failed = results.read_text(encoding="utf-8").count("<failure")
    if failed:
        raise SystemExit(f"{top}: {failed} tests failed")


if __name__ == "__main__":
    run("rf8_multiply", {})
    run("rf8_mac", {"GUARD": 4})

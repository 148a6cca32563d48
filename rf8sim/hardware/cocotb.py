"""A scoreboard for cocotb 2: drives a design with test vectors and judges its answers as ``rf8sim verify`` does.

cocotb is imported when a design is driven: everything else here works without it.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._base.files import write_files
from .golden.ports import Port
from .vectors.files import FLAGS
from .vectors.vectors import VectorSet
from .verdict.comparison import Comparison, get_comparison
from .verdict.coverage_file import as_coverage
from .verdict.outcome import Verdict
from .verdict.text import as_data, as_junit, as_text
from .verdict.verify import verify

__all__ = ["Handshake", "Scoreboard"]

_STRENGTHS = str.maketrans("LHUW", "01XX")  # values of VHDL's std_logic


@dataclass(frozen=True)
class Handshake:
    """Names of a design's signals that say when data moves: at a rising edge where ``valid`` and ``ready`` are 1.

    Attributes
    ----------
    in_valid, out_valid : str
        Input: operands are there. Output: a result is.
    in_ready : str, optional
        Output: operands are taken. Without it they always are.
    out_ready : str, optional
        Input: the result is taken. Without it the design cannot be stalled.
    gaps, stalls : float
        Shares of clocks, from 0 to below 1, in which no operands are offered, and no result is taken.
    seed : int
        Of the clocks that are chosen for this.
    patience : int
        Clocks without a transfer after which the design is taken to hang.
    """

    in_valid: str
    out_valid: str
    in_ready: str | None = None
    out_ready: str | None = None
    gaps: float = 0.0
    stalls: float = 0.0
    seed: int = 0
    patience: int = 1000

    def __post_init__(self) -> None:
        for name in ("gaps", "stalls"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be from 0 to below 1, got {getattr(self, name)}")
        if self.stalls and self.out_ready is None:
            raise ValueError("stalls needs out_ready, the signal that stalls the design")


class Scoreboard:
    """Drives a design with vectors, records its answers, and gives the verdict of `rf8sim.hardware.verdict.verify`.

    Parameters
    ----------
    asked : VectorSet
        The vectors.
    comparison : str or Comparison, optional
        ``bits`` (default), ``value`` or ``ulp:n``; or a `Comparison`, which compares NaNs and flags too.
    first : int
        How many wrong answers are explained.

    Examples
    --------
    A test module of cocotb::

        import cocotb
        from rf8sim.hardware.cocotb import Scoreboard
        from rf8sim.hardware.vectors.vectors import vectors

        @cocotb.test()
        async def multiply(dut):
            board = Scoreboard(vectors("multiply", "rf8"))
            await board.drive(dut, names={"result": "code"})
            board.check(junit="multiply.xml")

    Without a simulator, a model in Python; one answer is unknown, as of a register that is not reset:

    >>> from rf8sim.hardware.vectors.vectors import vectors
    >>> asked = vectors("decode", "e2m1fn", result="e4m3fn")
    >>> board = Scoreboard(asked)
    >>> for number, operands in enumerate(board.stimuli()):
    ...     board.record(int(asked.results[operands["a"]]) if number != 3 else "0011XXXX")
    >>> board.verdict().passed
    False
    """

    def __init__(self, asked: VectorSet, comparison: str | Comparison | None = None, *, first: int = 10) -> None:
        self.asked = asked
        self.comparison = get_comparison(comparison) if isinstance(comparison, str) else comparison or Comparison()
        self.first = first
        self._questions, self._question = self._lines(), b""
        self._answers: list[bytes] = []

    @property
    def outputs(self) -> list[Port]:
        """The result and, where they are compared, the flags."""
        return [self.asked.model.result, *([FLAGS] if self.comparison.flags else [])]

    def _lines(self) -> Iterator[bytes]:
        """Yield the operands of each vector as hexadecimal fields."""
        for piece in self.asked.text(which="in"):
            yield from piece.splitlines()

    def stimuli(self) -> Iterator[dict[str, int]]:
        """Yield the operands of each vector by name; those of several lanes as one number, lane 0 in its low bits."""
        names = [port.name for port in self.asked.model.operands]
        for line in self._lines():
            yield {name: int(field, 16) for name, field in zip(names, line.split(), strict=True)}

    def record(self, result: Any, flags: Any = 0) -> None:
        """Record the answer to the next vector.

        Parameters
        ----------
        result, flags : int, or a value of cocotb
            Bits; a ``Logic`` or ``LogicArray``, or a text of 0, 1, X and Z, may hold unknown ones.

        Raises
        ------
        ValueError
            If a value has another width than its port.
        """
        fields = [_digits(value, port) for value, port in zip((result, flags), self.outputs, strict=False)]
        self._question = next(self._questions, self._question)  # of answers too many, the last one
        self._answers.append(b" ".join([self._question, *fields]))

    async def drive(
        self,
        dut: Any,
        *,
        clock: Any = None,
        latency: int = 0,
        handshake: Handshake | None = None,
        names: Mapping[str, str] | None = None,
        delay_ns: int = 1,
    ) -> None:
        """Drive a design with every vector and record what it answers.

        Inputs change at falling edges of the clock, which must be running; outputs are read just after that, when
        they are stable. Reset the design before.

        Parameters
        ----------
        dut : handle
            The design.
        clock : handle, optional
            Its clock. Without one the design is combinational.
        latency : int
            Rising edges from operands to their result, with a clock and no handshake.
        handshake : Handshake, optional
            The signals that say when operands and results are there.
        names : mapping, optional
            The design's signal for a port that has another name: the operands, ``result`` and ``flags``.
        delay_ns : int
            Without a clock, how long the design settles.

        Raises
        ------
        ValueError
            If the options do not fit together or a signal has another width than its port.
        AttributeError
            If the design has no signal of a name.
        """
        if latency < 0 or (clock is None and (latency or handshake is not None)):
            raise ValueError("latency must be 0 or more, and it and a handshake need a clock")
        if latency and handshake is not None:
            raise ValueError("give a latency or a handshake: the handshake says when a result is there")
        signals = _signals(dut, [*self.asked.model.operands, *self.outputs], names or {})
        if clock is None:
            await self._drive_combinational(signals, delay_ns)
        elif handshake is None:
            await self._drive_pipeline(signals, clock, latency)
        else:
            await self._drive_handshake(dut, signals, clock, handshake)

    def _sample(self, signals: Mapping[str, Any]) -> None:
        self.record(*(signals[port.name].value for port in self.outputs))

    async def _drive_combinational(self, signals: Mapping[str, Any], delay_ns: int) -> None:
        from cocotb.triggers import Timer

        for operands in self.stimuli():
            _apply(signals, operands)
            await Timer(delay_ns, "ns")
            self._sample(signals)

    async def _drive_pipeline(self, signals: Mapping[str, Any], clock: Any, latency: int) -> None:
        from cocotb.triggers import FallingEdge, ReadOnly

        stimuli = self.stimuli()
        for number in range(len(self.asked) + latency):
            await FallingEdge(clock)
            _apply(signals, next(stimuli, {}))
            await ReadOnly()
            if number >= latency:
                self._sample(signals)

    async def _drive_handshake(self, dut: Any, signals: Mapping[str, Any], clock: Any, names: Handshake) -> None:
        from cocotb.triggers import FallingEdge, ReadOnly

        in_valid, out_valid = getattr(dut, names.in_valid), getattr(dut, names.out_valid)
        in_ready = None if names.in_ready is None else getattr(dut, names.in_ready)
        out_ready = None if names.out_ready is None else getattr(dut, names.out_ready)
        chance = random.Random(names.seed)
        stimuli = self.stimuli()
        offered: dict[str, int] | None = None
        idle = done = 0
        while done < len(self.asked) and idle < names.patience:
            await FallingEdge(clock)
            if offered is None and (not names.gaps or chance.random() >= names.gaps):
                offered = next(stimuli, None)
                _apply(signals, offered or {})
            in_valid.value = int(offered is not None)
            taking = not names.stalls or chance.random() >= names.stalls
            if out_ready is not None:
                out_ready.value = int(taking)
            await ReadOnly()
            idle += 1
            if offered is not None and (in_ready is None or _is_one(in_ready, names.in_ready)):
                offered, idle = None, 0
            if _is_one(out_valid, names.out_valid) and taking:
                self._sample(signals)
                done, idle = done + 1, 0
        await FallingEdge(clock)
        in_valid.value = 0

    def verdict(self) -> Verdict:
        """Return the verdict on the answers so far, that of ``rf8sim verify`` on a file of them."""
        text = b"".join(line + b"\n" for line in self._answers)
        return verify(self.asked, io.BytesIO(text), self.comparison, first=self.first)

    def check(
        self,
        *,
        junit: str | Path | None = None,
        report: str | Path | None = None,
        coverage: str | Path | None = None,
        write_answers: str | Path | None = None,
    ) -> Verdict:
        """Return the verdict if the design passed; raise with its text if not.

        Parameters
        ----------
        junit, report, coverage : path, optional
            Files to write in either case: JUnit XML; JSON, as of ``rf8sim verify --json``; functional coverage, as of
            ``rf8sim verify --coverage-file``.
        write_answers : path, optional
            The answers, as lines that ``rf8sim verify`` reads.

        Returns
        -------
        Verdict
            It passed.

        Raises
        ------
        AssertionError
            If it did not: with what was wrong, the first wrong answers explained, and the diagnosis.
        """
        verdict = self.verdict()
        files: dict[Path, bytes] = {}
        if junit is not None:
            files[Path(junit)] = as_junit(verdict)
        if report is not None:
            files[Path(report)] = (json.dumps(as_data(verdict), indent=1, ensure_ascii=False) + "\n").encode()
        if coverage is not None:
            files[Path(coverage)] = as_coverage(verdict, Path(coverage))
        if write_answers is not None:
            files[Path(write_answers)] = b"".join(line + b"\n" for line in self._answers)
        write_files(files)
        if not verdict.passed:
            raise AssertionError("\n".join(as_text(verdict)))
        return verdict


def _digits(value: Any, port: Port) -> bytes:
    """Return the hexadecimal digits of a value of a port, X or Z for one with unknown bits."""
    bits = f"{value:0{port.bits}b}" if isinstance(value, (int, np.integer)) else str(value).upper()
    bits = bits.translate(_STRENGTHS)
    if len(bits) != port.bits or "-" in bits:
        raise ValueError(f"{port.name} has {port.bits} bits: {value!r} is no pattern of these")
    padded = bits.rjust(4 * port.digits, "0")
    nibbles = (padded[place : place + 4] for place in range(0, len(padded), 4))
    digits = (
        f"{int(nibble, 2):X}" if set(nibble) <= {"0", "1"} else "Z" if nibble == "ZZZZ" else "X" for nibble in nibbles
    )
    return "".join(digits).encode()


def _signals(dut: Any, ports: list[Port], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a design's signals by the names of the ports."""
    known = {port.name for port in ports}
    if unknown := sorted(set(names) - known):
        raise ValueError(f"names: there is no port {unknown[0]!r}: the ports are {', '.join(sorted(known))}")
    signals = {}
    for port in ports:
        signal = getattr(dut, names.get(port.name, port.name))
        width = len(str(signal.value))
        if width != port.bits:
            raise ValueError(f"{signal._name} has {width} bits, and {port.name} of {port.kind.name} has {port.bits}")
        signals[port.name] = signal
    return signals


def _apply(signals: Mapping[str, Any], operands: Mapping[str, int]) -> None:
    for name, value in operands.items():
        signals[name].value = value


def _is_one(signal: Any, name: str | None) -> bool:
    value = str(signal.value)
    if value not in ("0", "1"):
        raise AssertionError(f"{name} is {value}: reset the design before it is driven")
    return value == "1"

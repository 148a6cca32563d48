"""What is refused, in which words, and that nothing is half-written."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from loops import looped
from oracle_helpers import DTYPES, nans

import rf8sim
from rf8sim.formats import format_names, get_format

WITHOUT_NAN = [name for name in format_names() if get_format(name).nan is None]
MODES = ["nearest-even", "stochastic"]


@looped("rounding", MODES)
@pytest.mark.parametrize("dtype", list(DTYPES))
@looped("name", WITHOUT_NAN)
def test_nan_into_a_format_without_nan(name: str, dtype: str, rounding: str) -> None:
    for nan in nans(dtype):
        x = np.zeros((3, 5), dtype=DTYPES[dtype])
        x[1, 3] = x[2, 0] = nan
        out = np.full((3, 5), 9, dtype=np.uint8)
        with pytest.raises(ValueError, match=rf"NaN.*\(1, 3\).*'{name}'"):
            rf8sim.encode(x, name, rounding=rounding, out=out)
        assert np.all(out == 9), "nothing half-written"


@pytest.mark.parametrize("where", [0, 1, 699_999, 700_000])
def test_the_first_nan_is_named_wherever_it_is(where: int) -> None:
    x = np.zeros(700_001, dtype=np.float32)
    x[where] = x[-1] = np.nan
    with pytest.raises(ValueError, match=rf"index \({where},?\)"):
        rf8sim.encode(x, "int8")


def test_a_nan_alone() -> None:
    with pytest.raises(ValueError, match="NaN"):
        rf8sim.encode(np.nan, "int8")
    x = np.zeros((4, 6), dtype=np.float32, order="F")
    x[2, 5] = np.nan
    with pytest.raises(ValueError, match=r"\(2, 5\)"):
        rf8sim.encode(x, "int8")
    assert rf8sim.encode(x[:2], "int8").shape == (2, 6)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.ones(3, dtype=complex), "complex"),
        (np.array([1.0, None], dtype=object), "object"),
        (np.array([True, False]), "bool"),
        (True, "bool"),
        (np.array(["1.0"]), "str"),
        ("1.0", "str"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "datetime"),
        (np.ones(3, dtype=np.longdouble), "longdouble|float128|float96"),
        (2**70, "object"),
        (None, "object"),
        (np.zeros(2, dtype=[("a", "f4")]), "void"),
    ],
)
def test_what_is_no_real_number_is_refused(x: object, said: str) -> None:
    with pytest.raises(TypeError, match=f"(?s)cannot encode.*({said})"):
        rf8sim.encode(x, "rf8")  # type: ignore[arg-type]


def test_ragged_lists_are_refused() -> None:
    with pytest.raises((TypeError, ValueError)):
        rf8sim.encode([[1.0], [1.0, 2.0]], "rf8")  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounding": "nearest_even"}, "unknown rounding.*'nearest_even'.*'nearest-even'"),
        ({"rounding": "stochastics"}, "'stochastics'.*'stochastic'"),
        ({"rounding": "towards-zero"}, "'towards-zero'.*'toward-zero'"),
        ({"rounding": "xyzzy"}, "'xyzzy'.*residual"),
        ({"rounding": ""}, "unknown rounding"),
        ({"rounding": None}, "unknown rounding"),
        ({"rounding": 3}, "unknown rounding"),
        ({"rounding": "up/saturated"}, "'saturated'.*'saturate'"),
        ({"rounding": "up/inf"}, "'inf'.*'infinity'"),
        ({"rounding": "up/infinity"}, "'rf8' has no infinity"),
        ({"threads": 0}, "threads"),
        ({"threads": -1}, "threads"),
    ],
)
def test_unknown_options_suggest_the_nearest(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rf8sim.encode(np.ones(3), "rf8", **options)  # type: ignore[arg-type]


@looped("name", [name for name in format_names() if get_format(name).family != "residual"])
def test_residual_is_for_the_rf_family(name: str) -> None:
    with pytest.raises(ValueError, match=f"'residual'.*'{name}'"):
        rf8sim.encode(np.ones(3), name, rounding="residual")


@looped("name", format_names())
def test_overflow_options_need_their_code(name: str) -> None:
    fmt = get_format(name)
    for option, has in (("nan", fmt.nan is not None), ("infinity", bool(np.isinf(fmt.values).any()))):
        if has:
            rf8sim.encode(np.ones(3), name, rounding=rf8sim.Rounding(overflow=option))
        else:
            with pytest.raises(ValueError, match=f"'{name}'"):
                rf8sim.encode(np.ones(3), name, rounding=rf8sim.Rounding(overflow=option))


def test_unknown_format() -> None:
    for call in (rf8sim.encode, rf8sim.decode, rf8sim.canonical):
        with pytest.raises(ValueError, match="unknown format 'rf9': did you mean 'rf8'"):
            call(np.zeros(2, dtype=np.uint8), "rf9")


@pytest.mark.parametrize(
    "out",
    [
        np.zeros(4, dtype=np.uint8),
        np.zeros((3, 1), dtype=np.uint8),
        np.zeros(3, dtype=np.int8),
        np.zeros(3, dtype=np.uint16),
        np.zeros(3, dtype=np.float32),
        [0, 0, 0],
    ],
)
def test_a_wrong_out_is_refused(out: object) -> None:
    with pytest.raises(ValueError, match=r"out must be .*uint8.*\(3,\)"):
        rf8sim.encode(np.ones(3), "rf8", out=out)  # type: ignore[arg-type]


def test_a_read_only_out_is_refused() -> None:
    out = np.zeros(3, dtype=np.uint8)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        rf8sim.encode(np.ones(3), "rf8", out=out)
    assert np.all(out == 0)


@pytest.mark.parametrize(
    "out", [np.zeros(4, np.float32), np.zeros(3, np.float64), np.zeros(3, np.uint8), np.zeros(3, ">f4")]
)
def test_decode_refuses_a_wrong_out(out: np.ndarray) -> None:
    with pytest.raises(ValueError, match="out must be"):
        rf8sim.decode(np.zeros(3, dtype=np.uint8), "rf8", out=out)


@pytest.mark.parametrize("codes", [np.zeros(3), np.zeros(3, dtype=bool), ["a"], np.zeros(3, dtype=ml_dtypes.bfloat16)])
def test_codes_are_integers(codes: object) -> None:
    for call in (rf8sim.decode, rf8sim.canonical):
        with pytest.raises(TypeError, match="codes are"):
            call(codes, "rf8")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("codes", "name"),
    [([0, 256], "rf8"), ([-1], "rf8"), ([16], "nf4"), ([64], "rf6"), (np.array([255], np.uint8), "e2m1fn")],
)
def test_codes_out_of_range(codes: object, name: str) -> None:
    for call in (rf8sim.decode, rf8sim.canonical):
        with pytest.raises(ValueError, match=f"codes of {name} run from 0 to"):
            call(codes, name)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "complex64", "bool", "U3", ">f4"])
def test_decode_gives_floats(dtype: str) -> None:
    with pytest.raises(TypeError, match="decode gives"):
        rf8sim.decode(np.zeros(3, dtype=np.uint8), "rf8", dtype=dtype)


@pytest.mark.parametrize(
    "dtype", [getattr(ml_dtypes, name) for name in dir(ml_dtypes) if name.startswith(("float8", "float6", "float4"))]
)
def test_small_floats_are_read_exactly(dtype: type) -> None:
    width = ml_dtypes.finfo(dtype).bits
    x = np.arange(1 << width, dtype=np.uint8).view(dtype)
    with np.errstate(invalid="ignore"):
        wide = x.astype(np.float32)
    np.testing.assert_array_equal(rf8sim.encode(x, "rf8"), rf8sim.encode(wide, "rf8"))


@pytest.mark.parametrize("dtype", ["int2", "int4", "uint2", "uint4"])
def test_small_integers_of_ml_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(TypeError, match=f"cannot encode.*{dtype}"):
        rf8sim.encode(np.array([0, 1]).astype(getattr(ml_dtypes, dtype)), "int8")


def test_register_takes_a_format() -> None:
    with pytest.raises(TypeError, match="register takes a Format, not int"):
        rf8sim.register(3)  # type: ignore[arg-type]


def test_an_output_that_is_read_only_is_called_so() -> None:
    out = np.zeros(3, np.uint8)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="got read-only uint8"):
        rf8sim.encode(np.zeros(3), "rf8", out=out)


def test_draws_end_where_their_counter_does() -> None:
    last = (1 << 64) - 3
    x = np.full(3, 0.3)
    assert rf8sim.encode(x, "rf8", rounding=rf8sim.Rounding("stochastic", offset=last)).shape == (3,)
    with pytest.raises(ValueError, match=r"must not pass 2\*\*64"):
        rf8sim.encode(x, "rf8", rounding=rf8sim.Rounding("stochastic", offset=last + 1))


def test_integers_too_fine_for_the_draw_are_refused() -> None:
    values = np.concatenate([np.arange(8) * 2.0**30 + 2.0**53, -np.arange(8) * 2.0**30])
    fine = rf8sim.Format("fine_above_2_53", 4, "integer", "values 2**30 apart above 2**53", values)
    with pytest.raises(ValueError, match=r"integers beyond 2\*\*53"):
        rf8sim.encode(np.array([2**53 + 1]), fine, rounding="stochastic")


def test_no_overflow_is_proposed_that_a_format_has_not():
    with pytest.raises(ValueError, match=r"'int8' has no infinity: use overflow='saturate'$"):
        rf8sim.encode([1.0], "int8", rounding=rf8sim.Rounding(overflow="infinity"))
    with pytest.raises(ValueError, match=r"'rf8' has no infinity: use overflow='saturate' or overflow='ieee'$"):
        rf8sim.encode([1.0], "rf8", rounding=rf8sim.Rounding(overflow="infinity"))


@pytest.mark.parametrize("size", [1000, 600_000])
def test_outputs_may_overlap_inputs(size):
    """Whatever memory x and out share, the result is that of separate memory."""
    x = np.random.default_rng(0).normal(size=size).astype(np.float32)
    codes = rf8sim.encode(x, "rf8")
    values = rf8sim.decode(codes, "rf8")
    for shift in (0, 2, size // 2, 3 * size, 4 * size - 1):
        memory = np.zeros(5 * size + 8, np.uint8)
        view = memory[: 4 * size].view(np.float32)
        view[:] = x
        np.testing.assert_array_equal(rf8sim.encode(view, "rf8", out=memory[shift : shift + size]), codes)
        memory = np.zeros(5 * size + 8, np.uint8)
        given = memory[shift : shift + size]
        given[:] = codes
        np.testing.assert_array_equal(rf8sim.decode(given, "rf8", out=memory[: 4 * size].view(np.float32)), values)

"""Errors from intervals between the steps of several schemes have the bits of errors of the elements one by one."""

import numpy as np
import pytest

import ggd
from rf8sim import as_scheme, quantize
from rf8sim.codec.rounding import RoundingMode, fits
from rf8sim.formats import format_names, get_format
from rf8sim.quantization.interval_errors import IntervalErrors, find_steps
from rf8sim.quantization.metrics import RowErrors, row_scales
from rf8sim.quantization.scaling import Chosen, choose_scales
from rf8sim.studies import measuring, meters
from rf8sim.studies.experiment import Settings

SCHEMES = (
    "rf8", "e4m3fn", "e5m2/none", "int8@up", "posit8_es2/none@toward-zero", "uint8/tensor,max,zero=uint8",
    "int8/tensor:float32,signed", "e5m10/none", "uint4/tensor,max,zero=float32", "e4m3fn/none@nearest-even/ieee",
    "rf8@residual",
)  # fmt: skip


def one_by_one(x, scheme, scales):
    quantized = quantize(np.where(np.isfinite(x), x, np.float32(0)), scheme, scale=scales)
    errors = RowErrors(scheme.format, len(x), finite_only=True)
    errors.add(x, quantized.codes, *row_scales(quantized))
    return errors


def same(errors, expected):
    assert np.array_equal(errors.sums, expected.sums)
    for name, value in vars(errors.total()).items():
        assert np.array_equal(value, getattr(expected.total(), name)), name


def beside(numbers):
    """Return numbers as float32 and the patterns around them, those that are finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        patterns = np.asarray(numbers).astype(np.float32).view(np.int32)
    around = (patterns.reshape(-1, 1) + np.arange(-2, 3, dtype=np.int32)).reshape(-1).view(np.float32)
    return around[np.isfinite(around)]


def adversarial(fmt, scale):
    """Numbers where results change or formulas break, and others of all sizes, in rows."""
    rng = np.random.default_rng(3)
    values = np.sort(fmt.values[np.isfinite(fmt.values)])
    if values.size > 512:
        values = np.unique(np.concatenate([values[:40], values[-40:], rng.choice(values, 300)]))
    points = np.concatenate([values, (values[1:] + values[:-1]) / 2, [fmt.max * 1.1, 2 * fmt.max, fmt.min * 1.5]])
    extremes = [0.0, -0.0, 1e-45, -1e-45, 1.1754944e-38, -1e-38, 1e-42, 3.4e38, -3.4e38, 3.4028235e38, 1.0, -1.0]
    sizes = rng.standard_t(2, 500) * 2.0 ** rng.integers(-140, 100, 500)
    near = rng.standard_t(2, 500) * scale * np.abs(values).max() / 4
    x = np.concatenate([beside(points * scale), beside(extremes), beside(sizes), beside(near)])
    rng.shuffle(x)
    return np.resize(x, (-(-x.size // 64), 64))


@pytest.mark.parametrize("name", format_names())
def test_every_bit_is_that_of_the_elements(name):
    fmt = get_format(name)
    modes = [mode for mode in RoundingMode if mode is not RoundingMode.STOCHASTIC and fits(fmt, mode)]
    if fmt.values.size > 1 << 12:
        modes = modes[:2]
    for scale in (None, 1.0, 0.0371, 2.0**-100):
        x = adversarial(fmt, scale or 1.0)
        summary = ggd.MagnitudeHistogram.from_array(x)
        scales = Chosen(() if scale is None else (np.array(scale, np.float32),))
        text = f"{name}/none" if scale is None else f"{name}/tensor:float32,max"
        schemes = [as_scheme(f"{text}@{mode.value}") for mode in modes]
        check(x, [(scheme, scales) for scheme in schemes], summary)


def check(x, schemes, summary):
    steps = [find_steps(scheme, scales, summary) for scheme, scales in schemes]
    kept = [pair for pair, step in zip(schemes, steps, strict=True) if step is not None]
    all_finite = bool(np.isfinite(x).all())
    errors = IntervalErrors([step for step in steps if step is not None], len(x), all_finite)
    half = len(x) // 2
    errors.add(x[:half, :20])  # in pieces, of rows and of parts of rows
    errors.add(x[half:], half)
    errors.add(x[:half, 20:])
    for rows, (scheme, scales) in zip(errors.of_schemes(), kept, strict=True):
        same(rows, one_by_one(x, scheme, scales))
    for (scheme, scales), step in zip(schemes, steps, strict=True):
        finite = np.isfinite(quantize(x[np.isfinite(x)], scheme, scale=scales).dequantize(np.float64)).all()
        assert finite == (step is not None)


def weights(shape=(37, 211)):
    rng = np.random.default_rng(5)
    x = (rng.standard_t(2, size=shape) * 2.0 ** rng.integers(-20, 10, size=(shape[0], 1))).astype(np.float32)
    x[3], x[4, ::2], x[7, :4] = 0, -0.0, [1e-45, -1e-45, 1e-40, -0.0]
    return x


@pytest.mark.parametrize("change", [lambda x: x, np.abs, lambda x: -np.abs(x), np.zeros_like, lambda x: x * 0 - 1e-41])
def test_schemes_with_chosen_scales(change):
    x = change(weights()).astype(np.float32)
    check(x, [(s, choose_scales(x, s)) for s in map(as_scheme, SCHEMES)], ggd.MagnitudeHistogram.from_array(x))


def test_steps_are_all_those_that_the_elements_take():
    x = np.linspace(-2, 2, 1 << 20, dtype=np.float32)
    for text in SCHEMES:
        scheme = as_scheme(text)
        scales = choose_scales(x, scheme)
        steps = find_steps(scheme, scales, ggd.MagnitudeHistogram.from_array(x))
        place = np.searchsorted(steps.first, x.view(np.uint32), side="right") - 1
        assert np.array_equal(steps.quantized.codes[place], quantize(x, scheme, scale=scales).codes)


@pytest.mark.parametrize("share", [1e-3, 0.5, 1.0])
def test_what_is_not_finite_is_passed_over(share):
    x = weights()
    rng = np.random.default_rng(7)
    rows = np.flatnonzero(rng.random(len(x)) < 0.5)
    x[rows] = np.where(rng.random((rows.size, x.shape[1])) < share, np.float32(np.nan), x[rows])
    x[2, :3], x[-1] = [np.inf, -np.inf, np.nan], -np.inf
    assert np.isfinite(x).all(axis=1).any()
    x.flags.writeable = False
    check(x, [(s, choose_scales(x, s)) for s in map(as_scheme, SCHEMES)], ggd.MagnitudeHistogram.from_array(x))
    nothing = np.full((3, 5), np.nan, np.float32)
    check(nothing, [(as_scheme("rf8/none"), Chosen(()))], ggd.MagnitudeHistogram.from_array(nothing))


def test_what_becomes_infinite_has_no_steps():
    scheme = as_scheme("e5m2/none@nearest-even/ieee")
    for number, known in ((1.0, True), (np.inf, True), (np.nan, True), (1e30, False)):
        summary = ggd.MagnitudeHistogram.from_array(np.array([0.5, number], np.float32))
        assert (find_steps(scheme, Chosen(()), summary) is not None) == known


def test_likely_steps_are_only_likely(monkeypatch):
    """Where they are wrong, or missing, the steps are found all the same."""
    from rf8sim.quantization import interval_errors

    x = weights()
    summary = ggd.MagnitudeHistogram.from_array(x)
    scheme = as_scheme("e4m3fn")
    scales = choose_scales(x, scheme)
    expected = find_steps(scheme, scales, summary)
    likely = interval_errors._likely_steps

    def few(*arguments):
        points = likely(*arguments)
        return np.union1d(
            points[:: points.size // 10], [0, points[points < 1 << 31].max(), 1 << 31, points.max(), 1, (1 << 31) + 1]
        )

    monkeypatch.setattr(interval_errors, "_likely_steps", few)
    steps = find_steps(scheme, scales, summary)
    assert np.array_equal(steps.first, expected.first)
    assert np.array_equal(steps.quantized.codes, expected.quantized.codes)


@pytest.mark.parametrize("specials", [False, True])
def test_a_report_is_the_same_by_intervals_and_by_elements(specials, tmp_path, monkeypatch):
    x = weights()
    if specials:
        x[5, 7], x[6, 8], x[6, 9] = np.nan, np.inf, -np.inf
    np.save(tmp_path / "w.npy", x)
    settings = Settings((*SCHEMES, "rf8/channel", "int8@stochastic"))
    results = []
    monkeypatch.setattr(meters, "_FEW", 1 << 16)
    for many in (1, 1 << 40):
        monkeypatch.setitem(meters._MANY, "float32", many)
        results.append(measuring.run([tmp_path / "w.npy"], settings, chunk_elements=1000).to_json())
    assert results[0] == results[1]

"""The records of an experiment are what plain numpy computes, whatever the chunks."""

import json
import math

import ml_dtypes
import numpy as np
import pytest
from msgspec.structs import replace
from safetensors.numpy import save_file

import rf8sim
from rf8sim.checkpoints.checkpoint import CheckpointError
from rf8sim.quantization.metrics import measure
from rf8sim.quantization.records import to_builtins
from rf8sim.quantization.scaling import choose_scales
from rf8sim.studies import measuring
from rf8sim.studies.experiment import Experiment, SchemeRecord, Settings
from rf8sim.studies.measuring import run

DATA = np.random.default_rng(7).laplace(size=(30, 21)).astype(np.float32) * 0.1
DATA[3, :5] = 0
USUAL = ("rf8", "e4m3fn", "e5m2", "e3m4", "int8")


@pytest.fixture
def without_choices(monkeypatch):
    monkeypatch.setattr(measuring, "compare_choices", lambda tensors, settings: ())


def stored_as(names, block="tensor", rule="mse", rounding="nearest-even", **settings):
    """Settings of formats that are all scaled and rounded in one way."""
    scales = "none" if block == "none" else f"{block},{rule}"
    return Settings(tuple(f"{name}/{scales}@{rounding}" for name in names), **settings)


def saved(folder, name="m", **tensors):
    save_file(tensors, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def measured(folder, settings, chunk_elements=1 << 20, **tensors):
    return run([saved(folder, **tensors)], settings, chunk_elements=chunk_elements)


def nearest(x, fmt, scale):
    """Quantize by looking at every value of the format; ties do not occur in the data."""
    values = fmt.values[np.isfinite(fmt.values)] * scale
    y = values[np.argmin(np.abs(x.reshape(-1, 1) - values), axis=1)].reshape(x.shape)
    return y + 0.0 if fmt.negative_zero is None else np.copysign(y, x)


def not_below(scale):
    """Return the smallest float32 that is at least ``scale``, as float64."""
    stored = np.asarray(scale).astype(np.float32)
    return np.where(stored < scale, np.nextafter(stored, np.float32(np.inf)), stored).astype(np.float64)


def check(record, x, y, lowest, highest):
    """Compare a record with sums over the data ``x`` and its quantized copy ``y``, both float64."""
    error = record.error
    kept = (x != 0) & (y != 0)
    relative = np.abs(x - y)[kept] / np.abs(x[kept])
    assert error.count == x.size
    assert error.nonzero == np.count_nonzero(x)
    assert error.underflow == np.count_nonzero((x != 0) & (y == 0))
    assert error.overflow == np.count_nonzero((x < lowest) | (x > highest))
    assert error.relative_count == np.count_nonzero(kept)
    assert record.sqnr_db == pytest.approx(10 * np.log10(np.sum(x**2) / np.sum((x - y) ** 2)), rel=1e-12)
    assert record.mean_relative_error == pytest.approx(relative.mean(), rel=1e-12)
    assert record.max_relative_error == pytest.approx(relative.max(), rel=1e-12)
    counts = np.unique(y.view(np.int64), return_counts=True)[1]  # +0 and -0 are two codes
    share = counts / x.size
    assert record.entropy_bits == pytest.approx(-np.sum(share * np.log2(share)), rel=1e-12)
    assert sum(error.code_counts) == x.size


@pytest.mark.parametrize("name", ["rf8", "e4m3fn", "e5m2", "e3m4", "int8"])
@pytest.mark.parametrize("rule", ["max", "mse", "ggd"])
def test_one_scale_against_numpy(tmp_path, name, rule):
    record = measured(tmp_path, stored_as((name,), rule=rule), w=DATA).total.schemes[0]
    fmt, scale, x = rf8sim.get_format(name), record.smallest_scale, DATA.astype(np.float64)
    assert scale == record.largest_scale
    if rule == "max":
        largest = np.abs(x).max()
        expected = not_below(largest / fmt.max)
        if fmt.family == "residual":
            expected = 2.0 ** math.ceil(math.log2(largest / fmt.max))
        assert scale == expected
    y = nearest(x, fmt, scale)
    check(record, x, y, fmt.min * scale, fmt.max * scale)
    bits = 8 if fmt.family == "residual" else 32
    assert record.bits_per_weight == 8 + bits / DATA.size
    assert record.coded_bits_per_weight == record.entropy_bits + bits / DATA.size


def test_mse_scale_is_the_best_of_many(tmp_path):
    fmt, x = rf8sim.get_format("int8"), DATA.astype(np.float64)
    record = measured(tmp_path, Settings(("int8",)), w=DATA).total.schemes[0]
    tried = np.abs(x).max() / fmt.max * 2.0 ** np.linspace(1, -4, 200)
    best = min(np.sum((x - nearest(x, fmt, scale)) ** 2) for scale in tried)
    assert record.error.sum_squared_error < 1.02 * best


def test_without_scale_against_ml_dtypes(tmp_path):
    record = measured(tmp_path, Settings(("e5m2/none",)), w=DATA).total.schemes[0]
    y = DATA.astype(ml_dtypes.float8_e5m2).astype(np.float64)
    check(record, DATA.astype(np.float64), y, -57344, 57344)
    assert record.bits_per_weight == 8
    assert record.scales == 0


def test_channels_against_numpy(tmp_path):
    record = measured(tmp_path, Settings(("int8/channel,max",)), w=DATA).total.schemes[0]
    x = DATA.astype(np.float64)
    scale = not_below(np.abs(x).max(axis=1, keepdims=True) / 127)
    y = np.clip(np.rint(x / scale), -128, 127) * scale
    assert record.error.sum_squared_error == pytest.approx(np.sum((x - y) ** 2), rel=1e-12)
    assert record.scales == 30
    assert (record.smallest_scale, record.largest_scale) == (scale.min(), scale.max())
    counts = np.bincount(np.rint(x / scale).astype(np.int8).view(np.uint8).ravel(), minlength=256)
    assert record.error.code_counts.tolist() == counts.tolist()


@pytest.mark.parametrize("shape", [(30, 21), (630,), (6, 5, 21), (10, 3, 7, 3)])
def test_blocks_against_numpy(tmp_path, shape):
    record = measured(tmp_path, Settings(("int8/1x8,max",)), w=DATA.reshape(shape)).total.schemes[0]
    rows = {1: 1, 2: 30, 3: 30, 4: 10}[len(shape)]
    error, scales = 0.0, 0
    for row in DATA.astype(np.float64).reshape(rows, -1):
        for block in np.split(row, range(8, row.size, 8)):
            scale = not_below(np.abs(block).max() / 127) or 1.0
            error += np.sum((block - np.clip(np.rint(block / scale), -128, 127) * scale) ** 2)
            scales += 1
    assert record.error.sum_squared_error == pytest.approx(error, rel=1e-12)
    assert record.scales == scales
    assert record.bits_per_weight == pytest.approx(8 + 32 * scales / DATA.size)


SCHEMES = (
    *rf8sim.scheme_names(), "rf8", "rf8/none", "int8", "rf8/channel@residual", "int8/channel", "e4m3fn/*x1,max",
    "e4m3fn/3x5:bfloat16,max", "int8/1x7,ggd", "rf8/channel,ggd", "int4/channel,signed", "int4/tensor,signed",
    "uint8/tensor,max,zero=uint8", "uint8/channel,max,zero=uint8", "uint4/tensor,max,zero=float32", "int8/1x*x*,max",
    "e2m1fn/1x16:e4m3fn,max/1x4:float32,max", "e2m1fn/2x16:e4m3fn/tensor:float32,max", "e5m2/1x2x2x3,ggd",
    "int8/1x32@stochastic", "rf8/2x8@stochastic", "uint4/1x*x*,max,zero=float16",
)  # fmt: skip


@pytest.mark.usefixtures("without_choices")
@pytest.mark.parametrize(
    ("shape", "chunk"),
    [
        ((), 8), ((1,), 8), ((300,), 64), ((4000,), 1000), ((37, 70), 200), ((37, 70), 50), ((300, 30), 1000),
        ((256, 40), 999), ((5, 37, 21), 100), ((3, 256, 10), 700), ((1, 1, 5), 3), ((40, 2, 3), 50),
        ((20, 3, 5, 5), 160), ((7, 30, 4, 3), 100), ((3, 2, 3, 2, 4), 7),
    ],
)  # fmt: skip
def test_every_scheme_is_measured_as_in_one_piece(tmp_path, shape, chunk):
    x = np.array(np.random.default_rng(1).laplace(size=shape) * 0.1, dtype=np.float32)
    settings = Settings(SCHEMES, seed=3)
    for elements in (chunk, 1 << 20):
        [tensor] = measured(tmp_path, settings, elements, w=x).tensors
        for record in tensor.schemes:
            q = rf8sim.quantize(x, record.scheme, seed=3)
            whole, scales = measure(x, q), [scale.size for scale in q.scales]
            assert_same(to_builtins(record.error), to_builtins(whole))
            assert record.scales == sum(scales), record.name
            assert record.scale_bits == record.scheme.scale_bits(shape)
            assert record.bits_per_weight == pytest.approx(q.bits_per_weight, rel=1e-15)
            assert record.smallest_scale == np.abs(q.scale).min()
            assert record.largest_scale == np.abs(q.scale).max()
        rows = rf8sim.quantization.blocks.matrix_shape(shape)[0]
        assert all(channels.channels <= rows for channels in tensor.channels)


@pytest.mark.usefixtures("without_choices")
@pytest.mark.parametrize("shape", [(40, 70), (4, 30, 20), (3000,)])
def test_threads_and_parts_change_no_bit(tmp_path, shape, monkeypatch):
    monkeypatch.setattr(measuring, "_PART", 1)
    path = saved(tmp_path, w=np.random.default_rng(2).laplace(size=shape).astype(np.float32))
    for schemes in (SCHEMES, ("nvfp4", "rf8/2x8@stochastic", "int8/channel", "q4_1"), ("e4m3fn/*x1,max", "rf8")):
        alone, several = (run([path], Settings(schemes), chunk_elements=200, threads=n).to_json() for n in (1, 3))
        assert json.dumps(several) == json.dumps(alone)


@pytest.mark.usefixtures("without_choices")
@pytest.mark.parametrize("rule", ["max", "mse"])
@pytest.mark.parametrize("rounding", ["nearest-even", "stochastic"])
@pytest.mark.parametrize("block", ["tensor", "channel", "1x4", "none", "4x4"])
def test_chunks_change_no_bit(tmp_path, block, rounding, rule):
    """Every number, sums of floats too."""
    settings = stored_as(("rf8", "int8"), block, rule, rounding, seed=5)
    odd = DATA.copy()
    odd[3, :2], odd[7, 5] = [np.nan, np.inf], -np.inf
    tensors = {"w": DATA, "b": DATA[0], "t": DATA.reshape(6, 5, 21), "odd": odd}
    whole = json.dumps(measured(tmp_path, settings, **tensors).to_json())
    for chunk in (4, 21, 100):
        assert json.dumps(measured(tmp_path, settings, chunk, **tensors).to_json()) == whole


@pytest.mark.parametrize("block", ["channel", "1x32"])
def test_rule_ggd_fits_the_whole_tensor_whatever_the_chunks(tmp_path, block):
    """The shape is that of the tensor, not of the piece that happens to be in memory: the parts here differ."""
    rng = np.random.default_rng(3)
    parts = [rng.uniform(-1, 1, size=(40, 64)), rng.laplace(size=(40, 64)) ** 3]
    data = np.concatenate(parts).astype(np.float32)
    settings = stored_as(("int8", "e4m3fn"), block, "ggd")
    whole = measured(tmp_path, settings, w=data)
    for chunk in (64, 640, 2560):
        assert_same(measured(tmp_path, settings, chunk, w=data).to_json(), whole.to_json())
    for record in whole.total.schemes:
        q = rf8sim.quantize(data, record.scheme)
        error = np.sum((data.astype(np.float64) - q.dequantize(np.float64)) ** 2)
        assert record.error.sum_squared_error == pytest.approx(error, rel=1e-12)
        alone = [choose_scales(part, record.scheme).scales[0] for part in parts]
        assert not np.array_equal(np.concatenate(alone), q.scale), "the parts alone would get other scales"


def assert_same(a, b):
    """Compare JSON; numbers that come from sums of floats in their first 12 digits, all others exactly."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            if isinstance(a[key], float) and key not in ("smallest_scale", "largest_scale", "max_relative_error"):
                assert a[key] == pytest.approx(b[key], rel=1e-12)
            else:
                assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        assert a == b


def test_the_total_is_the_tensors_together(tmp_path):
    parts = measured(tmp_path, Settings(("rf8/none",)), a=DATA[:10], b=DATA[10:])
    whole = measured(tmp_path, Settings(("rf8/none",)), w=DATA)
    assert parts.total.bins == whole.total.bins
    assert parts.total.fit == whole.total.fit
    assert parts.total.schemes[0].error.code_counts.tolist() == whole.total.schemes[0].error.code_counts.tolist()
    assert parts.total.schemes[0].sqnr_db == pytest.approx(whole.total.schemes[0].sqnr_db, rel=1e-12)
    a, b = (tensor.schemes[0] for tensor in parts.tensors)
    assert to_builtins(a | b) == to_builtins(parts.total.schemes[0])


def test_statistics_against_numpy(tmp_path):
    record = measured(tmp_path, Settings(()), w=DATA).total
    x = DATA.astype(np.float64)
    assert (record.count, record.zeros, record.nans, record.infinities) == (630, 5, 0, 0)
    assert record.rms == pytest.approx(np.sqrt(np.mean(x**2)), rel=1e-5)
    assert record.mean_magnitude == pytest.approx(np.mean(np.abs(x)), rel=1e-12)
    assert record.largest == np.abs(x).max()
    log2 = np.floor(np.log2(np.abs(x[x != 0])))
    index = 4 * log2 + np.floor(4 * (np.abs(x[x != 0]) / 2**log2 - 1))
    assert record.first_bin == index.min()
    assert list(record.bins) == np.bincount((index - index.min()).astype(int)).tolist()
    assert record.fit.shape == pytest.approx(1.0, abs=5 * record.fit.shape_error)
    assert record.fit.bits["ggd"] <= record.fit.bits["laplace"] < record.fit.bits["gaussian"]


def test_stored_types(tmp_path):
    small = (DATA * 8).astype(ml_dtypes.bfloat16)
    wide = measured(tmp_path, Settings(), w=small.astype(np.float32)).tensors[0]
    header = {"w": {"dtype": "BF16", "shape": [30, 21], "data_offsets": [0, small.nbytes]}}
    write(tmp_path / "b.safetensors", header, small.tobytes())
    stored = run([tmp_path / "b.safetensors"]).tensors[0]
    assert stored.dtype == "bfloat16"
    assert_same(to_builtins(stored.schemes), to_builtins(wide.schemes))
    eight = DATA.astype(ml_dtypes.float8_e4m3fn)
    header = {"w": {"dtype": "F8_E4M3", "shape": [30, 21], "data_offsets": [0, eight.nbytes]}}
    write(tmp_path / "f.safetensors", header, eight.tobytes())
    exact = run([tmp_path / "f.safetensors"], Settings(("e4m3fn/none",))).tensors[0]
    assert exact.schemes[0].sqnr_db == math.inf


def write(path, header, body):
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


ODD = {
    "zeros": np.zeros((3, 4), np.float32),
    "one": np.array([0.3], np.float32),
    "scalar": np.array(-2.0, np.float32),
    "none": np.zeros((0, 3), np.float32),
    "constant": np.full(50, 0.1, np.float16),
    "subnormal": np.array([[1e-45, -3e-42, 0.0]], np.float32),
    "huge": np.array([3e38, -1e38, 1.0], np.float32),
    "wide": np.array([1e-300, 1e300, -1.0, 5e-324]),
    "nan": np.array([[np.nan, 1.0], [np.inf, -np.inf]], np.float32),
    "lost": np.array([np.nan, np.inf], np.float32),
}


@pytest.mark.usefixtures("without_choices")
@pytest.mark.parametrize("block", ["tensor", "channel", "1x32", "none", "named"])
@pytest.mark.parametrize("rule", ["max", "mse", "ggd"])
def test_odd_tensors(tmp_path, block, rule):
    names = tuple(rf8sim.format_names()) if rule == "max" else USUAL
    settings = Settings(SCHEMES) if block == "named" else stored_as(names, block, rule)
    experiment = measured(tmp_path, settings, **ODD)
    assert [tensor.name for tensor in experiment.skipped] == ["none"]
    assert experiment.skipped[0].reason == "it has no elements"
    by_name = {tensor.name: tensor for tensor in experiment.tensors}
    assert (by_name["nan"].nans, by_name["nan"].infinities) == (1, 2)
    for tensor in experiment.tensors:
        for record in tensor.schemes:
            assert record.error.count == tensor.count - tensor.nans - tensor.infinities
            assert sum(record.error.code_counts) == record.error.count
    assert by_name["zeros"].schemes[0].sqnr_db is None
    assert by_name["lost"].schemes[0].entropy_bits is None
    assert by_name["zeros"].fit is None
    assert "zero" in by_name["zeros"].fit_doubt
    json.dumps(experiment.to_json(), allow_nan=False)


def test_numbers_beyond_float32(tmp_path):
    experiment = measured(tmp_path, stored_as(USUAL, "none"), w=np.array([1e300, -1e200, 1.0]))
    record = experiment.total.schemes[0]
    assert record.sqnr_db is None
    assert record.error.overflow == 2
    assert "beyond the range of float32" in experiment.total.fit_doubt or experiment.total.fit is None
    data = json.loads(json.dumps(experiment.to_json(), allow_nan=False))
    assert Experiment.from_json(data).to_json() == experiment.to_json()


@pytest.mark.parametrize("block", ["tensor", "channel", "1x7"])
def test_not_finite_numbers_are_left_out(tmp_path, block):
    spoiled = np.concatenate([DATA, np.full((30, 3), np.nan, np.float32)], axis=1)
    spoiled[:, -1] = np.inf
    settings = stored_as(("rf8", "int8"), block, "max")
    clean, odd = measured(tmp_path, settings, w=DATA), measured(tmp_path, settings, w=spoiled)
    assert (odd.total.nans, odd.total.infinities) == (60, 30)
    assert "NaN" in odd.total.fit_doubt
    for record, expected in zip(odd.total.schemes, clean.total.schemes, strict=True):
        if block == "1x7":  # they keep their place in the row: a fourth block of each has no other element
            assert (record.scales, expected.scales, record.smallest_scale) == (120, 90, expected.smallest_scale)
            bits = expected.scale_bits * 4 // 3
            expected = replace(expected, scales=120, scale_bits=bits, largest_scale=record.largest_scale)
        assert_same(to_builtins(record), to_builtins(expected))


@pytest.mark.parametrize(
    "scheme", ["q4_1", "uint8/channel,max,zero=uint8", "nvfp4", "int4/channel,signed", "int8/1x*x*"]
)
def test_not_finite_numbers_choose_no_scale(tmp_path, scheme):
    """The others are stored as if they were alone, above zero or not."""
    x = np.random.default_rng(0).uniform(3, 4, size=(2, 6, 64)).astype(np.float32)
    spoiled = x.copy()
    spoiled[0, 1, 3], spoiled[1, 2, 4], spoiled[1, 3, 3] = np.nan, np.inf, -np.inf
    good = np.isfinite(spoiled)
    chosen = choose_scales(spoiled, scheme)
    y = rf8sim.quantize(np.where(good, spoiled, 0), scheme, scale=chosen).dequantize(np.float64)
    error = measured(tmp_path, Settings((scheme,)), 200, w=spoiled).total.schemes[0].error
    assert error.count == good.sum()
    assert error.sum_squared_error == pytest.approx(np.sum((spoiled[good] - y[good]) ** 2), rel=1e-12)


# --- JSON, settings, names ----------------------------------------------------------------------------------


def test_json_round_trip(tmp_path):
    experiment = measured(tmp_path, Settings(include=("*",), exclude=("x",)), w=DATA, **ODD)
    data = json.loads(json.dumps(experiment.to_json(), allow_nan=False))
    again = Experiment.from_json(data)
    assert again.to_json() == experiment.to_json()
    assert again.settings == experiment.settings
    assert data["total"]["schemes"][0]["sqnr_db"] == experiment.total.schemes[0].sqnr_db


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ({"schema": 1}, "not a report of this version: expected schema 2, got 1"),
        ({}, "not a report of this version: expected schema 2, got None"),
        ({"schema": 2}, "field 'settings' is missing"),
        ({"schema": 2, "settings": {"schemes": ["rf9"]}}, r"field 'settings.schemes\[0\]': .* did you mean 'rf8'"),
        ({"schema": 2, "settings": {}, "versions": {}, "checkpoints": 3}, "field 'checkpoints': expected array"),
    ],
)
def test_json_of_something_else(spoil, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        Experiment.from_json(spoil)


def test_records_of_two_schemes_do_not_merge(tmp_path):
    a, b = measured(tmp_path, Settings(("rf8", "int8/channel")), w=DATA).total.schemes
    with pytest.raises(ValueError, match="records of rf8 and of int8/channel do not merge"):
        a | b
    assert isinstance(a | a, SchemeRecord)


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        ("rf9", "unknown format or scheme 'rf9': did you mean 'rf8'"),
        ("mxfp5", "did you mean 'mxfp4'"),
        ("rf8/row", "unknown block 'row'"),
        ("rf8/tensor,best", "unknown scale rule 'best'"),
        ("rf8@nearest", "unknown rounding"),
        ("e4m3fn@residual", "for the RF family only"),
        ("int8/1x0", "a block has at least 1 element"),
    ],
)
def test_wrong_schemes(scheme, message):
    with pytest.raises(ValueError, match=message):
        Settings((scheme,))


def test_a_scheme_is_measured_once():
    schemes = Settings(("rf8", "mxfp4", "e2m1fn/1x32:e8m0fnu,floor", "rf8/tensor")).schemes
    assert list(map(str, schemes)) == ["rf8", "mxfp4"]


def test_patterns(tmp_path):
    tensors = {"a.weight": DATA, "a.bias": DATA[0], "b.weight": DATA, "ids": np.arange(4)}
    path = saved(tmp_path, **tensors)

    def names(**patterns):
        experiment = run([path], Settings((), **patterns))
        return {tensor.name for tensor in (*experiment.tensors, *experiment.skipped)}

    assert names() == set(tensors)
    assert names(include=("*.weight",)) == {"a.weight", "b.weight"}
    assert names(include=("a.*", "ids"), exclude=("*.bias",)) == {"a.weight", "ids"}
    with pytest.raises(CheckpointError, match="no tensor is left by the patterns"):
        names(include=("c*",))
    with pytest.raises(CheckpointError, match="no tensor can be measured; 'ids': I64 is not"):
        names(include=("ids",))


def test_names_of_checkpoints(tmp_path):
    (tmp_path / "x").mkdir()
    one, two = saved(tmp_path, w=DATA), saved(tmp_path / "x", w=DATA)
    other = saved(tmp_path, "n", w=DATA)
    settings = Settings(())
    assert run([one, other], settings).checkpoints == ("m.safetensors", "n.safetensors")
    assert run([one, two], settings).checkpoints == (str(one), str(two))
    assert run([tmp_path / "x"], settings).checkpoints == ("x",)
    with pytest.raises(CheckpointError, match="given twice"):
        run([one, one], settings)
    with pytest.raises(CheckpointError, match="no checkpoint was given"):
        run([], settings)


def test_progress(tmp_path):
    steps = []
    path = saved(tmp_path, a=DATA, b=DATA)
    run([path], Settings(("rf8",)), chunk_elements=210, threads=1, progress=lambda *step: steps.append(step))
    assert [step for step in steps if step[0] == "a"] == [("a", done, 1260) for done in (0, 0, 210, 420, 630)]
    assert [step for step in steps if step[0] == "b"] == [("b", done, 1260) for done in (630, 630, 840, 1050, 1260)]

"""Rounding for rate and distortion: against plain rounding, brute force, and the definition of the error."""

import itertools

import numpy as np
import pytest
from loops import looped

import rf8sim
from rf8sim.compression.inputs import InputFactor
from rf8sim.compression.methods import METHODS, round_by
from rf8sim.compression.rounding import round_weights
from rf8sim.compression.steps import column_steps, row_steps, step_at, tensor_step

SCHEMES = (
    "rf8/none", "rf8/channel", "rf8", "e4m3fn/channel", "e5m2", "int8/channel", "int4/channel", "mxfp4", "mxint8",
    "nvfp4", "nf4_g64", "int4_g128", "q4_0", "q4_1", "posit8/none", "uint4/1x32:float16,max,nearest-even,zero=uint4",
    "bfloat16/none", "int8/*x1:float16", "rf8@nearest-away", "hif8/none",
)  # fmt: skip


def weights(rows=70, columns=96, seed=0):
    x = np.random.default_rng(seed).standard_t(4, size=(rows, columns))
    x[3, 5], x[4, 6], x[5] = 40.0, -0.0, 0.0
    return x.astype(np.float32)


def moments_of(columns, seed=1, samples=400):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, columns)) @ (np.eye(columns) + 0.3 * rng.normal(size=(columns, columns)))
    return x.T @ x / samples


def error_of(rounded, weight, moments):
    """The error of the outputs by its definition."""
    off = rounded.tensor.dequantize(np.float64) - weight.astype(np.float64)
    return float(np.einsum("ri,ij,rj->", off, moments, off))


@looped("form", ["none", "identity", "squares", "factor"])
@looped("scheme", SCHEMES)
def test_without_moments_and_price_it_is_plain_rounding(form, scheme):
    weight = weights()
    columns = weight.shape[1]
    inputs = {"none": None, "identity": np.eye(columns), "squares": np.ones(columns)}
    inputs["factor"] = InputFactor.equal(columns)
    plain, chosen = rf8sim.quantize(weight, scheme), round_weights(weight, scheme, inputs[form])
    np.testing.assert_array_equal(chosen.tensor.dequantize(np.float64), plain.dequantize(np.float64))
    for mine, theirs in zip(chosen.tensor.scales, plain.scales, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_ties_and_ends_go_where_the_codec_sends_them():
    for name in ("rf8", "e4m3fn", "e2m1fn", "int8", "posit8", "e3m4", "nf4", "uint4"):
        fmt = rf8sim.get_format(name)
        values = np.unique(fmt.values[np.isfinite(fmt.values)])
        middles = (values[1:] + values[:-1]) / 2
        points = np.concatenate([values, middles, np.nextafter(middles, -9e9), np.nextafter(middles, 9e9), [0.0, -0.0]])
        points = np.append(points, [2.0 * fmt.max, -2.0 * fmt.max])[None]
        plain = rf8sim.quantize(points, f"{name}/none").dequantize(np.float64)
        chosen = round_weights(points, f"{name}/none").tensor.dequantize(np.float64)
        np.testing.assert_array_equal(chosen, plain, err_msg=name)


def test_a_negative_zero_is_stored_as_zero():
    chosen = round_weights(np.array([[-1e-9, 1e-9, 1.0]]), "e2m1fn/none")
    assert chosen.tensor.codes.tolist() == [[0, 0, 2]]


def test_the_factor_is_of_the_damped_moments():
    moments = moments_of(40)
    factor = InputFactor.from_moments(moments, damping=0.02)
    unit = factor.feedback + np.eye(40)
    assert np.array_equal(np.tril(factor.feedback), np.zeros((40, 40)))
    expected = (moments + 0.02 * np.diagonal(moments).mean() * np.eye(40))[np.ix_(factor.order, factor.order)]
    np.testing.assert_allclose(unit * factor.weights @ unit.T, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(factor.by_column()[factor.order], factor.weights)


def test_the_error_reported_is_that_of_the_outputs():
    weight, moments = weights(), moments_of(96)
    importance = np.random.default_rng(3).uniform(0.5, 2, 70)
    for scheme, price in itertools.product(("int4/channel", "mxfp4", "e4m3fn"), (0.0, 0.5)):
        factor = InputFactor.from_moments(moments, damping=0)
        chosen = round_weights(weight, scheme, factor, price=price, importance=importance)
        off = chosen.tensor.dequantize(np.float64) - weight.astype(np.float64)
        expected = float(np.einsum("r,ri,ij,rj->", importance, off, moments, off))
        assert chosen.error == pytest.approx(expected, rel=1e-9)


def gptq(weight, scale, moments, order):
    """Error feedback by the inverse of the moments, as Frantar et al. write it, for multiples of a step."""
    w, h = weight.astype(np.float64)[:, order], moments[np.ix_(order, order)]
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    q = np.zeros_like(w)
    for j in range(w.shape[1]):
        q[:, j] = np.clip(np.rint(w[:, j] / scale), -8, 7) * scale
        error = (w[:, j] - q[:, j]) / upper[j, j]
        w[:, j + 1 :] -= np.outer(error, upper[j, j + 1 :])
    result = np.empty_like(q)
    result[:, order] = q
    return result


@pytest.mark.parametrize("columns", [7, 64, 65, 200])
def test_feedback_is_that_of_gptq(columns):
    weight, moments = weights(columns=columns), moments_of(columns)
    factor = InputFactor.from_moments(moments, damping=0)
    chosen = round_weights(weight, "int4/tensor:float32,max", factor, scale=np.float32(0.5))
    expected = gptq(weight, 0.5, moments, factor.order)
    assert np.mean(chosen.tensor.dequantize(np.float64) == expected) > 0.999  # quotients next to a tie differ


@looped("scheme", [scheme for scheme in SCHEMES if "none" not in scheme])
def test_feedback_beats_plain_rounding_in_every_scheme(scheme):
    weight, moments = weights()[6:], moments_of(96)
    plain, chosen = round_weights(weight, scheme), round_weights(weight, scheme, moments)
    assert error_of(chosen, weight, moments) < 0.95 * error_of(plain, weight, moments)


def test_without_feedback_each_code_is_the_best_one():
    """Every code against all others, at the lengths that the choice was made with: no other costs less."""
    weight = weights(20, 30)
    for scheme, price in itertools.product(("int4/channel", "e2m1fn/1x16", "q4_1", "nf4"), (0.01, 0.1, 1.0)):
        chosen = round_weights(weight, scheme, price=price)
        plain = round_weights(weight, scheme)
        values = rf8sim.get_format(chosen.tensor.format).values
        counts = np.array([np.count_nonzero(chosen.tensor.codes == code) for code in range(values.size)])
        step = np.abs(chosen.tensor.dequantize(np.float64) - weight)
        kept = plain.tensor.dequantize(np.float64) - weight
        assert (step >= np.abs(kept) - 1e-12).all()
        # A rarer code is never chosen where a more frequent one is nearer.
        bits = -np.log2(np.maximum(counts, 0.5) / counts.sum())
        worth = np.square(step) - np.square(kept)
        gained = bits[plain.tensor.codes] - bits[chosen.tensor.codes]
        moved = worth > 1e-12
        assert (gained[moved] > -0.3).all()
        assert moved.any() or price < 0.1
        assert chosen.error + price * chosen.bits <= plain.error + price * plain.bits


def test_the_kernel_finds_the_optimum_of_all_choices():
    """Without feedback columns do not depend on each other, so the best of each is the best of all."""
    from rf8sim._kernels.feedback import choose_values

    rng = np.random.default_rng(5)
    values = np.array([-3.0, -1.0, -0.5, 0.0, 0.25, 2.0])
    edges, bits = (values[1:] + values[:-1]) / 2, np.array([6.0, 1.0, 4.0, 3.0, 0.5, 2.0])
    x, scale, offset = rng.normal(size=(40, 9)), rng.uniform(0.5, 2, (40, 9)), rng.normal(size=(40, 9)) / 4
    price, factors = rng.uniform(0, 0.6, 40), rng.uniform(0.2, 3, 9)
    ranks, errors = np.empty(x.shape, np.uint16), np.empty(40)
    choose_values(x, (scale, offset), (values, edges), bits, price, factors, np.zeros((0, 0)), ranks, errors)
    squares = factors[:, None] * np.square(x[..., None] - (values * scale[..., None] + offset[..., None]))
    cost = squares + price[:, None, None] * bits
    np.testing.assert_array_equal(ranks, cost.argmin(axis=2))
    np.testing.assert_allclose(errors, np.take_along_axis(squares, ranks[..., None].astype(int), 2).sum(axis=(1, 2)))


def test_with_feedback_each_column_is_the_best_given_those_before():
    """Column by column by hand: the running target, then the cheapest of all values."""
    from rf8sim._kernels.feedback import choose_values

    rng = np.random.default_rng(6)
    values = np.arange(-4.0, 5.0)
    bits = np.abs(values) + 1
    factor = InputFactor.from_moments(moments_of(150), damping=0)
    x = rng.normal(size=(5, 150)) * 2
    ones, ranks, errors = np.ones_like(x), np.empty(x.shape, np.uint16), np.empty(5)
    table = (values, values[1:] - 0.5)
    choose_values(x, (ones, 0 * ones), table, bits, np.full(5, 0.1), factor.weights, factor.feedback, ranks, errors)
    off, expected, total = np.zeros_like(x), np.zeros(x.shape, int), np.zeros(5)
    for j in range(150):
        target = x[:, j] + off[:, :j] @ factor.feedback[:j, j]
        squares = factor.weights[j] * np.square(target[:, None] - values)
        expected[:, j] = (squares + 0.1 * bits).argmin(axis=1)
        off[:, j] = x[:, j] - values[expected[:, j]]
        total += squares[np.arange(5), expected[:, j]]
    assert np.mean(ranks == expected) > 0.995
    np.testing.assert_allclose(errors, total, rtol=0.02)


def test_fewer_bits_as_a_bit_is_worth_more():
    weight, moments = weights(seed=7), moments_of(96)
    for inputs in (None, moments):
        chosen = [round_weights(weight, "int8/tensor:float32,max", inputs, price=price, scale=np.float32(0.3))
                  for price in (0.0, 0.002, 0.01, 0.05, 0.2, 1.0)]  # fmt: skip
        bits, errors = [one.bits for one in chosen], [one.error for one in chosen]
        assert all(b < 1.001 * a for a, b in itertools.pairwise(bits))
        assert all(b > 0.98 * a for a, b in itertools.pairwise(errors))  # feedback is greedy
        assert bits[-1] < 0.7 * bits[0]
        assert errors[-1] > 10 * errors[0]


def test_the_same_for_every_number_of_threads():
    weight, moments = weights(700, 1000), moments_of(1000, samples=1200)
    one, two = (round_weights(weight, "int4/channel", moments, price=0.5, threads=count) for count in (1, 3))
    np.testing.assert_array_equal(one.tensor.codes, two.tensor.codes)
    assert (one.error, one.bits) == (two.error, two.bits)


def test_bits_are_those_of_the_stored_codes():
    from rf8sim.entropy.coding import compress

    weight = weights(200, 300)
    chosen = round_weights(weight, "int4/channel", moments_of(300), price=0.1)
    stored = 8 * len(compress(chosen.tensor.codes)) + 32 * 200
    assert chosen.bits == pytest.approx(stored, rel=2e-3)


def test_steps():
    weight, factor = weights(), InputFactor.from_moments(moments_of(96))
    step = step_at(1e-3, factor)
    scheme, chosen = tensor_step(weight, step)
    rounded = round_weights(weight, scheme, scale=chosen)
    assert rounded.tensor.scheme.format.name == ("int8" if 40 / step < 127.5 else "e3m4")
    off = rounded.tensor.dequantize(np.float64) - weight
    assert np.abs(off[np.abs(weight) < 16 * step]).max() <= step * (0.5 + 1e-6)
    scheme, chosen = column_steps(weight, step * np.sqrt(factor.level / factor.by_column()))
    assert chosen.scales[0].shape == (1, 96)
    assert round_weights(weight, scheme, factor, price=1e-3, scale=chosen).error < rounded.error * 10


def test_a_step_for_each_output_is_worth_what_its_errors_cost():
    """It saves half the logarithm of the arithmetic over the geometric mean of costs, less what one table loses."""
    weight, factor = np.random.default_rng(0).normal(size=(256, 512)), InputFactor.equal(512)
    costs, price = np.geomspace(0.1, 10.0, 256), 0.02
    costs = np.maximum(costs, 0.1 * costs.mean())  # as those that are less are taken
    totals, mean = {}, np.exp(np.log(costs).mean())
    for way in ("feedback, lengths", "feedback, lengths, row steps"):
        rounded = round_by(METHODS[way], weight, factor, costs, price)
        totals[way] = rounded.error + price * rounded.bits
    assert rounded.tensor.scheme.scales.block == (1, -1)
    steps = rounded.tensor.scale.ravel() * rounded.tensor.format.smallest
    np.testing.assert_allclose(steps, step_at(price, factor, costs) * np.sqrt(mean / costs), rtol=1 / 16)
    gain = 0.5 * np.log2(costs.mean() / mean)
    saved = (totals["feedback, lengths"] - totals["feedback, lengths, row steps"]) / price / weight.size
    assert 0.5 * gain < saved < gain


def test_a_row_of_outliers_takes_a_larger_step():
    weight = np.random.default_rng(1).normal(size=(40, 64))
    weight[3, 5] = 1e4
    scheme, scale = row_steps(weight, np.full(40, 0.1))
    rounded = round_weights(weight, scheme, scale=scale)
    steps = rounded.tensor.scale.ravel()
    assert scheme.format.name == "int8"
    assert 1e4 / 127 <= steps[3] < 1.2e4 / 127
    assert (np.abs(np.delete(steps, 3) - 0.1) < 0.1 / 16).all()
    off = np.abs(rounded.tensor.dequantize(np.float64) - weight)
    assert (off <= steps[:, None] * (0.5 + 1e-6)).all()


def test_a_weight_of_more_axes_is_the_matrix_of_its_channels():
    weight, moments = weights(12, 18), moments_of(18)
    flat = round_weights(weight, "int4/channel", moments, price=0.05)
    wide = round_weights(weight.reshape(12, 2, 3, 3), "int4/channel", moments, price=0.05)
    np.testing.assert_array_equal(wide.tensor.codes.reshape(12, 18), flat.tensor.codes)
    assert wide.tensor.shape == (12, 2, 3, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": np.full((2, 3), np.nan)}, "holds NaN or infinity"),
        ({"scheme": "rf8@up"}, "leave out rounding and overflow"),
        ({"inputs": np.eye(4)}, "has 3 inputs, and the second moments are of 4"),
        ({"inputs": np.zeros((3, 4))}, "have the shape"),
        ({"inputs": -np.eye(3)}, "negative on the diagonal"),
        ({"inputs": np.array([[1.0, 9, 0], [9, 1, 0], [0, 0, 1]])}, "damping is too small"),
        ({"inputs": np.full((3, 3), np.inf)}, "not finite"),
        ({"price": -1.0}, "price"),
        ({"price": np.inf}, "price"),
        ({"importance": [1.0, 0.0]}, "importance is a positive number for each of 2 outputs"),
        ({"importance": [1.0]}, "importance is a positive number for each of 2 outputs"),
    ],
)
def test_refusals(change, message):
    arguments = {"weight": np.ones((2, 3)), "scheme": "int4", "inputs": None, "price": 0.0, "importance": None} | change
    with pytest.raises(ValueError, match=message):
        round_weights(
            arguments["weight"], arguments["scheme"], arguments["inputs"], price=arguments["price"],
            importance=arguments["importance"],
        )  # fmt: skip


def test_no_inputs_at_all_cost_alike():
    weight = weights(10, 8)
    plain, chosen = round_weights(weight, "int4"), round_weights(weight, "int4", np.zeros((8, 8)))
    np.testing.assert_array_equal(plain.tensor.codes, chosen.tensor.codes)

"""Plans: the choice against brute force, the costs against the thing itself, and the whole way to a quantized file."""

import itertools
import math
import re
import tomllib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

import ggd
import rf8sim
from rf8sim import cli, get_format
from rf8sim.checkpoints.plan import read_plan
from rf8sim.checkpoints.quantized import open_quantized
from rf8sim.checkpoints.requirements import parse_requirement
from rf8sim.studies.allocation import hull_path, least
from rf8sim.studies.planning import measure_menu, plan_checkpoint, rf_family
from rf8sim.studies.rate_distortion import cost_of
from rf8sim.studies.rf_family import theory

# --- the allocation ---------------------------------------------------------------------------------------------------

COSTS = st.integers(1, 4).flatmap(
    lambda tensors: st.integers(1, 5).flatmap(
        lambda candidates: st.tuples(
            *[
                st.lists(
                    st.lists(st.integers(0, 12), min_size=candidates, max_size=candidates),
                    min_size=tensors,
                    max_size=tensors,
                )
            ]
            * 2
        )
    )
)


def brute_force(goal: np.ndarray, bound: np.ndarray, limit: float) -> float:
    rows = np.arange(len(goal))
    picks = itertools.product(*[range(goal.shape[1])] * len(goal))
    sums = ((goal[rows, list(pick)].sum(), bound[rows, list(pick)].sum()) for pick in picks)
    return min((own for own, total in sums if total <= limit), default=math.inf)


@given(costs=COSTS, limit=st.integers(0, 40))
def test_least_is_the_best_of_all_choices(costs, limit):
    goal, bound = (np.array(part, dtype=np.float64) for part in costs)
    best = brute_force(goal, bound, limit)
    if math.isinf(best):
        with pytest.raises(ValueError, match="no choice keeps the limit"):
            least(goal, bound, limit)
        return
    pick, below = least(goal, bound, limit)
    rows = np.arange(len(goal))
    assert bound[rows, pick].sum() <= limit
    assert goal[rows, pick].sum() == best
    assert best * (1 - 1e-6) - 1e-9 <= below <= best + 1e-9


@given(costs=COSTS, multiplier=st.floats(0, 20))
def test_the_path_has_the_best_choice_for_every_multiplier(costs, multiplier):
    goal, bound = (np.array(part, dtype=np.float64) for part in costs)
    rows = np.arange(len(goal))
    path = hull_path(goal, bound)
    found = min(goal[rows, pick].sum() + multiplier * bound[rows, pick].sum() for pick in path)
    best = (goal + multiplier * bound).min(axis=1).sum()
    assert found == pytest.approx(best)
    goals, bounds = ([part[rows, pick].sum() for pick in path] for part in (goal, bound))
    assert goals == sorted(goals)
    assert bounds == sorted(bounds, reverse=True)
    assert goals[0] == goal.min(axis=1).sum()
    assert bounds[-1] == bound.min(axis=1).sum()


def test_what_is_infinite_is_not_taken():
    goal = np.array([[1.0, 5.0, math.inf]])
    assert [pick.tolist() for pick in hull_path(goal, np.array([[9.0, 4.0, 0.0]]))] == [[0], [1]]


def test_many_tensors_are_solved_exactly_enough():
    """Ten thousand choices: the gap to the bound is what the solver left, next to nothing."""
    generator = np.random.default_rng(0)
    bits = np.sort(generator.uniform(3, 8, (400, 25)), axis=1)
    errors = 4.0**-bits * generator.uniform(0.5, 2, bits.shape) * generator.uniform(0.1, 10, (400, 1))
    pick, below = least(bits, errors, 0.5)
    rows = np.arange(400)
    assert errors[rows, pick].sum() <= 0.5
    assert bits[rows, pick].sum() - below < 1e-4 * below


# --- plans ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("planning") / "m.safetensors"
    generator = np.random.default_rng(0)
    spread = np.exp(generator.normal(size=(60, 1)))
    tensors = {
        "a.weight": ggd.GGD.from_std(1.0, 0.05).sample(12_000, seed=1).reshape(60, 200) * spread,
        "b.weight": ggd.GGD.from_std(2.0, 0.02).sample(12_000, seed=2).reshape(60, 200),
        "c.weight": ggd.GGD.from_std(0.6, 0.1).sample(12_000, seed=3).reshape(60, 200),
        "embed.weight": generator.normal(size=(20, 10)),
        "norm.weight": np.ones(10),
    }
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, path)
    return path


FEW = ("rf8", "int8", "nf4", "e2m3fn")
SCHEMES = tuple(f"{name}/{block}" for name in FEW for block in ("tensor", "channel"))


@pytest.fixture(scope="module")
def menu(checkpoint):
    return measure_menu(checkpoint, SCHEMES)


@pytest.mark.parametrize(
    "budget", ["sqnr>=20dB", "sqnr>=30", "sqnr>=36dB", "worst-sqnr>=25dB", "bits<=6.5", "bits<=8.5"]
)
def test_a_plan_is_the_best_of_all_plans(checkpoint, menu, budget):
    """Of all that have a header of its size; where the budget is of bits, of all that have no other formats."""
    requirement = parse_requirement(budget)
    of_bits = requirement.quantity == "bits"
    found = plan_checkpoint(checkpoint, requirement, menu)
    used = {choice.recipe.scheme.format for choice in found.choices}
    signal, best, ideal, own = menu.signals().sum(), math.inf, math.inf, math.nan
    coded = found.bits["codes"] + found.bits["scales"]
    for pick in itertools.product(range(8), repeat=3):
        bits = sum(menu.bits()[t, c] for t, c in enumerate(pick)) / menu.weights
        error = sum(menu.errors()[t, c] for t, c in enumerate(pick))
        worst = min(10 * math.log10(menu.signals()[t] / menu.errors()[t, c]) for t, c in enumerate(pick))
        room = 0.02  # for what the last words of blobs and scales' names take
        whole = bits + found.bits["kept tensors"] + found.bits["headers"] + room
        figures = {"sqnr": 10 * math.log10(signal / error), "worst-sqnr": worst, "bits": whole}
        if requirement.met(figures[requirement.quantity]):
            ideal = min(ideal, error if of_bits else bits)
            if not of_bits or {menu.recipes[c].scheme.format for c in pick} <= used:
                best = min(best, error if of_bits else bits)
        if [menu.recipes[c] for c in pick] == [choice.recipe for choice in found.choices]:
            assert coded == pytest.approx(bits, abs=room)
            own = error if of_bits else bits
    assert own <= best * (1 + 1e-9)
    if of_bits:
        assert found.bits_per_weight <= requirement.value
        assert found.sqnr_db == pytest.approx(10 * math.log10(signal / own))
        assert found.below >= 10 * math.log10(signal / ideal) - 1e-9
    else:
        assert 0 <= found.bits_per_weight - found.below < 1e-3


def test_the_menu_is_the_thing_itself(checkpoint, menu):
    assert [matrix.name for matrix in menu.matrices] == ["a.weight", "b.weight", "c.weight"]
    assert (menu.other_weights, menu.other_bits) == (210, 32 * 210)
    assert menu.weights == 36_210
    for matrix, own in zip(menu.matrices, menu.costs, strict=True):
        assert [cost_of(matrix.read(), recipe)[0] for recipe in menu.recipes] == list(own)


def test_a_plan_of_everything_keeps_the_rest_by_name(checkpoint):
    menu = measure_menu(checkpoint, ("rf8", "int8"), kept=())
    assert menu.other_weights == 10
    assert menu.others == ("norm.weight",)
    plan = plan_checkpoint(checkpoint, parse_requirement("sqnr>=25dB"), menu, kept=()).plan()
    assert plan.choose("norm.weight", (10,)) == "pattern 'norm.weight'"
    assert not isinstance(plan.choose("embed.weight", (20, 10)), str)


def test_names_with_signs_of_patterns_and_tensors_of_zeros(tmp_path):
    generator = np.random.default_rng(0)
    tensors = {
        "a[0]*": generator.normal(size=(50, 100)),
        "a[1]*": generator.laplace(size=(50, 100)) ** 3,
        "zeros": np.zeros((4, 4)),
    }
    save_file({name: value.astype(np.float32) for name, value in tensors.items()}, tmp_path / "m.safetensors")
    menu = measure_menu(tmp_path / "m.safetensors", ("rf8", "int8", "nf4"))
    for budget in ("worst-sqnr>=25dB", "sqnr>=25dB", "bits<=16"):
        found = plan_checkpoint(tmp_path / "m.safetensors", parse_requirement(budget), menu)
        plan = found.plan()
        assert [plan.choose(c.name, c.shape) for c in found.choices] == [c.recipe for c in found.choices]
        assert found.worst_sqnr_db <= found.sqnr_db + 1e-9
    with pytest.raises(ValueError, match="the best that these formats reach is"):
        plan_checkpoint(tmp_path / "m.safetensors", parse_requirement("worst-sqnr>=80dB"), menu)


def test_the_family_and_its_theory():
    assert [rf_family(bits, bits) for bits in (4, 5)] == [["rf(1,2)"], ["rf(1,4)", "rf(2,2)"]]
    assert all(5 <= get_format(name).bits <= 8 for name in rf_family())
    for member in theory([2.0], 6, 6):
        values = ggd.GGD.from_std(2.0, 1.0).sample(200_000, seed=0)
        fmt = get_format(f"rf({member.p},{member.depth})")
        from rf8sim import Scheme, quantize

        sqnr = max(
            10
            * np.log10(
                np.mean(values**2)
                / np.mean((values - quantize(values, Scheme(fmt, "tensor:float32"), scale=s).dequantize()) ** 2)
            )
            for s in np.exp2(np.arange(-16, 33) / 8).astype(np.float32)
        )
        assert member.sqnr_db == pytest.approx(sqnr, abs=0.1)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("sqnr>=60dB", "budget 'sqnr>=60dB': the best that these formats reach is"),
        ("worst-sqnr>=60dB", "the best that these formats reach is"),
        ("bits<=1", "the fewest that these formats reach is"),
        ("loss<=+1%", "budget 'loss<=.1%' needs the model: give --model, or bound sqnr or bits"),
        ("metric>=-1%", "cannot be planned for"),
        ("sqnr<=3", "cannot be planned for"),
    ],
)
def test_budgets_that_cannot_be_kept(checkpoint, menu, budget, message):
    with pytest.raises(ValueError, match=message):
        plan_checkpoint(checkpoint, parse_requirement(budget), menu)


def test_a_bound_on_the_loss_is_kept():
    from rf8sim.models.transformer import load_model, read_windows

    path = "examples/lm/model.safetensors"
    model = load_model(path)
    windows = read_windows("examples/lm/validation.bin", model, 128)
    menu = measure_menu(path, ("nf4", "e2m3fn", "int8"))
    tight, loose = (
        plan_checkpoint(path, parse_requirement(budget), menu, model=model, windows=windows)
        for budget in ("loss<=+1%", "loss<=+10%")
    )
    for found, share in ((tight, 1.01), (loose, 1.1)):
        assert found.loss <= share * found.baseline
        assert found.below is None
    assert loose.bits_per_weight < tight.bits_per_weight
    with pytest.raises(ValueError, match="with the most accurate of these formats the loss is"):
        plan_checkpoint(path, parse_requirement("loss<=-5%"), menu, model=model, windows=windows)


# --- the commands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", ["sqnr>=28dB", "worst-sqnr>=22dB", "bits<=7.5"])
def test_quantize_carries_the_plan_out(capsys, checkpoint, tmp_path, budget):
    """The budget holds for the file that comes of it, as `quantize --require` measures it."""
    plan, out = tmp_path / "plan.toml", tmp_path / "q.safetensors"
    arguments = ["plan", str(checkpoint), "--budget", budget, "-o", str(plan)]
    assert cli.main([*arguments, *(word for name in SCHEMES for word in ("-f", name))]) == 0
    printed, err = capsys.readouterr()
    assert err == ""
    assert "the 8 candidate schemes per tensor" in printed
    assert plan.read_text().startswith("# Made by rf8sim plan m.safetensors --budget")
    read = read_plan(plan)
    assert read.defaults.entropy == "rans"
    assert tomllib.loads(plan.read_text())["defaults"]["scheme"] in SCHEMES
    arguments = ["quantize", str(checkpoint), "--plan", str(plan), "-o", str(out), "--require", budget]
    assert cli.main(arguments) == 0
    told = capsys.readouterr().out
    # All that the plan said is what the file has, header and all.
    assert re.search(r"[\d.]+ bits per weight, everything counted: .*?headers [\d.]+", printed)[0] in told
    weights = sum(tensor.size for tensor in open_quantized(out))
    assert float(printed.split(" bits per weight")[0].split()[-1]) == round(8 * out.stat().st_size / weights, 3)


def test_bits_are_those_of_the_file_whatever_the_coder(checkpoint, tmp_path):
    for coder, budget in (("none", 12.0), ("huffman", 8.0), ("eg", 8.5)):
        menu = measure_menu(checkpoint, SCHEMES, coder)
        found = plan_checkpoint(checkpoint, parse_requirement(f"bits<={budget}"), menu)
        rf8sim.quantize_checkpoint(checkpoint, tmp_path / "q.safetensors", found.plan())
        stored = open_quantized(tmp_path / "q.safetensors").bits
        assert stored.pop("exact values") == 0
        assert stored == found.bits
        assert sum(stored.values()) <= budget
    with pytest.raises(
        ValueError, match=r"the fewest .* is 5\.\d+ bits per weight, everything counted: codes .*header"
    ):
        plan_checkpoint(checkpoint, parse_requirement("bits<=5"), measure_menu(checkpoint, SCHEMES, "none"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", "sqnr=25"], "a requirement is QUANTITY>=BOUND or QUANTITY<=BOUND, such as 'sqnr>=25dB'"),
        (["--budget", "sqnr>=25", "-f", "rf9"], "unknown format or scheme 'rf9'"),
        (["--budget", "sqnr>=25", "-f", "rf8/row"], "unknown block 'row'"),
        (["--budget", "sqnr>=25", "-o", "plan.json"], "plan.json: a plan is a TOML file"),
        (["--budget", "loss<=+1%"], "the sizes of the model are read from this file"),
        (["--budget", "sqnr>=70", "-f", "rf8"], "the best that these formats reach is"),
    ],
)
def test_plan_refuses(capsys, checkpoint, options, message):
    assert cli.main(["plan", str(checkpoint), *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_rf_family_command(capsys, tmp_path):
    assert cli.main(["rf-family", "-o", str(tmp_path), "--shape", "1"]) == 0
    assert "Shape 1: 8 bits RF(3, 8) 28.6 dB, 7 bits RF(3, 4) 28.4 dB" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"rf_family.{kind}" for kind in ("html", "json", "md", "svg")
    ]
    assert cli.main(["rf-family", "-o", str(tmp_path), "--shape", "0"]) == 2
    assert "--shape must be from 0.2 to 20, got 0" in capsys.readouterr().err


@pytest.mark.parametrize("scheme", ["int4/channel", "e2m3fn/1x32:e8m0fnu,floor"])
def test_bits_of_packed_rows_and_of_a_convolution_are_those_of_the_file(tmp_path, scheme):
    """Rows that end within a byte; channels of a convolution of one dimension, which are its outputs."""
    rng = np.random.default_rng(0)
    shapes = {"a.weight": (6, 71), "conv1.weight": (8, 5, 3), "experts.weight": (3, 9, 21)}
    save_file({name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}, tmp_path / "m.safetensors")
    menu = measure_menu(tmp_path / "m.safetensors", [scheme], "none")
    planned = plan_checkpoint(tmp_path / "m.safetensors", parse_requirement("bits<=1000"), menu)
    out = tmp_path / "q.safetensors"
    manifest = rf8sim.quantize_checkpoint(tmp_path / "m.safetensors", out, planned.plan())
    opened = open_quantized(out)
    assert planned.bits["codes"] == pytest.approx(opened.bits["codes"])
    assert planned.bits["scales"] == pytest.approx(opened.bits["scales"])
    assert planned.bits_per_weight == pytest.approx(opened.bits_per_weight)
    for choice, tensor in zip(planned.choices, manifest.tensors, strict=True):
        assert (choice.name, choice.cost.sqnr_db) == (tensor.name, pytest.approx(tensor.sqnr_db))

"""Plan files and requirements: what people write is what is meant, and what they mistake is said."""

import pytest

from rf8sim.checkpoints.plan import Plan, Recipe, Rule, read_plan, write_plan
from rf8sim.checkpoints.requirements import QUANTITIES, parse_requirement


def test_the_first_rule_decides_then_what_stays_then_the_defaults():
    plan = Plan(
        Recipe("rf8/1x32", 3),
        (Rule("*.up.*", {"scheme": "int8"}), Rule("*.up.weight", keep=True), Rule("norm.scale", {"scheme": "mxfp4"})),
    )
    assert plan.choose("m.up.weight", (2, 2)) == Recipe("int8/channel", 3)
    assert plan.choose("norm.scale", (4,)) == Recipe("mxfp4", 3)
    for name, shape in [("Norm.weight", (4, 4)), ("x.bias", (4, 1)), ("wte", (4, 4)), ("pos_embed", (1, 4, 4))]:
        assert plan.choose(name, shape) == "norms, embeddings, biases"
    assert plan.choose("gain", (4,)) == "one axis"
    assert plan.choose("lm_head.weight", (4, 4)) == Recipe("rf8/1x32", 3)
    assert Plan(kept=()).choose("embed.bias", (4,)) == Recipe()
    assert Plan(rules=(Rule("a", keep=True),)).choose("a", (4, 4)) == "pattern 'a'"


def test_a_plan_is_read_as_it_was_written(tmp_path):
    odd = 'wei"rd\\[0]\tü\x7f'
    rules = (Rule(odd, {"scheme": "rf(4,4,12)/1x8", "entropy": "eg"}), Rule("b.*", keep=True))
    for kept in (Plan().kept, (), ("x*",)):
        for scheme in (
            "int8/1x16,max@stochastic", "rf8/tensor", "rf8/channel", "nvfp4", "rf8/none", "rf8@up", "rf8/tensor@up",
        ):  # fmt: skip
            plan = Plan(Recipe(scheme, 3, "rans"), rules, kept)
            write_plan(tmp_path / "plan.toml", plan, comment="made by\nsomebody")
            assert read_plan(tmp_path / "plan.toml") == plan
    assert (tmp_path / "plan.toml").read_text(encoding="utf-8").startswith("# made by\n# somebody\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scheme = ", "not a plan"),
        ("[default]\nscheme = 'rf8'", "unknown key of the plan 'default': did you mean 'defaults'?"),
        ("[defaults]\nschema = 'rf8'", r"unknown key of \[defaults\] 'schema': did you mean 'scheme'?"),
        (
            "[[tensor]]\npattern = 'a'\nblock = 32",
            r"unknown key of \[\[tensor\]\] 'block': .*the choices are scheme, seed",
        ),
        ("[defaults]\nscheme = 'rf9'", "field 'defaults': unknown format or scheme 'rf9': did you mean 'rf8'?"),
        ("[defaults]\nscheme = 'mxfp5'", "field 'defaults': unknown format or scheme 'mxfp5': did you mean 'mxfp"),
        ("[defaults]\nscheme = 'rf8/row'", "field 'defaults': .*unknown block 'row'"),
        ("[defaults]\nentropy = 'zip'", "field 'defaults': unknown entropy coder 'zip'"),
        ("[defaults]\nseed = true", "field 'defaults.seed': expected int, got bool"),
        ("[defaults]\nseed = 1.5", "field 'defaults.seed': expected int, got float"),
        ("[defaults]\nseed = -1", "field 'defaults.seed': expected int >= 0"),
        ("[defaults]\nscheme = 8", "field 'defaults.scheme': expected str, got int"),
        ("[[tensor]]\nscheme = 'rf8'", r"field 'tensor\[0\].pattern' is missing"),
        ("[[tensor]]\npattern = 'a'\nkeep = 1", r"field 'tensor\[0\].keep': expected bool, got int"),
        (
            "[[tensor]]\npattern = 'a'\n[[tensor]]\npattern = 'b'\nscheme = 'e5m2@residual'",
            r"field 'tensor\[1\]': .*residual",
        ),
        ("[tensor]\npattern = 'a'", "field 'tensor': expected array, got object"),
        ("tensor = [3]", r"field 'tensor\[0\]': expected object, got int"),
        ("defaults = 3", "field 'defaults': expected object, got int"),
        ("kept = 'norm'", "field 'kept': expected array, got str"),
    ],
)
def test_a_bad_plan_is_one_sentence(tmp_path, text, message):
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_plan(tmp_path / "plan.toml")
    assert str(caught.value).startswith(str(tmp_path / "plan.toml"))
    assert "\n" not in str(caught.value)


def test_a_plan_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"plan\.toml: the plan cannot be read: No such file"):
        read_plan(tmp_path / "plan.toml")


@pytest.mark.parametrize(
    ("text", "figure", "original", "met"),
    [
        ("sqnr>=25dB", 25.0, 0, True), ("sqnr>=25", 24.999, 0, False), ("worst-sqnr >= 20 dB", 20.1, 0, True),
        ("bits<=6", 6.0, 0, True), ("bits<=6bits", 6.01, 0, False), ("bits<=.5", 0.5, 0, True),
        ("loss<=1.5", 1.5, 0, True), ("loss<=+1%", 2.02, 2.0, True), ("loss<=+1%", 2.0201, 2.0, False),
        ("loss<=+0.02", 2.02, 2.0, True), ("loss<=-1e-2", 1.99, 2.0, True), ("loss<=-1e-2", 1.991, 2.0, False),
        ("metric>=-1%", 0.792, 0.8, True), ("metric>=-1%", 0.7919, 0.8, False), ("metric>=-10%", -4.4, -4.0, True),
        ("metric>=-10%", -4.41, -4.0, False), ("metric>=0.9", 0.9, 0, True), ("sqnr>=25dB", float("nan"), 0, False),
        ("loss<=+1%", float("nan"), 2.0, False), ("sqnr>=25dB", float("inf"), 0, True),
    ],
)  # fmt: skip
def test_requirements(text, figure, original, met):
    assert parse_requirement(text).met(figure, original) is met


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sqnr=25", "a requirement is QUANTITY>=BOUND"),
        ("sqnr<25", "a requirement is QUANTITY>=BOUND"),
        (">=25", "a requirement is QUANTITY>=BOUND"),
        ("sqnr>=high", "a requirement is QUANTITY>=BOUND"),
        ("snr>=25", "unknown quantity of a requirement 'snr': did you mean 'sqnr'?"),
        ("sqnr>=25%", "sqnr is given in dB, not in %"),
        ("loss<=1%", r"write loss<=\+1%"),
        ("bits<=6dB", "bits is given in bits, not in dB"),
    ],
)
def test_bad_requirements(text, message):
    with pytest.raises(ValueError, match=message):
        parse_requirement(text)


def test_every_quantity_is_measured():
    from rf8sim.checkpoints.guard import _FIGURES, _Figures

    assert {*_FIGURES, "kl"} == set(QUANTITIES)  # "kl" is a budget of plans, which measure it on the model itself
    assert all(hasattr(_Figures, name) for name in _FIGURES.values())

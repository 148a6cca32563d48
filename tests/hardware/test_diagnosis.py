"""A fault put into a design is seen, explained, and named; a design without one passes."""

import io

import numpy as np
import pytest
from faulty_designs import SEEDED
from rf8_design import FAULTS, multiply

import rf8sim
from rf8sim.hardware.vectors import files as vector_files
from rf8sim.hardware.vectors.vectors import vectors
from rf8sim.hardware.verdict import cases
from rf8sim.hardware.verdict.arrays import verify_arrays
from rf8sim.hardware.verdict.hypotheses import hypotheses
from rf8sim.hardware.verdict.verify import verify


def answers(asked, results):
    """Lines of operands and results."""
    columns = [*zip(asked.model.operands, asked.operands, strict=True), (asked.model.result, results)]
    return io.BytesIO(vector_files.fields(vector_files.FORMS["testfloat"], columns))


def verdict_on(asked, results):
    return verify(asked, answers(asked, results.astype(asked.results.dtype)))


@pytest.fixture(scope="module")
def products():
    return vectors("multiply", "rf8")


def test_the_design_without_a_fault_passes(products):
    verdict = verdict_on(products, multiply(*products.operands))
    assert verdict.passed
    assert verdict.findings == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_multiplier_is_named(products, fault):
    results = multiply(*products.operands, fault)
    wrong = int(np.count_nonzero(results != products.results))
    verdict = verdict_on(products, results)
    assert wrong > 0
    assert not verdict.passed
    assert verdict.wrong_results == wrong
    assert FAULTS[fault] in [finding.name for finding in verdict.findings if finding.proved]
    finding = next(finding for finding in verdict.findings if finding.name == FAULTS[fault])
    assert f"all {wrong:,} wrong results" in finding.statement()
    assert "every one of the 65,536 results" in finding.statement()


def test_two_faults_are_not_proved_to_be_one(products):
    """Half the wrong answers of one fault, the rest of another: each in its place."""
    a, b = products.operands
    results = np.where(a < 0x80, multiply(a, b, "ties away"), multiply(a, b, "overflow is NaN"))
    verdict = verdict_on(products, results)
    assert not any(finding.proved for finding in verdict.findings)
    first, second = verdict.findings
    assert (first.name, second.name) == ("rounds nearest-away", "overflow gives NaN")
    assert first.kind == second.kind == "location"
    assert first.explained + second.explained == first.wrong == verdict.wrong_results
    assert f"{first.explained:,} of the {first.wrong:,} wrong ones, and no right one; there" in first.statement()
    assert "the sign bit of a is 0" in first.where
    assert second.where == "the sign bit of a is 1 and the result overflows"


def test_a_cause_that_predicts_too_much_has_a_condition(products):
    """Ties rounded away for positive results alone: rounding away explains every wrong answer, and more."""
    a, b = products.operands
    results = np.where((a ^ b) < 0x80, multiply(a, b, "ties away"), products.results)
    verdict = verdict_on(products, results)
    finding = next(finding for finding in verdict.findings if finding.name == "rounds nearest-away")
    assert finding.explained == finding.wrong == verdict.wrong_results
    assert finding.false == 0
    assert finding.proved
    assert finding.where == "a and b have the same sign"
    assert finding.statement().startswith("where a and b have the same sign, the design rounds nearest-away")


def test_wrong_exactly_where_a_field_is_7(products):
    a, b = products.operands
    field = a >> 3 & 15
    results = np.where(field == 7, multiply(a, b, "bias one less"), products.results)
    finding = verdict_on(products, results).findings[0]
    assert (finding.name, finding.where) == ("exponent one too large", "the exponent field of a is 7")
    either = (field == 7) | (b >> 3 & 15 == 7)
    finding = verdict_on(products, np.where(either, multiply(a, b, "bias one less"), products.results)).findings[0]
    assert finding.proved
    assert finding.where == "the exponent field of a is 7, or the exponent field of b is 7"
    # No cause known: its place alone, and how the answers differ.
    odd = (products.results >> 3 & 15 == 14) & (products.results & 1 == 1) & (a < 128)
    (finding,) = verdict_on(products, np.where(odd, products.results ^ 2, products.results)).findings
    count = np.count_nonzero(odd)
    assert finding.kind == "location"
    assert finding.statement() == (
        "answers are wrong exactly where the sign bit of a is 0 and the exponent field of the right result is 14 and "
        f"bit 0 of the right result is 1: {count} of {count}, and none elsewhere; there, bit 1 of the result is "
        "inverted"
    )


def test_one_wrong_answer_is_located(products):
    a, b = products.operands
    results = products.results ^ ((a == 0x7B) & (b == 0x6F))
    (finding,) = verdict_on(products, results).findings
    assert finding.statement() == "answers are wrong exactly where a is 7B and b is 6F: 1 of 1, and none elsewhere"


def test_noise_is_not_explained(products):
    results = products.results.copy()
    random = rf8sim.random_words(1, 2000)
    results[random % results.size] ^= (1 << (random >> 29)).astype(np.uint8)
    verdict = verdict_on(products, results)
    assert not verdict.passed
    (finding,) = verdict.findings
    assert finding.kind == "unknown"
    # What is told is true, counted both ways.
    assert "no known fault explains these answers" in finding.statement()
    assert finding.explained < finding.wrong
    assert f"{finding.explained:,} of {finding.wrong:,} wrong answers are where {finding.where}" in finding.statement()


def check_named(asked, results, name):
    verdict = verdict_on(asked, results)
    assert not verdict.passed
    found = [finding.name for finding in verdict.findings if finding.proved]
    assert name in found, found


def test_swapped_operands():
    for operation, function in (("subtract", rf8sim.subtract), ("divide", rf8sim.divide)):
        asked = vectors(operation, "rf8")
        a, b = asked.operands
        check_named(asked, function(b, a, "rf8"), "operands swapped")


def test_saturation_against_nan_either_way():
    for given, asked_for, name in (
        ("saturate", "nan", "overflow gives the largest value"), ("nan", "saturate", "overflow gives NaN"),
    ):  # fmt: skip
        asked = vectors("add", "rf8", rounding=rf8sim.Rounding(overflow=asked_for))
        check_named(asked, rf8sim.add(*asked.operands, "rf8", rounding=rf8sim.Rounding(overflow=given)), name)
    asked = vectors("multiply", "e5m2", rounding=rf8sim.Rounding(overflow="infinity"))
    check_named(asked, rf8sim.multiply(*asked.operands, "e5m2"), "overflow gives the largest value")


def test_every_rounding_mode_for_every_other():
    modes = ["nearest-even", "nearest-away", "toward-zero", "up", "down", "to-odd", "residual"]
    x = vectors("encode", "rf8", n=100).operands[0].view(np.float32)
    for wanted in modes:
        asked = vectors("encode", "rf8", rounding=wanted, n=100)
        for given in modes:
            if given != wanted:
                check_named(asked, rf8sim.encode(x, "rf8", rounding=given), f"rounds {given}")


def test_double_rounding_of_an_encoder():
    asked = vectors("encode", "e4m3fn")
    x = asked.operands[0].view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        bits = x.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16) << np.uint64(16)
    twice = np.where(np.isfinite(x), rounded, bits).astype(np.uint32).view(np.float32)
    check_named(asked, rf8sim.encode(twice, "e4m3fn"), "rounded twice, first to 8 bits")


def test_flushed_subnormals_and_another_format():
    asked = vectors("multiply", "e4m3fn")
    a, b = (np.where(operand & 0x78 == 0, operand & 0x80, operand).astype(np.uint8) for operand in asked.operands)
    check_named(asked, rf8sim.multiply(a, b, "e4m3fn"), "subnormals flushed of a and b")
    results = rf8sim.multiply(*asked.operands, "e4m3fnuz")
    check_named(asked, results, "computes in e4m3fnuz")


def test_negative_zero_lost():
    asked = vectors("multiply", "e4m3fn")
    results = asked.results.copy()
    results[results == 0x80] = 0
    check_named(asked, results, "no negative zero")


def test_int8_that_wraps():
    asked = vectors("add", "int8")
    a, b = asked.operands
    check_named(asked, a + b, "overflow wraps")


def test_a_sum_that_is_not_fused():
    asked = vectors("fma", "rf8", n=2000)
    a, b, c = asked.operands
    check_named(asked, rf8sim.add(rf8sim.multiply(a, b, "rf8"), c, "rf8"), "product rounded first")


def test_a_lane_that_is_left_out_and_partial_sums_that_are_rounded():
    asked = vectors("dot:4", "rf8", n=2000)
    a, b = asked.operands
    without = a.copy()
    without[:, 2] = np.where(b[:, 2] == 0x80, a[:, 2], 0)
    without[:, 2] = np.where(a[:, 2] == 0x80, 0x80, without[:, 2])
    by_row = rf8sim.matmul(without[:, None, :], b[:, :, None], "rf8", result="rf8").reshape(-1)
    quiet = (a[:, 2] != 0x80) & (b[:, 2] != 0x80)
    assert np.any(by_row[quiet] != asked.results[quiet])
    held = np.zeros(len(a), np.uint8)
    for lane in range(4):
        held = rf8sim.fma(a[:, lane], b[:, lane], held, "rf8")
    check_named(asked, held, "partial sums rounded")


def test_a_stream():
    asked = vectors("accumulate", "rf8", n=3000)
    clear, a, b = asked.operands
    for name in ("clear loses a product", "clear ignored", "sum rounded at each step"):
        held, results = 0, []
        exact = 0.0
        values = rf8sim.get_format("rf8").values
        for starts, x, y in zip(clear.tolist(), a.tolist(), b.tolist(), strict=True):
            product = values[x] * values[y]
            if name == "sum rounded at each step":
                before = 0 if starts else held
                held = int(rf8sim.encode(values[before] + product, "rf8"))
                results.append(held)
                continue
            if starts and name == "clear loses a product":
                exact = np.nan if np.isnan(product) and y == 0x80 else 0.0
            elif starts and name != "clear ignored":
                exact = product
            else:
                exact = exact + product
            results.append(exact)
        codes = np.array(results, np.uint8) if name.startswith("sum") else rf8sim.encode(np.array(results), "rf8")
        if name == "clear loses a product":  # what of NaN in a product that is lost is not said here
            assert not verdict_on(asked, codes).passed
        else:
            check_named(asked, codes, name)


@pytest.mark.parametrize(("fmt", "options"), [("rf8", {}), ("e5m2", {}), ("e4m3fn", {"accumulator": "float32"})])
def test_a_stream_tells_its_faults_apart(fmt, options):
    """NaN comes late and in a part of its own, or every later sum would be masked."""
    asked = vectors("accumulate", fmt, n=1000, **options)
    nan = asked.model.result.kind.is_nan(asked.results)
    assert np.argmax(nan) > len(asked) // 2
    names = {"clear ignored", "clear a vector late", "clear a vector early", "clear loses a product",
             "clear keeps NaN", "NaN not sticky", "sum rounded to bfloat16 at each step"}  # fmt: skip
    made = {each.name: each.answer(asked.operands) for each in hypotheses(asked.model) if each.name in names}
    assert set(made) == names
    assert len({results.tobytes() for results in (asked.results, *made.values())}) == len(names) + 1


def test_a_cause_of_a_long_stream_is_confirmed_to_its_end(monkeypatch):
    asked = vectors("accumulate", "rf8", n=500)
    monkeypatch.setattr(cases, "_MOST", 3000)
    clear, a, b = asked.operands
    results = asked.model.compute([clear * 0, a, b])[0].results
    verdict = verify_arrays(asked, results)
    assert [finding.name for finding in verdict.findings] == ["clear ignored"]
    assert verdict.findings[0].proved
    assert (verdict.findings[0].wrong, verdict.findings[0].vectors) == (verdict.wrong_results, len(asked))
    results[-3] ^= 1
    assert not any(finding.proved for finding in verify_arrays(asked, results).findings)


def test_a_condition_in_a_stream_predicts_every_answer():
    """One answer changed, after the first wrong one of its sum, and nothing is proved."""
    seeded = SEEDED["rf8 accumulator: exponent field 3 of b"]
    asked = vectors(seeded.operation, seeded.fmt, **seeded.options)
    results = seeded.design(*asked.operands).astype(np.uint8)
    findings = verify_arrays(asked, results).findings
    assert findings[0].proved
    assert findings[0].where == "the exponent field of b is 3"
    wrong = results != asked.results
    later = np.flatnonzero(wrong[1:] & wrong[:-1] & (asked.operands[0][1:] == 0)) + 1
    results[later[4]] ^= 2
    assert not any(finding.proved for finding in verify_arrays(asked, results).findings)


def test_answers_that_come_late_are_most_of_them():
    asked = vectors("decode", "rf6", result="float32")
    results = np.concatenate([np.arange(40, dtype=np.uint32), asked.results[:24]])
    assert not any(finding.proved for finding in verify_arrays(asked, results).findings)
    results = np.concatenate([np.arange(9, dtype=np.uint32), asked.results[:55]])
    assert [finding.name for finding in verify_arrays(asked, results).findings] == ["late by 9"]


def test_other_codes_of_nan_are_set_apart():
    asked = vectors("multiply", "e4m3fn")
    up = vectors("multiply", "e4m3fn", rounding="up").results
    results = np.where((up == 0x7F) & (asked.operands[0] & 1 == 1), 0xFF, up).astype(np.uint8)
    findings = verify_arrays(asked, results).findings
    assert [(finding.name, finding.kind) for finding in findings] == [
        ("other NaN codes", "part"),
        ("rounds up", "cause"),
    ]
    assert findings[1].proved
    assert findings[0].explained + findings[1].explained == findings[0].wrong


def test_random_words():
    asked = vectors("multiply", "rf8", rounding=rf8sim.Rounding("stochastic", bits=8))
    a, b, words = asked.operands
    inverted = rf8sim.multiply(a, b, "rf8", rounding=rf8sim.Rounding("stochastic", words=words ^ 0xFF, bits=8))
    check_named(asked, inverted, "word inverted")
    check_named(asked, rf8sim.multiply(a, b, "rf8", rounding="toward-zero"), "rounds toward-zero")


def test_decoder_off_by_one_exponent():
    asked = vectors("decode", "rf8", result="fixed:3.19")
    check_named(asked, asked.results * 2 & ((1 << 22) - 1), "exponent one too large")


@pytest.mark.parametrize(
    ("operation", "fmt", "options"),
    [
        ("multiply", "rf8", {}), ("encode", "rf8", {"n": 500}), ("fma", "e5m2", {"n": 500}),
        ("dot:3", "rf6", {"n": 500}),
        ("accumulate", "int8", {"n": 500}), ("add", "posit8_es1", {}), ("divide", "nf4", {}), ("decode", "e5m2", {}),
        ("subtract", "rf8", {"rounding": rf8sim.Rounding("stochastic", bits=4), "n": 500}), ("multiply", "uint8", {}),
        ("encode", "lns8", {"source": "fixed:6.12", "n": 500}), ("multiply", "rf8", {"result": "fixed:3.38"}),
    ],
)  # fmt: skip
def test_every_hypothesis_has_sense(operation, fmt, options):
    """Each gives answers of the right type for every kind of operation, or says that it has none."""
    asked = vectors(operation, fmt, **options)
    few = slice(None, None, 1 if asked.model.streams else max(1, len(asked) // 5000))
    operands, right = [patterns[few] for patterns in asked.operands], asked.results[few]
    names = set()
    with_effect = 0
    for hypothesis in hypotheses(asked.model):
        assert hypothesis.name not in names
        names.add(hypothesis.name)
        assert not hypothesis.sentence.endswith(".")
        try:
            with np.errstate(all="ignore"):
                predicted = hypothesis.answer(operands)
        except ValueError:
            continue
        assert predicted.shape == right.shape
        assert predicted.dtype == right.dtype, hypothesis.name
        if not asked.model.streams:
            with_effect += bool(np.any(predicted != right))
        else:
            with_effect += bool(np.any(predicted != asked.results))
    assert with_effect > 10

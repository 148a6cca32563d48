"""The committed pages of models judged by their outputs follow from their records, and say what these say."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from rf8sim.models.outputs import ModelOutputs, OutputQuality
from rf8sim.models.precision import Precision
from rf8sim.quantization.named import NAMED
from rf8sim.report.render import write_page
from rf8sim.report.sections.pages import EVALUATE_MODEL

REPORTS = Path(__file__).parent.parent / "reports"
PAGES = sorted(path.stem for path in REPORTS.glob("evaluate_*.json"))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_made_of_its_records(name, tmp_path):
    data = json.loads((REPORTS / f"{name}.json").read_text(encoding="utf-8"))
    page = EVALUATE_MODEL.page(ModelOutputs.from_json(data), data["made_by"])
    assert list(page.verdict) == data["verdict"]
    [written] = write_page(page, tmp_path / f"{name}.md")
    assert written.read_text(encoding="utf-8") == (REPORTS / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES)
def test_every_named_scheme_and_rf8_beside_e4m3_and_int8(name):
    data = json.loads((REPORTS / f"{name}.json").read_text(encoding="utf-8"))
    outputs = ModelOutputs.from_json(data)
    results = {str(result.precision): result for result in outputs.results}
    assert {*NAMED, "rf8", "e4m3fn"} <= set(results)
    score = {
        scheme: result.divergence if outputs.task == "next-token" else 1 - result.cosine
        for scheme, result in results.items()
    }
    assert score["int8_channel"] < score["e4m3fn"] < score["rf8"]
    [beaten] = [sentence for sentence in data["verdict"] if sentence.startswith("Beaten by one")]
    [rf8] = re.findall(r"\brf8 \(8\.00 bits, [^;]*", beaten)
    assert "int8_channel" in rf8
    assert "e4m3fn" in rf8
    text = (REPORTS / f"{name}.md").read_text(encoding="utf-8")
    assert beaten in text


def quality(scheme, bits, divergence):
    return OutputQuality(Precision(scheme), bits, (1.0,), (divergence,), 0.9, (), 0.1, 0.0)


def page(*results):
    return EVALUATE_MODEL.page(ModelOutputs("m", "d", "next-token", 10, 1, (1.0,), tuple(results)))


def sentences(*results):
    return [line for line in page(*results).verdict if "bits" in line]


def test_what_is_closest_for_its_bits_and_what_is_beaten():
    results = [
        quality("rf8", 8.0, 0.3), quality("e4m3fn", 8.05, 0.2), quality("int8_channel", 8.15, 0.1),
        quality("mxfp4", 4.25, 0.9), quality("nvfp4", 4.5, 0.95),
    ]  # fmt: skip
    closest, beaten = sentences(*results)
    lead = page(*results).sections[0].lead
    assert [row[:3] for row in lead.rows] == [("int8_channel", 8.15, 0.1), ("mxfp4", 4.25, 0.9)]
    assert closest == (
        "Closest to the original for their bits per weight: mxfp4 (4.25 bits, 0.9), int8_channel (8.15 bits, 0.1)."
    )
    # within 0.1 bits: int8_channel beats e4m3fn, which beats rf8
    assert beaten == (
        "Beaten by one that takes no more bits (within 0.1): nvfp4 (4.50 bits, 0.95) by mxfp4 (4.25 bits, 0.9); "
        "rf8 (8.00 bits, 0.3) by e4m3fn (8.05 bits, 0.2); e4m3fn (8.05 bits, 0.2) by int8_channel (8.15 bits, 0.1)."
    )


def test_equal_ones_and_other_precisions_do_not_beat():
    same = sentences(quality("rf8", 8.0, 0.2), quality("e4m3fn", 8.0, 0.2))
    assert same == ["Closest to the original for their bits per weight: e4m3fn (8.00 bits, 0.2), rf8 (8.00 bits, 0.2)."]
    with_activations = msgspec.structs.replace(quality("rf8", 8.0, 0.1), precision=Precision("rf8", "int8"))
    assert sentences(with_activations, quality("e4m3fn", 8.0, 0.2)) == []

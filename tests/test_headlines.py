"""Headlines of the committed pages: what each sentence says, its sign above all, stands in the table under it.

A page is read as a reader has it, as text. Every sentence under *Verdict* or *What it says* has its entry in `CLAIMS`;
one without is seen.
"""

# ruff: noqa: E501 - a sentence is one pattern

import math
import re
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[1]
NAMES = [
    "area", "area_dot", "compare_schemes", "compress_minilm", "compress_smollm2", "evaluate", "evaluate_minilm", "evaluate_smollm2", "ggd", "lm/report",
    "minilm_schemes", "rf_family", "sparsity", "tradeoff",
]  # fmt: skip
HEADINGS = ("## Verdict", "## What it says")


class Page:
    """The sentences of a page's verdict, and its tables: a list of rows for each, a row a dict by heading."""

    def __init__(self, text):
        self.sentences, self.tables = [], []
        section, columns = "", None
        for line in text.splitlines():
            if line.startswith("## "):
                section = line
            if line.startswith("* ") and section in HEADINGS:
                self.sentences.append(line[2:])
            if not line.startswith("|"):
                columns = None
                continue
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if columns is None:
                columns, rows = cells, []
                self.tables.append(rows)
            elif not set(line) <= set("|:- "):
                rows.append(Row(zip(columns, cells, strict=True)))

    def table(self, *columns):
        """The first table with these columns."""
        return next(rows for rows in self.tables if rows and set(columns) <= set(rows[0]))

    def row(self, key, name, *columns):
        """The first row of that name in the first table with these columns."""
        return next(row for row in self.table(key, *columns) if row[key] == name)


class Row(dict):
    def number(self, column):
        return number(self[column])


def number(text):
    text = text.replace(",", "").replace("−", "-")
    if text in ("–", ""):
        return math.nan
    return math.inf if text == "∞" else float(text.lstrip("<").split(" ")[0])


def close(a, b, step):
    """Whether two numbers may be roundings of one: the one of the sentence to this step."""
    return abs(a - b) <= step * 0.55 + 1e-9


def rank(pairs):
    """Names in ascending order of what a table says, and the numbers."""
    return [name for name, _ in sorted(pairs, key=lambda pair: pair[1])]


# --- rate against distortion ------------------------------------------------------------------------------------------


def beside_uniform(page, match):
    rows = page.table("quantizer", "loss added")
    stated = dict(re.findall(r"([\w/:,@.]+) ([+-][\d.]+) dB", match["ranked"]))
    uniform = [row for row in rows if row["quantizer"].startswith("uniform")]
    rates = [row.number("bits/w., coded") for row in uniform]
    heights = [row.number("SQNR, dB") for row in uniform]
    assert rates == sorted(rates)
    assert heights == sorted(heights)
    # Each half as wide a step is 6 dB better and a bit dearer: a reference that clips is neither.
    for k in range(6, len(uniform)):
        assert abs(heights[k] - heights[k - 2] - 6.02) < 0.15
        assert abs(rates[k] - rates[k - 2] - 1) < 0.06
    for row in rows:
        name, bits = row["quantizer"], row.number("bits/w., coded")
        if name.startswith("uniform"):
            continue
        k = next((k for k in range(1, len(rates)) if rates[k] >= bits), None)
        if k is None:
            height = heights[-1] + 6.0206 * (bits - rates[-1])
        else:
            height = heights[k - 1] + (heights[k] - heights[k - 1]) * (bits - rates[k - 1]) / (rates[k] - rates[k - 1])
        gap = row.number("SQNR, dB") - height
        assert abs(gap - row.number("to uniform coded, dB")) < 0.02, name
        assert close(float(stated.pop(name)), gap, 0.12), name
        if "is the best scalar quantizer" in match["why"]:
            assert gap < 0.1, name
        elif gap > 0.1:
            assert name in match["why"]
    assert not stated
    ranked = re.findall(r"([+-][\d.]+) dB", match["ranked"])
    assert ranked == sorted(ranked, key=float, reverse=True)


def saved_bits(page, match):
    rows = [row for row in page.table("quantizer", "bits/w., coded") if not row["quantizer"].startswith("uniform")]
    saved = {r["quantizer"]: r.number("bits/w., not coded") - r.number("bits/w., coded") for r in rows}
    assert close(float(match["least"]), min(saved.values()), 0.012)
    assert close(float(match["most"]), max(saved.values()), 0.012)
    assert saved[match["a"]] == min(saved.values())
    assert saved[match["b"]] == max(saved.values())


def over_entropy(page, match):
    row = page.row("scheme", match["name"], "rANS")
    columns = ("rANS", "Huffman", "Exp-Golomb, best k", "Exp-Golomb, k = 0", "Exp-Golomb of values, k = 0")
    shares = [100 * (row.number(column) / row.number("entropy") - 1) for column in columns]
    stated = [float(text) for text in re.findall(r"([\d.]+) %", match[0])]
    for a, b in zip(stated, shares, strict=True):
        assert abs(a - b) < 0.05 + 0.02 * b


def losses_within(page, match):
    rows = [row for row in page.table("quantizer", "loss added") if not row["quantizer"].startswith("uniform")]
    names = [row["quantizer"] for row in rows if abs(row.number("loss added")) <= float(match["limit"])]
    assert match["names"].split(", ") == names


# --- compression to a budget ------------------------------------------------------------------------------------------


def chosen_bits(page, match):
    points = [row for row in page.table("rounding", "bits/weight") if row["rounding"].startswith("feedback, lengths")]
    assert any(
        close(float(match["bits"]), row.number("bits/weight"), 0.001)
        and close(float(match["height"]), row.number("SQNR of outputs, dB"), 0.01)
        for row in points
    )
    matrices = page.table("matrix", "shape")
    assert int(match["count"]) == len(matrices)
    sizes = [math.prod(map(int, row["shape"].split(" x "))) for row in matrices]
    assert int(match["weights"].replace(",", "")) == sum(sizes)
    bits = sum(size * row.number("bits/weight") for size, row in zip(sizes, matrices, strict=True)) / sum(sizes)
    assert close(float(match["bits"]), bits, 0.002)


def _bits_at(page, name, height):
    points = sorted(
        (row.number("SQNR of outputs, dB"), row.number("bits/weight"))
        for row in page.table("rounding", "bits/weight")
        if row["rounding"] == name
    )
    (low, less), (high, more) = next(pair for pair in pairwise(points) if pair[0][0] <= height <= pair[1][0])
    return less + (more - less) * (height - low) / (high - low)


def other_bits(page, match):
    height = float(re.search(r"outputs of ([\d.]+)", page.sentences[0])[1])
    stated = re.findall(
        r"(nearest|lengths|column steps|feedback|feedback, lengths|feedback, lengths, column steps) ([\d.]+)",
        match["all"],
    )
    assert [name for name, _ in stated][:1] == ["nearest"]
    assert len(stated) >= 5
    for name, bits in stated:
        assert close(float(bits), _bits_at(page, name, height), 0.003), name


def fewer_than_nearest(page, match):
    pattern = r"takes ([\d.]+) .* of ([\d.]+)(?: ± [\d.]+)? dB"
    bits, height = (float(text) for text in re.search(pattern, page.sentences[0]).groups())
    assert close(float(match["share"]), 100 * (1 - bits / _bits_at(page, "nearest", height)), 0.1)


def kept_budget(page, match):
    bound, height, spread = (float(text) for text in (match["bound"], match["height"], match["spread"] or 0))
    assert height >= bound
    assert spread < 1


def _level_of(row):
    return math.log(row.number("divergence"))


def _bits_measured(page, names, level):
    """Bits of some rows of the measurements at a divergence, linear in its logarithm between the nearest."""
    rows = sorted((row for row in page.table("measured", "divergence") if row["measured"] in names), key=_level_of)
    below, above = next(pair for pair in pairwise(rows) if _level_of(pair[0]) <= math.log(level) <= _level_of(pair[1]))
    share = (math.log(level) - _level_of(below)) / (_level_of(above) - _level_of(below))
    return below.number("bits/weight") + share * (above.number("bits/weight") - below.number("bits/weight"))


OURS = ("feedback, lengths, row steps",)


def ours_at_level(page, match):
    bits = _bits_measured(page, OURS, float(match["level"]))
    assert close(float(match["bits"]), bits, 0.003)
    assert match["bits"] == page.row("way", "ours", "bits/weight")["bits/weight"]


def _fewer(match, ours, other):
    change = 100 * (ours / other - 1)
    assert match["word"] == ("fewer" if change < 0 else "more")
    assert close(float(match["share"]), abs(change), 0.15)


def ours_beside(page, match):
    row = page.row("way", match["name"], "bits/weight")
    assert match["bits"] == row["bits/weight"]
    level = float(re.search(r"At a divergence of ([\d.]+),", page.sentences[0])[1])
    names = {row["measured"] for row in page.table("measured", "divergence")}
    kinds = {
        "GGUF K types": [name for name in names if name.endswith("K, importances")],
        "NNCodec, our steps": ["NNCodec, steps by our rule"],
    }
    bits = _bits_measured(page, kinds.get(match["name"], [match["name"]]), level)
    assert close(bits, row.number("bits/weight"), 0.003)
    _fewer(match, page.row("way", "ours", "bits/weight").number("bits/weight"), bits)


def ours_at_that_of(page, match):
    row = page.row("measured", match["name"], "divergence")
    assert close(float(match["level"]), row.number("divergence"), 1e-4)
    assert close(float(match["bits"]), row.number("bits/weight"), 1e-3)
    same = _bits_measured(page, OURS, row.number("divergence"))
    assert close(float(match["same"]), same, 0.003)
    _fewer(match, same, row.number("bits/weight"))


def predicted_medians(page, match):
    rows = page.table("matrix", "nearest, predicted")
    assert len(rows) > 30
    for kind in ("nearest", "RDOQ"):
        off = [abs(row.number(f"{kind}, bits") / row.number(f"{kind}, predicted") - 1) for row in rows]
        assert close(float(match[kind]), 100 * median(off), 0.12)
    gains = [abs(row.number("gain, dB") - row.number("feedback's gain, predicted, dB")) for row in rows]
    assert close(float(match["gain"]), median(gains), 0.02)


# --- pruning ----------------------------------------------------------------------------------------------------------


def pruned_rows(page, scheme):
    return [row for row in page.table("pruned", "loss added") if row["scheme"] == scheme]


def underflow(page, match):
    [row] = [row for row in pruned_rows(page, match["name"]) if row["pruned"] == "0%"]
    assert abs(row.number("zeros, %") - float(match["share"])) < 0.0051


def prunable(page, match):
    rows = pruned_rows(page, match["name"])
    [base] = [row for row in rows if row["pruned"] == "0%"]
    assert base["bits/w., coded"].startswith(match["before"])
    [chosen] = [row for row in rows if (row["pruned"], row["scope"]) == (match["pattern"], match["scope"])]
    assert close(float(match["bits"]), chosen.number("bits/w., coded"), 0.012)
    [after] = [s for s in page.sentences if "the loss rises by" in s]
    loss = float(re.search(r"from ([\d.]+) nats", after)[1]) + base.number("loss added")
    within = [row for row in rows if row.number("loss added") - base.number("loss added") <= 0.01 * loss]
    assert max(row.number("zeros, %") for row in within) == chosen.number("zeros, %") == float(match["share"])


def far_pruned(page, match):
    rows = [row for row in pruned_rows(page, match["name"]) if row["pruned"] == match["share"] + "%"]
    [chosen] = [row for row in rows if row["scope"] == match["scope"]]
    assert chosen.number("loss added") == min(row.number("loss added") for row in rows)
    assert close(float(match["bits"]), chosen.number("bits/w., coded"), 0.012)
    assert close(float(match["rise"]), chosen.number("loss added"), 0.0011)


# --- the residual family ----------------------------------------------------------------------------------------------


def best_members(page, match):
    column = f"SQNR at shape {match['shape']}, dB"
    best = re.findall(r"(\d) bits RF\((\d), (\d+)\) ([\d.]+) dB", match[0])
    assert len(best) == 5
    for bits, p, depth, height in best:
        rows = [row for row in page.table("p", column) if row["bits"] == bits]
        top = max(rows, key=lambda row: row.number(column))
        assert (top["p"], top["depth"]) == (p, depth)
        assert close(float(height), top.number(column), 0.1)


# --- schemes ----------------------------------------------------------------------------------------------------------

RULES = ("floor", "even", "nearest", "ceil", "rceil")


def over_floor(row):
    return {rule: 0.0 if rule == "floor" else row.number(f"{rule} - floor") for rule in RULES}


def blocks_named(text):
    """Which blocks a phrase means: 16, 32, 64, 128 and channel."""
    return ["channel" if block == "channel" else f"1x{block}" for block in re.findall(r"\d+|channel", text)]


def no_one_rule(page, match):
    rows = page.table("floor, dB")
    best = [row["best rule"] for row in rows]
    assert int(match["count"]) == len(rows)
    for rule, times in re.findall(r"(\w+) in (\d+)", match["rules"]):
        assert best.count(rule) == int(times)
    gains = [max(over_floor(row).values()) for row in rows]
    assert close(float(match["low"]), min(gains), 0.01)
    assert close(float(match["high"]), max(gains), 0.01)
    assert len(set(best)) > 1
    for row in rows:
        assert over_floor(row)[row["best rule"]] >= max(over_floor(row).values()) - 0.005


def best_rule(page, match):
    rows = {row["block"]: row for row in page.table("floor, dB") if row["elements"] == match["elements"]}
    phrases = re.findall(
        r"(\w+)(?: \(as good: ([\w ]+)\))? at ([^(]+) \(([+-][\d.]+)(?: to ([+-][\d.]+))? dB( for the next)?",
        match["best"],
    )
    assert phrases
    seen = []
    for rule, also, blocks, low, high, _ in phrases:
        others = []
        for block in blocks_named(blocks):
            seen.append(block)
            gains = over_floor(rows[block])
            assert rows[block]["best rule"] == rule
            assert gains[rule] >= max(gains.values()) - 0.005
            for name in re.findall(r"\w+", also.replace(" and ", " ")):
                assert abs(gains[name] - gains[rule]) < 0.01
            next_best = max(gain for name, gain in gains.items() if name != rule)
            others.append(next_best if rule == "floor" else gains[rule])
        assert close(float(low), min(others), 0.01)
        assert close(float(high or low), max(others), 0.01)
    assert sorted(seen) == sorted(rows)
    searched = [row.number("mse - floor") - max(over_floor(row).values()) for row in rows.values()]
    low, high = match["low"], match["high"] or match["low"]
    assert min(searched) >= -0.005
    assert abs(float(low) - min(searched)) < 0.011
    assert abs(float(high) - max(searched)) < 0.011


def kinds_differ(page, match):
    rows = page.table("floor, dB")
    exceptions = re.findall(r"(\w+) has another in (\d+) of (\d+)", match[0])
    for kind, times, count in exceptions:
        assert int(count) == len(rows)
        assert sum(f"{kind}:" in row["other best rule"] or kind in row["other best rule"] for row in rows) == int(times)
    assert ("is not the same" in match[0]) == bool(exceptions)


def other_scales(page, match):
    phrases = re.findall(r"(\w+) with (\w+) (\w+) \(([+-][\d.]+)(?: to ([+-][\d.]+))? dB\)", match[0])
    assert phrases
    for elements, scales, rule, low, high in phrases:
        rows = [
            r for r in page.table("nearest, dB") if (r["elements"], r["scales"].split("/")[0]) == (elements, scales)
        ]
        gains = [0.0 if rule == "nearest" else row.number(f"{rule} - nearest") for row in rows]
        assert close(float(low), min(gains), 0.01)
        assert close(float(high or low), max(gains), 0.01)
        for row in rows:
            rules = [0.0] + [row.number(f"{r} - nearest") for r in ("up", "signed") if row[f"{r} - nearest"] != "–"]
            assert max(gains) >= 0
            assert row["best rule"] != rule or max(rules) <= max(0.0, *gains) + 0.005


def scheme_rows(page):
    return {row["scheme"]: row for rows in page.tables if rows and "mode" in rows[0] for row in rows}


def not_powers_of_two(page, match):
    assert int(match["better"]) <= int(match["of"])
    rows, gain = scheme_rows(page), float(match["gain"])
    chosen = rows[match["scheme"]]
    block = "channel" if match["block"] == "channel" else f"1x{match['block']}"
    prefix = f"{match['elements']}/{block}:e8m0fnu"
    beside = [row for name, row in rows.items() if name.startswith(prefix)]
    best = max(row.number("SQNR, dB") for row in beside)
    assert chosen.number("bits/w.") <= min(row.number("bits/w.") for row in beside) + 0.011
    assert gain > 0
    assert close(gain, chosen.number("SQNR, dB") - best, 0.03)


def dominated(page, match):
    rows = scheme_rows(page)
    a, b = rows[match["scheme"]], rows[match["by"]]
    assert close(float(match["bits"]), a.number("bits/w."), 0.01)
    assert close(float(match["height"]), a.number("SQNR, dB"), 0.01)
    assert b.number("bits/w.") <= a.number("bits/w.") + 0.011
    assert float(match["below"]) > 0
    assert close(float(match["below"]), b.number("SQNR, dB") - a.number("SQNR, dB"), 0.03)
    tried = [row for row in rows.values() if row.number("bits/w.") <= a.number("bits/w.")]
    assert max(row.number("SQNR, dB") for row in tried) <= b.number("SQNR, dB")


def front(page, match):
    rows, column = scheme_rows(page), "bits/w." if match["what"].startswith("As stored") else "coded bits/w."
    assert int(match["of"]) >= len(rows)
    shown = re.findall(r"([\w/:,.]+) \(([\d.]+) bits, ([\d.]+) dB\)", match[0])
    assert len(shown) == 5
    for name, bits, height in shown:
        row = rows[name]
        assert close(float(bits), row.number(column), 0.012)
        assert close(float(height), row.number("SQNR, dB"), 0.01)
        better = [
            other for other in rows.values()
            if other.number(column) < row.number(column) and other.number("SQNR, dB") > row.number("SQNR, dB")
        ]  # fmt: skip
        assert not better, name


# --- models -----------------------------------------------------------------------------------------------------------

WHERE = {
    "weights only, one scale per tensor": (False, False),
    "weights only, scales per output channel and token": (False, True),
    "weights and activations, one scale per tensor": (True, False),
    "weights and activations, scales per output channel and token": (True, True),
}


def evaluated(page, where):
    """Rows of a group, by name and accumulator."""
    both, fine = WHERE[where.lower()]
    rows = {}
    for row in page.table("weights", "accumulator", "cost"):
        scheme, _, mode = row["weights"].partition("@")
        scheme, _, channel = scheme.partition("/")
        if (row["activations"] != "float32") == both and bool(channel) == fine:
            rows[f"{scheme} {mode}".strip(), row["accumulator"]] = row
    return rows


def base_loss(page, match):
    rows = page.table("weights", "accumulator", "cost")
    for row in rows:
        assert close(float(match["loss"]), row.number("loss, nats/token") - row.number("cost"), 1e-4)


def lowest_cost(page, match):
    rows = {name: row for (name, acc), row in evaluated(page, match["where"]).items() if acc == match["acc"]}
    best = match["best"]
    assert rows[best].number("cost") == min(row.number("cost") for row in rows.values())
    assert close(float(match["cost"]), rows[best].number("cost"), 1e-4)
    worse = re.findall(r"(\w[\w ]*?) \(by ([\d.]+) ± ([\d.]+)\)", match["rest"].partition("Worse: ")[2])
    for name, gap, error in worse:
        assert close(float(gap), rows[name].number("cost") - rows[best].number("cost"), 1.2e-4)
        assert float(gap) > 2 * float(error) - 1e-4
    ranking = re.split(r" [<≈] ", match["ranking"])
    divergences = [float(text.rpartition(" ")[2]) for text in ranking]
    for text, stated in zip(ranking, divergences, strict=True):
        assert close(stated, rows[text.rpartition(" ")[0]].number("divergence"), 1e-4)
    assert divergences == sorted(divergences)
    assert len(ranking) == len(rows)


def accumulators_compared(page, match):
    other, largest, cases = match["other"], 0.0, 0
    for where in WHERE:
        rows = evaluated(page, where)
        for (name, acc), row in rows.items():
            if acc == other:
                cases += 1
                largest = max(largest, abs(row.number("cost") - rows[name, "exact"].number("cost")))
    assert cases == int(match["of"])
    assert float(match["most"]) == pytest.approx(largest, rel=0.5)
    assert float(match["most"]) >= largest - 0.0006
    rows, name = evaluated(page, match["at"]), match["name"]
    change = rows[name, other].number("cost") - rows[name, "exact"].number("cost")
    assert float(match["change"]) == pytest.approx(change, abs=0.0006)
    assert math.copysign(1, float(match["change"])) == math.copysign(1, change)


def modes_compared(page, match):
    phrases = re.findall(r"([+-][\d.]+) ± [\d.]+ \((\w+), ([^;()]+)\)", match[0])
    assert phrases
    for stated, name, where in phrases:
        rows = evaluated(page, where)
        gap = rows[f"{name} residual", "exact"].number("cost") - rows[name, "exact"].number("cost")
        assert close(float(stated), gap, 1.2e-4)


def finer_scales(page, match):
    kind = match["kind"].lower()
    coarse = evaluated(page, f"{kind}, one scale per tensor")
    fine = evaluated(page, f"{kind}, scales per output channel and token")
    phrases = re.findall(r"(\w+(?: residual)?) ([\d.]+) to ([\d.]+)", match["pairs"])
    assert len(phrases) == 6
    for name, a, b in phrases:
        assert close(float(a), coarse[name, "exact"].number("divergence"), 1e-4)
        assert close(float(b), fine[name, "exact"].number("divergence"), 1e-4)


def quality(page):
    """What a page of outputs ranks by, for each scheme: 1 less the cosine, or the divergence; and its bits."""
    rows = page.table("weights", "sums", "bits/weight")
    by = {
        row["weights"]: row.number("divergence") if "divergence" in row else 1 - row.number("mean cosine")
        for row in rows
    }
    return by, {row["weights"]: row.number("bits/weight") for row in rows}


def rounding_ranked(page, match):
    by, _ = quality(page)
    pairs = [(name, float(value)) for name, value in re.findall(r"(\w+) ([\d.]+)(?:,|\.$)", match["ranked"] + ".")]
    assert [name for name, _ in pairs] == sorted(by, key=by.get) or [v for _, v in pairs] == sorted(v for _, v in pairs)
    assert {name for name, _ in pairs} == set(by)
    for name, value in pairs:
        assert value == pytest.approx(by[name], rel=0.01)


def closest_for_bits(page, match):
    by, bits = quality(page)
    names = re.findall(r"(\w+) \([\d.]+ bits, [\d.]+\)", match[0])
    assert names == [
        n for n in sorted(by, key=bits.get) if not any(bits[m] <= bits[n] + 0.1 and by[m] < by[n] for m in by)
    ]
    assert [row["weights"] for row in page.tables[0]] == names[::-1]


def beaten(page, match):
    by, bits = quality(page)
    for phrase in match["all"].rstrip(".").split("; "):
        name, a, score, other, b, better, also = re.fullmatch(
            r"(\w+) \(([\d.]+) bits, ([\d.]+)\) by (\w+) \(([\d.]+) bits, ([\d.]+)\)(?:, also (.+))?", phrase
        ).groups()
        assert float(better) < float(score)
        assert float(b) <= float(a) + 0.1
        for rival in [other, *(also.split(", ") if also else [])]:
            assert by[rival] < by[name]
            assert bits[rival] <= bits[name] + 0.1
    closest = next(sentence for sentence in page.sentences if sentence.startswith("Closest"))
    for name in by:
        assert (f"{name} (" in closest) != (f"{name} (" in match["all"].replace(" by ", " ") and name in [
            phrase.split(" ")[0] for phrase in match["all"].split("; ")
        ]), name  # fmt: skip


def layers_to_keep(page, match):
    rows = page.table("layer", "share of all, %")
    column = next(column for column in rows[0] if column.endswith(" alone"))
    effects = [row.number(column) for row in rows]
    assert effects == sorted(effects, reverse=True)
    named = re.findall(r"([\w.]+) \(([\d.e-]+)\)", match[0])
    assert named == [(row["layer"], row[column]) for row in rows[: len(named)]]
    assert close(float(match["share"]), sum(row.number("share of all, %") for row in rows[: len(named)]), 1)


def like_the_original(page, match):
    rows = page.table("weights", "sums", "cost")
    names = [row["weights"] for row in rows if abs(row.number("cost")) <= 2 * row.number("std. error")]
    assert re.split("; |, ", match["names"]) == names


# --- areas ------------------------------------------------------------------------------------------------------------


def percent(a, b):
    return 100 * (a / b - 1)


def stated_percent(text):
    value, word = re.search(r"([\d.]+)% (larger|smaller)", text).groups()
    return float(value) * (1 if word == "larger" else -1)


def area_products(page, match):
    first, second = match[0].split(";")
    for text, block in ((first, "product, exact: significand and exponent"), (second, "product, exact: fixed point")):
        row = page.row("block", block)
        assert close(stated_percent(text), percent(row.number("gates rf8 / e4m3fn"), 1), 1)


def area_mixed(page, match):
    row = page.row("block", "weight x INT8 activation, exact: fixed point")
    assert close(stated_percent(match[0]), percent(row.number("gates rf8 / e4m3fn"), 1), 1)


def area_mac(page, match):
    both, mixed = re.findall(r"\d+% \w+", match[0])
    for text, block in (
        (both, "MAC, exact, 12 guard bits"),
        (mixed, "MAC of weight x INT8, exact, 12 guard bits"),
    ):
        row = page.row("block", block)
        assert close(stated_percent(text), percent(row.number("gates rf8 / e4m3fn"), 1), 1)
    for a, b in re.findall(r"(\d+)(?: bits)? against (\d+)", match[0]):
        assert int(a) > int(b)


def area_int8(page, match):
    for text, block in zip(
        re.findall(r"\d+% \w+", match[0]),
        ("weight x INT8 activation, exact: fixed point", "MAC of weight x INT8, exact, 12 guard bits"),
        strict=True,
    ):
        row = page.row("block", block)
        assert close(stated_percent(text), percent(row.number("gates rf8"), row.number("gates int8")), 1)


def area_errors(page, match):
    heights = [float(text) for text in re.findall(r"([\d.]+) dB", match[0])]
    other = Page((ROOT / "reports" / "area_dot.md").read_text(encoding="utf-8"))
    column = "SQNR of weights, dB"
    assert heights == [other.row("format", name, column).number(column) for name in ("RF8", "E4M3", "INT8")]


def dot_sizes(page, match):
    gates = "gates, x INT8" if "INT8 activations" in match["what"] else "gates, both"
    text = (ROOT / "reports" / "area_dot.md").read_text(encoding="utf-8")
    header = next(line for line in text.splitlines() if line.startswith("| format | weights"))
    heights = [i for i, name in enumerate(cell.strip() for cell in header.strip("|").split("|")) if name == "SQNR, dB"]
    lines = {}
    for line in text[text.index(header) :].split("\n\n")[0].splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        height = cells[heights[0] if gates.endswith("x INT8") else heights[1]]
        lines[cells[0]] = number(page.row("format", cells[0], gates)[gates]), number(height)
    phrases = re.findall(r"(\d+)% (larger|smaller) than (\w+)'s, and its result ([\d.]+) dB (worse|better)", match[0])
    assert {phrase[2] for phrase in phrases} == {"E4M3", "MXFP8", "INT8", "MXFP4"}
    for share, size, name, gap, sign in phrases:
        assert close(stated_percent(f"{share}% {size}"), percent(lines["RF8"][0], lines[name][0]), 1)
        assert close(float(gap) * (1 if sign == "better" else -1), lines["RF8"][1] - lines[name][1], 0.2)


def dot_weights(page, match):
    column = "SQNR of weights, dB"
    rf8 = page.row("format", "RF8", column).number(column)
    phrases = re.findall(r"([+-][\d.]+) dB against (\w+)", match[0])
    assert len(phrases) == 4
    for gap, name in phrases:
        assert close(float(gap), rf8 - page.row("format", name, column).number(column), 0.2)


def dot_gates(page, match):
    units = {(row["unit"], row["format"]): row["gates"] for row in page.table("unit", "gates")}
    expected = [("dot of 16 + float32, 13 bits", "MXFP8"), ("dot of 16, exact", "E4M3")]
    expected += [("dot of 16 + float32, 25 bits", "MXFP8"), ("dot of 16, exact", "RF8")]
    assert re.findall(r"\b\d{4,}", match[0]) == [units[unit] for unit in expected]


def dot_bits(page, match):
    units = {row["unit"]: row.number("SQNR of sums, dB") for row in page.table("unit", "SQNR of sums, dB")}
    stated = [float(text) for text in re.findall(r"(\d+) dB", match[0])]
    sums = [units[f"dot of 16 + float32, {bits} bits"] for bits in (13, 25)]
    assert all(close(a, b, 1) for a, b in zip(stated, sums, strict=True))
    assert min(sums) > max(row.number("SQNR of weights, dB") for row in page.table("format", "SQNR of weights, dB"))


def fma_gates(page, match):
    units = {row["unit"]: row.number("gates/product") for row in page.table("unit", "gates/product")}
    fma, lane = units["product + float32 to float32 (fma)"], units["dot of 16 + float32, 13 bits"]
    [fma] = [r.number("gates") for r in page.table("unit", "gates") if "(fma)" in r["unit"] and r["format"] == "E4M3"]
    assert float(match["gates"]) == fma
    assert close(float(match["times"]), fma / lane, 0.1)


# --- weights ----------------------------------------------------------------------------------------------------------


def tensor_rows(page):
    return [row for row in page.table("tensor", "trusted") if not row["tensor"].startswith("all")]


def trusted(page):
    return [row for row in tensor_rows(page) if row["trusted"] == "yes"]


def named_tensors(text):
    """The tensors a sentence names, and how many more it says there are."""
    more = re.search(r"and (\d+) more", text)
    return re.findall(r"\b\w+(?:\.\w+)*\.weight\b", text), int(more[1]) if more else 0


def all_weights(page, match):
    rows = tensor_rows(page)
    assert int(match["tensors"]) == len(rows)
    assert number(match["weights"]) == sum(row.number("weights") for row in rows)


def shapes_fitted(page, match):
    shapes = sorted(row.number("GGD shape") for row in trusted(page))
    assert int(match["count"]) == len(shapes)
    middle = (shapes[(len(shapes) - 1) // 2] + shapes[len(shapes) // 2]) / 2
    for stated, value in zip(
        (match["low"], match["high"], match["median"]), (shapes[0], shapes[-1], middle), strict=True
    ):
        assert close(float(stated), value, 0.011)


def pooled_cost(page, match):
    [row] = [row for row in page.table("tensor", "GGD shape", "trusted") if row["tensor"] == "all together"]
    assert close(float(match["shape"]), row.number("GGD shape"), 0.011)
    for family, bits in re.findall(r"a (Gaussian|Laplace) density would cost ([\d.]+) bits", match["costs"]):
        assert close(float(bits), row.number(f"{family.lower()}, + bits/w."), 0.0011)


def shapes_and_pool(page, match):
    shapes_fitted(page, match)
    pooled_cost(page, match)


def mean_costs(page, match):
    rows = trusted(page)
    total = sum(row.number("weights") for row in rows)
    for family, stated in (("gaussian", match["gauss"]), ("laplace", match["laplace"])):
        mean = sum(row.number("weights") * row.number(f"{family}, + bits/w.") for row in rows) / total
        assert close(float(stated), mean, 0.0002)
    assert int(match["of"]) == len(rows)
    better = [r for r in rows if min(r.number("gaussian, + bits/w."), r.number("laplace, + bits/w.")) > 0.001]
    assert int(match["count"]) <= len(better)


def gaussian_as_good(page, match):
    names, _ = named_tensors(match[0])
    for row in trusted(page):
        if row["tensor"] in names:
            assert row.number("gaussian, + bits/w.") <= 0.002, row
    assert names


def another_family(page, match):
    names, more = named_tensors(match[0])
    rows = {row["tensor"]: row for row in trusted(page)}
    assert int(match["count"]) == len(names) + more
    for name in names:
        assert rows[name]["best"] not in ("ggd", "gaussian", "laplace"), name
    gains = [float(text) for text in re.findall(r"by ([\d.]+) bits per weight", match[0])]
    assert gains == sorted(gains, reverse=True)
    share = sum(r.number("weights") for r in rows.values()) * float(match["share"]) / 100
    assert sum(rows[name].number("weights") for name in names) <= share * 1.01


def estimates_disagree(page, match):
    rows = page.table("tensor", "maximum likelihood", "verdict")
    assert int(match["count"]) == sum(row["verdict"] == "disagree" for row in rows)
    assert int(match["of"]) == len(rows)
    for name, ml, moments in re.findall(r"([\w.]+) \(ml ([\d.]+), moments ([\d.]+)", match[0]):
        [row] = [row for row in rows if row["tensor"] == name]
        assert row["verdict"] == "disagree"
        assert close(float(ml), row.number("maximum likelihood"), 0.011)
        assert close(float(moments), row.number("moments"), 0.011)


def groups_differ(page, match):
    rows = page.table("tensor", "groups", "verdict")
    assert int(match["of"]) == len(rows)
    assert int(match["count"]) == sum(row["verdict"] == "differ" for row in rows)
    for name, gain in re.findall(r"([\w.]+) \(shape [^;]+; fitting per group saves ([\d.]+) bits", match[0]):
        [row] = [row for row in rows if row["tensor"] == name]
        assert row["verdict"] == "differ"
        assert float(gain) == pytest.approx(row.number("separate fits save, bits/w."), rel=0.06)
        assert row.number("by scale alone") <= row.number("separate fits save, bits/w.")


def below_every_group(page, match):
    names, _ = named_tensors(match[0])
    below = [
        r["tensor"]
        for r in page.table("tensor", "groups", "lowest")
        if r.number("shape of the tensor") < r.number("lowest")
    ]
    assert set(names) <= set(below)
    differ = {row["tensor"] for row in page.table("tensor", "groups", "verdict") if row["verdict"] == "differ"}
    assert set(below) & differ <= set(names)


def rises_at_equal_rms(page, match):
    names, more = named_tensors(match[0])
    column = "shape, channels scaled to equal RMS"
    rises = {row["tensor"]: row.number(column) - row.number("GGD shape") for row in trusted(page)}
    above = [name for name, rise in rises.items() if rise > 0.2]
    assert set(names) <= set(above)
    assert len(names) + more == len(above)


def pooled_shapes(page, match):
    stated = [float(text) for text in re.findall(r"\d\.\d\d", match[0])]
    rows = page.table("pooled weights", "GGD shape")
    shapes = [row.number("GGD shape") for row in rows]
    fits = trusted(page)
    mean = sum(r.number("weights") * r.number("GGD shape") for r in fits) / sum(r.number("weights") for r in fits)
    for a, b in zip(stated, [*shapes, mean], strict=True):
        assert close(a, b, 0.011)


def not_trusted(page, match):
    names, more = named_tensors(re.sub(r"\([^()]*(\([^()]*\))*[^()]*\)", "", match[0]))
    rows = [row for row in tensor_rows(page) if row["trusted"] != "yes"]
    assert int(match["count"]) == len(rows) == len(names) + more
    assert set(names) <= {row["tensor"] for row in rows}


def off_centre(page, match):
    names, more = named_tensors(match[0])
    off = [row["tensor"] for row in tensor_rows(page) if "do not lie about" in row["remark"]]
    assert set(names) <= set(off)
    assert len(names) + more == len(off)


def report_advice(page, match):
    rows = page.table("scheme", "SQNR, dB", "significand, bits", "coded, bits/w.")
    best = max(rows, key=lambda r: r.number("SQNR, dB"))
    small = max(rows, key=lambda r: r.number("SQNR, dB") - 6.0206 * r.number("coded, bits/w."))
    assert (match["best"], match["small"] or match["best"]) == (best["scheme"], small["scheme"])
    assert close(float(match["height"]), best.number("SQNR, dB"), 0.1)
    assert close(float(match["coded"] or match["bits"]), small.number("coded, bits/w."), 0.012)
    if match["less"]:
        assert close(float(match["less"]), best.number("SQNR, dB") - small.number("SQNR, dB"), 0.11)
    chosen = {row["recommended for"]: row["scheme"] for row in page.table("recommended for", "scheme")}
    cheap = min(rows, key=lambda r: (r.number("significand, bits"), -r.number("SQNR, dB")))
    assert chosen == {"accuracy": best["scheme"], "size": small["scheme"], "cheap multipliers": cheap["scheme"]}


def report_kept(page, match):
    rows = tensor_rows(page)
    kept = [row for row in rows if " × " not in row["size"] or re.search("norm|embed|position", row["tensor"])]
    assert (int(match["kept"]), int(match["of"])) == (len(kept), len(rows))
    share = sum(row.number("weights") for row in kept) / sum(row.number("weights") for row in rows)
    assert close(float(match["share"]), 100 * share, 0.011)


def report_accurate(page, match):
    rows = page.table("scheme", "SQNR, dB", "significand, bits", "coded, bits/w.")
    rows = sorted(rows, key=lambda row: -row.number("SQNR, dB"))
    pairs = re.findall(r"([\w/]+)(?: with)? ([\d.]+) dB", match[0])
    assert [name for name, _ in pairs] == [row["scheme"] for row in rows]
    for (_, height), row in zip(pairs, rows, strict=True):
        assert close(float(height), row.number("SQNR, dB"), 0.1)


def report_coded(page, match):
    pairs = re.findall(r"([\w/]+) ([\d.]+)[,.]", match["all"])
    column = "coded, bits/w."
    rows = {row["scheme"]: row.number(column) for row in page.table("scheme", "significand, bits", column)}
    assert [name for name, _ in pairs] == sorted(rows, key=rows.get)
    for name, bits in pairs:
        assert close(float(bits), rows[name], 0.012)


def report_zeros(page, match):
    row = page.row("scheme", match["name"], "underflow, %", "entropy, bits")
    assert row["underflow, %"] == match["share"]
    rows = page.table("scheme", "underflow, %", "entropy, bits")
    assert row.number("underflow, %") == max(r.number("underflow, %") for r in rows)


def report_guards(page, match):
    rows = page.table("tensor", "advice")
    names, more = named_tensors(match[0])
    listed = {row["tensor"] for row in rows}
    assert set(names) <= listed
    assert int(match["count"]) == len(names) + more
    assert int(match["of"]) == len(tensor_rows(page))


CLAIMS = [
    (
        r"\S+ takes (?P<bits>[\d.]+) bits per weight in its (?P<count>\d+) matrices \((?P<weights>[\d,]+) weights\) at an "
        r"SQNR of the outputs of (?P<height>[\d.]+)(?: ± [\d.]+)? dB, .*",
        chosen_bits,
    ),
    (
        r"The budget sqnr>=(?P<bound>[\d.]+)dB was kept on [\d,]+ other samples, at an SQNR of the outputs of "
        r"(?P<height>[\d.]+)(?: ± (?P<spread>[\d.]+))? dB\.",
        kept_budget,
    ),
    (r"At a divergence of (?P<level>[\d.]+), between measured points, ours takes (?P<bits>[\d.]+) bits per weight\.", ours_at_level),
    (r"(?P<name>.*) takes (?P<bits>[\d.]+) there: ours takes (?P<share>[\d.]+) % (?P<word>fewer|more) bits\.", ours_beside),
    (
        r"At the divergence of (?P<name>.*), (?P<level>[\d.]+), that takes (?P<bits>[\d.]+) bits and ours (?P<same>[\d.]+): "
        r"(?P<share>[\d.]+) % (?P<word>fewer|more) bits\.",
        ours_at_that_of,
    ),
    (
        r"Predicted of a fit and second moments, the rate of the median matrix is (?P<nearest>[\d.]+) % off for the nearest "
        r"multiples and (?P<RDOQ>[\d.]+) % for RDOQ, and the gain of error feedback (?P<gain>[\d.]+) dB\.",
        predicted_medians,
    ),
    (r"Bits per weight at the same distortion, between measured points: (?P<all>.*)\.", other_bits),
    (r"That is (?P<share>[\d.]+) % fewer bits than the nearest multiples of steps .*", fewer_than_nearest),
    (r"SQNR with entropy-coded codes, relative to a uniform quantizer of the same rate: (?P<ranked>.*?)\. (?P<why>.*)", beside_uniform),
    (r"Entropy coding saves from (?P<least>[\d.]+) \((?P<a>\S+)\) to (?P<most>[\d.]+) bits per weight \((?P<b>\S+)\)\.", saved_bits),
    (r"Over the entropy of (?P<name>\w+)'s codes, tables included: .*", over_entropy),
    (r"The model's loss changes by at most (?P<limit>[\d.]+) nats per token with (?P<names>.*)\.", losses_within),
    (r"Without pruning, (?P<name>\w+) rounds (?P<share>[\d.]+) % of the weights to zero \(underflow\)\.", underflow),
    (
        r"In (?P<name>\w+), at most (?P<share>\d+) % of the weights can be pruned within 1 % of the loss without pruning "
        r"\(pattern (?P<pattern>\S+), (?P<scope>\w+)\), at (?P<bits>[\d.]+) bits per weight instead of (?P<before>[\d.]+)\.",
        prunable,
    ),
    (
        r"With (?P<share>\d+) % pruned \(scope (?P<scope>\w+), the better one\) and no retraining, (?P<name>\w+) takes "
        r"(?P<bits>[\d.]+) bits per weight and the loss rises by (?P<rise>[\d.]+) .*",
        far_pruned,
    ),
    (r"Shape (?P<shape>[\d.]+): 8 bits .*", best_members),
    (
        r"No one rule for powers of two is best everywhere: of (?P<count>\d+) combinations of element format and block size, "
        r"(?P<rules>.*); the best gains (?P<low>[+-][\d.]+) to (?P<high>[+-][\d.]+) dB over OCP's floor\.",
        no_one_rule,
    ),
    (
        r"(?P<elements>\w+), SQNR relative to OCP's floor: the best rule is (?P<best>.*); searching the least squared error "
        r"gains (?P<low>[+-][\d.]+)(?: to (?P<high>[+-][\d.]+))? dB over that\.",
        best_rule,
    ),
    (r"With powers of two the best rule is .*", kinds_differ),
    (r"Where scales are not powers of two, the best rule, and its gain over nearest: .*", other_scales),
    (
        r"(?P<elements>\w+): at no more bits \(to 0\.01\), scales that are not powers of two are better than the best powers "
        r"of two at (?P<better>\d) of (?P<of>\d) block sizes, by up to (?P<gain>[\d.]+) dB \((?P<scheme>\S+) beside (?P<block>\w+)\)\.",
        not_powers_of_two,
    ),
    (
        r"(?P<scheme>\S+) \((?P<bits>[\d.]+) bits, (?P<height>[\d.]+) dB\) is (?P<below>[\d.]+) dB below (?P<by>\S+), the "
        r"best that was tried at no more bits\.",
        dominated,
    ),
    (r"(?P<what>As stored|With entropy-coded codes), \d+ of (?P<of>\d+) schemes are not dominated in bits and SQNR, .*", front),
    (r"In float32 the loss of \S+ is (?P<loss>[\d.]+) nats per token, .*", base_loss),
    (
        r"(?P<where>Weights[^:]*?), accumulator (?P<acc>\w+): (?P<best>[\w ]+?) has the lowest cost, (?P<cost>[+-][\d.]+) ± "
        r"[\d.]+\.(?P<rest>.*) By divergence from float32's predictions: (?P<ranking>.*)\.",
        lowest_cost,
    ),
    (
        r"Accumulator (?P<other>\w+) in place of exact changes the loss by at most (?P<most>[\d.]+) "
        r"\((?P<change>[+-][\d.]+) ± [\d.]+: (?P<name>[\w ]+), (?P<at>[^)]+)\); .* of (?P<of>\d+) cases;.*",
        accumulators_compared,
    ),
    (r"Rounding residual in place of nearest-even adds .*", modes_compared),
    (
        r"(?P<kind>Weights[^:]*): scales per output channel and token in place of one scale per tensor take the divergence of "
        r"(?P<pairs>[^.]*(?:\.\d+[^.]*)*)\. .*",
        finer_scales,
    ),
    (r"\S+ gives \d+ embeddings of \S+, each next to the original's\.", None),
    (r"The loss of \S+ on \S+ is [\d.]+ nats per token .*", None),
    (r"Rounding weights, by [^:]*: (?P<ranked>.*)\.", rounding_ranked),
    (r"Closest to the original for their bits per weight: .*", closest_for_bits),
    (r"Beaten by one that takes no more bits \(within 0\.1\): (?P<all>.*)", beaten),
    (r"Layers to keep, by the effect of each alone in \w+: .* These \d+ of \d+ layers have (?P<share>\d+) % .*", layers_to_keep),
    (r"By the loss alone, \d+ windows do not tell these from the original \(within 2 standard errors\): (?P<names>.*)\.", like_the_original),
    (r"Activations: \d+ of \d+ layers are given channels .*", None),
    (r"The exact product of two codes, as significand and exponent, is .*", area_products),
    (r"RF8 weight times INT8 activation is .*", area_mixed),
    (r"The multiply-accumulate unit with an exact sum .*", area_mac),
    (r"Against INT8 throughout, .*", area_int8),
    (r"Error on the same weights, SQNR: .*", area_errors),
    (r"(?P<what>RF8 weights times INT8 activations|Both operands in the format): .*", dot_sizes),
    (r"SQNR of the weights in RF8: .*", dot_weights),
    (r"Cut off 13 bits below the largest exponent .*", dot_gates),
    (r"13 bits leave \d+ dB of the sum, 25 bits \d+ dB: far more than rounding the operands to 8 bits does\.", dot_bits),
    (r"A fused multiply-add to float32 takes (?P<gates>\d+) gates for each product, (?P<times>[\d.]+) times as many as .*", fma_gates),
    (r"(?:\S+: )?(?P<weights>[\d,]+) weights in (?P<tensors>\d+) tensors\.", all_weights),
    (
        r"The generalized Gaussians fitted to (?P<count>\d+) of them have shapes (?P<low>[\d.]+) to (?P<high>[\d.]+), median "
        r"(?P<median>[\d.]+) \(.*",
        shapes_fitted,
    ),
    (
        r"Generalized Gaussians fitted to (?P<count>\d+) of the \d+ tensors have shape (?P<low>[\d.]+) to (?P<high>[\d.]+), "
        r"median (?P<median>[\d.]+) \([^)]*\)\. Pooled, they fit shape (?P<shape>[\d.]+); (?P<costs>.*)",
        shapes_and_pool,
    ),
    (
        r"Averaged over the weights, a Gaussian for each tensor costs (?P<gauss>[\d.]+) bits per weight more than a "
        r"generalized Gaussian, and a Laplace density (?P<laplace>[\d.]+)\. .* in (?P<count>\d+) of (?P<of>\d+) tensors, .*",
        mean_costs,
    ),
    (r"A Gaussian is as good as a generalized Gaussian in .*", gaussian_as_good),
    (r"Another family describes (?P<count>\d+) tensors \((?P<share>[\d.]+) % of the weights\) better .*", another_family),
    (r"The ML, moment and half-moment estimates of the shape disagree in (?P<count>\d+) of (?P<of>\d+) tensors: .*", estimates_disagree),
    (r"Fitted in groups of neighbouring channels, (?P<of>\d+) tensors .* The groups differ in (?P<count>\d+) of them.*", groups_differ),
    (r"The shape of the tensor is below that of every group in .*", below_every_group),
    (r"A tensor pools its channels: .*", rises_at_equal_rms),
    (r"Pooled as they are, the weights look like shape .*", pooled_shapes),
    (r"(?P<count>\d+) tensors have no trusted fit and are left out above: .*", not_trusted),
    (r"The values of .* do not lie about zero, where all these densities have their centre\.", off_centre),
    (
        r"For accuracy take (?P<best>\S+): (?P<height>[\d.]+) dB at [\d.]+ bits per weight(?:; for size it is the choice too, "
        r"(?P<bits>[\d.]+) bits with entropy coding|\. For size take (?P<small>\S+): (?P<coded>[\d.]+) bits per weight with "
        r"entropy coding, (?P<less>[\d.]+) dB less accurate)\.",
        report_advice,
    ),
    (r"Figures are of what 'rf8sim quantize -f SCHEME' does by default: it keeps (?P<kept>\d+) of (?P<of>\d+) tensors \((?P<share>[\d.]+) % .*", report_kept),
    (r"Most accurate is .*", report_accurate),
    (r"Entropy-coded by rANS, with a table per tensor and the scales, bits per weight are: (?P<all>.*)", report_coded),
    (r"(?P<name>[\w/]+) rounds (?P<share>[\d.]+) % of the weights to zero\.", report_zeros),
    (r"Check (?P<count>\d+) tensors of (?P<of>\d+) \(.*", report_guards),
]  # fmt: skip
"""Sentences, and what of the tables must hold for them; None where a sentence compares nothing."""


def claims_of(page):
    for sentence in page.sentences:
        matches = [(match, check) for pattern, check in CLAIMS if (match := re.fullmatch(pattern, sentence))]
        assert len(matches) == 1, f"{len(matches)} entries of CLAIMS are about: {sentence}"
        yield sentence, *matches[0]


def check(page):
    failures = []
    for sentence, match, holds in claims_of(page):
        try:
            if holds:
                holds(page, match)
        except (AssertionError, KeyError, StopIteration, ValueError) as problem:
            failures.append(f"{sentence}\n    {type(problem).__name__}: {problem}")
    return failures


@pytest.mark.parametrize("name", NAMES)
def test_every_sentence_follows_from_its_table(name):
    page = Page((ROOT / "reports" / f"{name}.md").read_text(encoding="utf-8"))
    assert page.sentences
    failures = check(page)
    assert not failures, "\n\n".join(failures)


def test_every_page_with_a_verdict_is_checked():
    with_verdict = [
        path.relative_to(ROOT / "reports").with_suffix("").as_posix()
        for path in (ROOT / "reports").glob("**/*.md")
        if any(f"\n{heading}\n" in path.read_text(encoding="utf-8") for heading in HEADINGS)
    ]
    assert sorted(with_verdict) == sorted(NAMES)


def opposite(sentence):
    """The sentence with every sign and every word of comparison turned round, or None if it has none that matters."""
    words = {"larger": "smaller", "smaller": "larger", "worse": "better", "better": "worse", "+": "-", "-": "+"}
    pattern = r"\b(?:larger|smaller)\b|(?<= dB )(?:worse|better)\b|(?<![\w.])[+-](?=\d)(?!0\.0+\b)"
    turned = re.sub(pattern, lambda match: words[match[0]], sentence)
    return None if turned == sentence else turned


@pytest.mark.parametrize("name", NAMES)
def test_the_opposite_is_seen(name):
    """Every sentence with a sign, turned round, fails."""
    text = (ROOT / "reports" / f"{name}.md").read_text(encoding="utf-8")
    unseen = []
    for sentence in Page(text).sentences:
        if (turned := opposite(sentence)) is not None:
            page = Page(text.replace(sentence, turned))
            page.sentences = [turned, *(other for other in page.sentences if other != turned)]
            if not any(failure.startswith(turned) for failure in check(page)):
                unseen.append(turned)
    assert unseen == []

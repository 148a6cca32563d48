"""Sections of a page that compares scale modes, block sizes and scale formats."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from ...studies.scheme_search import MODES, Group, SchemeSearch, SearchedScheme, rate
from ..figures import scheme_search as figures
from ..tables.table import MOST_ROWS, Column, Table
from .page import Section

__all__ = ["all_schemes", "brief", "fronts", "kinds", "method", "modes", "verdict"]

POWERS = "e8m0fnu"


# --- tables -----------------------------------------------------------------------------------------------------------


def brief(search: SchemeSearch) -> Table:
    """Return the table for a terminal: modes of scales that are powers of two, or of others if there are none."""
    return mode_tables(search)[0]


def mode_tables(search: SchemeSearch) -> tuple[Table, ...]:
    """Compare the modes at each element format, scale format and block size."""
    groups = search.groups()
    powers = [group for group in groups if group.scale_format == POWERS]
    others = [group for group in groups if group.scale_format != POWERS]
    tables = [
        _mode_table(search, title, some)
        for title, some in (("Scales that are powers of two", powers), ("Other scales", others))
        if some
    ]
    return tuple(tables)


def _mode_table(search: SchemeSearch, title: str, groups: Sequence[Group]) -> Table:
    tried = {result.mode for group in groups for result in group.results}
    usual = groups[0].baseline.mode
    names = [mode for mode in MODES if mode in tried and mode != usual]
    columns = [Column("elements"), Column("scales"), Column("block"), Column(f"{usual}, dB", ".2f")]
    columns += [Column(f"{name} - {usual}", "+.2f") for name in names]
    columns += [Column("best rule"), Column("best on tensors"), Column("other best rule", "note")]
    rows = []
    for group in groups:
        gains = [None if (result := group.result(name)) is None else group.gain(result) for name in names]
        best = group.best()
        differing = [f"{kind}: {group.best(kind).mode}" for kind in _differing(search, group)]
        several = len(group.rules) > 1
        rows.append((
            group.element.name, group.scale_format, group.block, group.baseline.sqnr_db(), *gains,
            best.mode if several else None, f"{group.wins(best)} of {len(search.tensors)}" if several else None,
            "; ".join(differing) or None,
        ))  # fmt: skip
    return Table(title, tuple(columns), tuple(rows))


def _differing(search: SchemeSearch, group: Group) -> list[str]:
    """Return the kinds of tensors on which another rule is better than the one that is best on all."""
    best = group.best()
    return [kind for kind in search.kinds if group.best(kind).sqnr_db(kind) > best.sqnr_db(kind)]


def scheme_table(search: SchemeSearch, results: Iterable[SearchedScheme], title: str, *, folded: bool = False) -> Table:
    """List schemes with everything that was measured."""
    stored, coded = search.front(), search.front(coded=True)
    columns = (
        Column("scheme"), Column("mode"), Column("bits/w.", ".3f"), Column("coded bits/w.", ".3f"),
        Column("SQNR, dB", ".2f"), Column("worst tensor, dB", ".2f"), Column("worst tensor"),
        Column("clipped, %", "percent"), Column("rounded to zero, %", "percent"), Column("not dominated in"),
    )  # fmt: skip
    rows = []
    for result in results:
        total, worst = result.total, result.worst
        fronts = [name for name, front in (("bits", stored), ("coded bits", coded)) if result in front]
        rows.append((
            result.name, result.mode, total.bits_per_weight, total.coded_bits_per_weight, total.sqnr_db,
            result.tensor_db[worst], search.tensors[worst].name, total.clipped_share, total.zeroed_share,
            " and ".join(fronts) or None,
        ))  # fmt: skip
    return Table(title, columns, tuple(rows), folded=folded)


# --- the verdict ------------------------------------------------------------------------------------------------------


def verdict(search: SchemeSearch) -> list[str]:
    """Say in sentences which scale mode is best, what it gains, and which schemes no other dominates.

    Parameters
    ----------
    search : SchemeSearch
        The measurements.

    Returns
    -------
    list of str
        Sentences.
    """
    choices = [group for group in search.groups() if len(group.rules) > 1]
    powers = [group for group in choices if group.scale_format == POWERS]
    sentences = [_overall(powers)] if powers else []
    elements = dict.fromkeys(group.element.name for group in powers)
    sentences += [_best_rules(search, name, [g for g in powers if g.element.name == name]) for name in elements]
    if powers:
        sentences.append(_by_kind(search, powers))
    others = [group for group in choices if group.scale_format != POWERS]
    sentences += [_other_scales(others)] if others else []
    sentences += _powers_against_others(search)
    sentences += _references(search)
    sentences += [_front(search, coded) for coded in (False, True)]
    return sentences


def _overall(groups: Sequence[Group]) -> str:
    """Answer which rule for powers of two is right."""
    counts = _counts(group.best().mode for group in groups)
    gains = [group.gain(group.best()) for group in groups]
    if len(counts) == 1:
        [mode] = counts
        if mode == "floor":
            return f"{_cases(len(groups))}: of the rules for powers of two none gains over OCP's floor."
        return f"{_cases(len(groups))}: {mode} is the best rule for powers of two, {_range(gains)} over OCP's floor."
    parts = ", ".join(f"{mode} in {count}" for mode, count in counts.items())
    return (
        f"No one rule for powers of two is best everywhere: of {len(groups)} combinations of element format and block "
        f"size, {parts}; the best gains {_range(gains)} over OCP's floor."
    )


def _cases(count: int) -> str:
    return "At the one element format and block size" if count == 1 else f"At all {count} element formats and blocks"


def _best_rules(search: SchemeSearch, element: str, groups: Sequence[Group]) -> str:
    """Name the best rule for powers of two at each block size, and what a search adds."""
    parts = []
    for mode, run in itertools.groupby(groups, key=lambda group: group.best().mode):
        some = list(run)
        blocks = _listed([_block(group) for group in some])
        equal = [r.mode for r in some[0].rules if r.mode != mode and all(_as_good(group, r.mode) for group in some)]
        part = f"{mode}{f' (as good: {_listed(equal)})' if equal else ''} at {blocks}"
        tensors = f"best on {_span([group.wins(group.best()) for group in some])} of {len(search.tensors)} tensors"
        if mode == some[0].baseline.mode:
            seconds = [group.gain(_second(group)) for group in some]
            part += f" ({_range(seconds)} for the next, {tensors})"
        else:
            part += f" ({_range([group.gain(group.best()) for group in some])}, {tensors})"
        parts.append(part)
    text = f"{element}, SQNR relative to OCP's floor: the best rule is {', '.join(parts)}"
    searched = [(group, result) for group in groups if (result := group.result("mse")) is not None]
    if searched:
        over = [result.sqnr_db() - group.best().sqnr_db() for group, result in searched]
        text += f"; searching the least squared error gains {_range(over)} over that"
    return text + "."


def _as_good(group: Group, mode: str) -> bool:
    """Return whether a rule is as good as the best to a hundredth of a dB."""
    result = group.result(mode)
    return result is not None and group.best().sqnr_db() - result.sqnr_db() < 0.005


def _other_scales(groups: Sequence[Group]) -> str:
    """Name the best rule where scales are not powers of two."""
    parts = []
    for element, scale_format in dict.fromkeys((group.element.name, group.scale_format) for group in groups):
        some = [g for g in groups if (g.element.name, g.scale_format) == (element, scale_format)]
        counts = _counts(group.best().mode for group in some)
        gains = _range([group.gain(group.best()) for group in some])
        parts.append(f"{element} with {scale_format} {_listed(list(counts))} ({gains})")
    return f"Where scales are not powers of two, the best rule, and its gain over nearest: {'; '.join(parts)}."


def _second(group: Group) -> SearchedScheme:
    return max((r for r in group.rules if r is not group.best()), key=lambda result: result.sqnr_db())


def _by_kind(search: SchemeSearch, groups: Sequence[Group]) -> str:
    if len(search.kinds) < 2:
        return f"All {len(search.tensors)} tensors are of one kind ({search.kinds[0]})."
    other: dict[str, list[Group]] = {}
    for group in groups:
        for kind in _differing(search, group):
            other.setdefault(kind, []).append(group)
    names = _listed(list(search.kinds))
    if not other:
        return f"With powers of two the best rule is the same for all kinds of tensors ({names})."
    parts = []
    for kind, some in other.items():
        lost = max(group.best(kind).sqnr_db(kind) - group.best().sqnr_db(kind) for group in some)
        parts.append(f"{kind} has another in {len(some)} of {len(groups)} combinations (up to {lost:.2f} dB)")
    return f"With powers of two the best rule is not the same for all kinds of tensors ({names}): {'; '.join(parts)}."


def _powers_against_others(search: SchemeSearch) -> list[str]:
    """Compare powers of two with other scales of no more bits."""
    groups = search.groups()
    sentences = []
    for element in dict.fromkeys(group.element for group in groups):
        of_element = [group for group in groups if group.element == element]
        others = [r for group in of_element if group.scale_format != POWERS for r in group.results]
        gaps = []
        for group in (group for group in of_element if group.scale_format == POWERS):
            best = max(group.results, key=lambda result: result.sqnr_db())
            # An outer scale takes 32 bits for a tensor: that is no more bits.
            as_small = [r for r in others if rate(r, False) <= rate(best, False) + 0.01]
            if as_small:
                rival = max(as_small, key=lambda result: result.sqnr_db())
                gaps.append((rival.sqnr_db() - best.sqnr_db(), group, rival))
        if not gaps:
            continue
        worst = max(gaps, key=lambda gap: gap[0])
        lost = sum(gap > 0 for gap, *_ in gaps)
        text = f"{element.name}: at no more bits (to 0.01), scales that are not powers of two are better"
        if lost:
            text += (
                f" than the best powers of two at {lost} of {len(gaps)} block sizes, by up to {worst[0]:.2f} dB "
                f"({worst[2].name} beside {_block(worst[1])})."
            )
        else:
            text += " at none of the block sizes."
        sentences.append(text)
    return sentences


def _references(search: SchemeSearch) -> list[str]:
    """Compare schemes of other kinds with the best that was tried at no more bits."""
    sentences = []
    for other in search.references:
        as_small = [r for r in search.results if rate(r, False) <= rate(other, False) + 0.01]
        if not as_small:
            continue
        best = max(as_small, key=lambda result: result.sqnr_db())
        gap = other.sqnr_db() - best.sqnr_db()
        relation = f"{-gap:.2f} dB below" if gap < 0 else f"{gap:.2f} dB above"
        sentences.append(f"{_with_numbers(other)} is {relation} {best.name}, the best that was tried at no more bits.")
    return sentences


def _front(search: SchemeSearch, coded: bool) -> str:
    front = search.front(coded)
    count = len(search.results) + len(search.references)
    powers = sum(r.scheme.scales is not None and r.scheme.scales.format == POWERS for r in front)
    shown = [f"{r.name} ({rate(r, coded):.2f} bits, {r.sqnr_db():.2f} dB)" for r in _few(front)]
    some = "among them " if len(shown) < len(front) else ""
    return (
        f"{'With entropy-coded codes' if coded else 'As stored'}, {len(front)} of {count} schemes are not dominated in "
        f"bits and SQNR, {powers} of these with powers of two: {some}{'; '.join(shown)}."
    )


def _few(front: Sequence[SearchedScheme]) -> list[SearchedScheme]:
    """Return the ends of a front and some between them."""
    if len(front) <= 5:
        return list(front)
    return [front[round(i * (len(front) - 1) / 4)] for i in range(5)]


def _with_numbers(result: SearchedScheme) -> str:
    return f"{result.name} ({rate(result, False):.2f} bits, {result.sqnr_db():.2f} dB)"


def _counts(modes: Iterable[str]) -> dict[str, int]:
    listed = list(modes)
    return {mode: listed.count(mode) for mode in dict.fromkeys(listed)}


def _block(group: Group) -> str:
    return group.block.removeprefix("1x")


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


def _range(decibels: Sequence[float]) -> str:
    low, high = (f"{value:+.2f}".replace("-0.00", "+0.00") for value in (min(decibels), max(decibels)))
    return f"{low} dB" if low == high else f"{low} to {high} dB"


# --- sections ---------------------------------------------------------------------------------------------------------


def modes(search: SchemeSearch, with_figures: bool) -> Section:
    """Compare the scale modes."""
    drawn = (figures.gains(search),) if with_figures else ()
    words = (
        "SQNR over all tensors in dB of the usual rule, and what the others have over it. The best rule is the best of "
        "those that need only the largest magnitude of a block; mse tries every scale, so that no rule can be better "
        "than it. Best on tensors: on how many tensors by themselves no other rule is better.",
    )
    return Section("modes", "Which scale mode", words, mode_tables(search), drawn)


def fronts(search: SchemeSearch, with_figures: bool) -> Section:
    """Show the schemes that no other dominates."""
    both = {id(result): result for coded in (False, True) for result in search.front(coded)}
    ranked = sorted(both.values(), key=lambda result: (rate(result, False), result.sqnr_db()))
    drawn = (figures.fronts(search),) if with_figures else ()
    words = (
        "A scheme is dominated if another has no more bits and no less SQNR, and not the same of both. Bits are those "
        "stored, or those with the codes of each tensor coded by rANS; scales are counted as they are in both.",
    )
    table = scheme_table(search, ranked, "Schemes that are not dominated")
    return Section("fronts", "Bits against SQNR", words, (table,), drawn)


def kinds(search: SchemeSearch, _: bool) -> Section | None:
    """Show the best rule for each kind of tensor."""
    groups = [group for group in search.groups() if len(group.rules) > 1]
    if len(search.kinds) < 2 or not groups:
        return None
    columns = [Column("elements"), Column("scales"), Column("block")]
    for kind in search.kinds:
        columns += [Column(kind), Column("dB", "+.2f")]
    rows = []
    for group in groups:
        row = [group.element.name, group.scale_format, group.block]
        cells = [(best.mode, group.gain(best, kind)) for kind in search.kinds for best in [group.best(kind)]]
        rows.append((*row, *itertools.chain.from_iterable(cells)))
    words = (
        "The best rule for each kind of tensors together, and what it has over the usual one (floor for powers of two, "
        "nearest for other scales).",
    )
    table = Table("Best rule by kind", tuple(columns), tuple(rows), folded=len(rows) > MOST_ROWS)
    return Section("kinds", "By kind of tensor", words, (table,))


def all_schemes(search: SchemeSearch, _: bool) -> Section:
    """List everything."""
    both = (*search.results, *search.references)
    table = scheme_table(search, both, "All schemes", folded=len(both) > MOST_ROWS // 2)
    return Section("schemes", "All schemes", (), (table,))


def method(search: SchemeSearch, _: bool) -> Section:
    """Say how it was measured."""
    weights = max((result.total.weights for result in search.results), default=0)
    sampled = f", every {search.every} rows of each matrix from the first on" if search.every > 1 else ""
    words = (
        f"{len(search.tensors)} tensors of {search.checkpoint} with two or more axes, {weights:,} weights{sampled}. "
        "Each scheme quantizes every tensor; SQNR is that of all weights together, so tensors of large weights count "
        "most. What is compared is the error of weights, not that of a model's outputs.",
        "Scales of e4m3fn have one float32 scale for each tensor, as those of NVFP4. A scale that takes more than half "
        "a bit for each of its elements is not tried. Named schemes of other kinds with elements of the same width "
        "(RF formats, NF4, GGUF's) are measured beside and take part in the fronts.",
    )
    tried = {result.mode for result in search.results}
    terms = [(name, mode.summary) for name, mode in MODES.items() if name in tried]
    terms += [
        ("bits/w.", "codes at the width of the format, scales and outer scales"),
        (
            "coded bits/w.",
            "codes of each tensor coded by rANS, with tables and heads, and scales as stored",
        ),
        ("clipped", "weights beyond the largest or below the lowest value times their scale"),
        ("rounded to zero", "weights that are not zero and become zero"),
        ("worst tensor", "the one of the least SQNR"),
    ]
    return Section("method", "How it was measured", words, terms=tuple(terms))

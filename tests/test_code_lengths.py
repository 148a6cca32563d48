"""Code lengths against independent implementations: constriction, a heap, brute force, and the definitions."""

import heapq
import itertools
import math

import constriction
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rf8sim import get_format
from rf8sim.entropy.code_lengths import (
    CODES,
    code_lengths,
    low_plane_bits,
    quantized_frequencies,
    symbol_order,
    zigzag_order,
)
from rf8sim.entropy.coding import compress
from rf8sim.entropy.prefix_codes import canonical_codes, exp_golomb_lengths, golomb_rice_lengths, huffman_lengths

GENERATOR = np.random.default_rng(11)
COUNTS = [
    np.maximum(GENERATOR.geometric(0.01, size=n), 1) if n > 1 else np.array([9]) for n in (1, 2, 3, 17, 100, 224, 256)
] + [np.array([10**9, 1, 1, 1]), np.array([1000] + 30 * [7]), np.full(256, 5), 2 ** np.arange(20)]


def heap_cost(counts: list[int]) -> int:
    """Total bits of a Huffman code: the sum of all inner nodes of the tree."""
    heap, total = sorted(counts), 0
    while len(heap) > 1:
        total += (node := heapq.heappop(heap) + heapq.heappop(heap))
        heapq.heappush(heap, node)
    return total


@pytest.mark.parametrize("counts", COUNTS, ids=lambda counts: f"{counts.size}:{counts.max()}")
def test_huffman_costs_what_the_heap_says(counts):
    lengths = huffman_lengths(counts, 15)
    cost = int(np.dot(counts, lengths))
    if counts.size <= 16 or heap_depth(counts.tolist()) <= 15:
        assert cost == heap_cost(counts.tolist())
    else:
        assert cost >= heap_cost(counts.tolist())
    assert counts.size == 1 or sum(2.0**-lengths) == 1.0


def heap_depth(counts: list[int]) -> int:
    heap = [(count, i, 0) for i, count in enumerate(counts)]
    heapq.heapify(heap)
    while len(heap) > 1:
        a, b = heapq.heappop(heap), heapq.heappop(heap)
        heapq.heappush(heap, (a[0] + b[0], a[1], max(a[2], b[2]) + 1))
    return heap[0][2]


def test_huffman_is_constrictions():
    for counts in COUNTS:
        if not 1 < counts.size <= 256 or heap_depth(counts.tolist()) > 15:
            continue
        tree = constriction.symbol.huffman.EncoderHuffmanTree(counts.astype(np.float64))
        bits = 0
        for symbol, count in enumerate(counts):
            coder = constriction.symbol.QueueEncoder()
            coder.encode_symbol(symbol, tree)
            bits += int(count) * coder.get_compressed_and_bitrate()[1]
        assert np.dot(counts, huffman_lengths(counts, 15)) == bits


@given(counts=st.lists(st.integers(1, 60), min_size=2, max_size=6), limit=st.integers(3, 5))
def test_limited_huffman_is_best_of_all_codes(counts, limit):
    best = (
        min(
            sum(c * n for c, n in zip(counts, lengths, strict=True))
            for lengths in itertools.product(range(1, limit + 1), repeat=len(counts))
            if sum(2 ** (limit - n) for n in lengths) <= 2**limit
        )
        if len(counts) <= 5
        else None
    )
    lengths = huffman_lengths(counts, limit)
    assert lengths.max() <= limit
    assert sum(2.0**-lengths) == 1.0
    if best is not None:
        assert np.dot(counts, lengths) == best


@pytest.mark.parametrize("limit", [8, 9, 10, 12, 15])
def test_canonical_codes_are_prefix_free_and_ascend(limit):
    lengths = huffman_lengths(COUNTS[5], limit)
    texts = [f"{code:0{n}b}" for code, n in zip(canonical_codes(lengths), lengths, strict=True)]
    assert len({len(text) for text in texts}) > 1 or limit == 8
    for a, b in itertools.pairwise(sorted(texts)):
        assert not b.startswith(a)
    by_code = sorted(range(len(texts)), key=lambda symbol: texts[symbol].ljust(limit, "0"))
    assert by_code == sorted(range(len(texts)), key=lambda symbol: (lengths[symbol], symbol))


@pytest.mark.parametrize("lengths", [[1, 1, 1], [2, 2, 2], [1, 2], [3]])
def test_lengths_of_no_complete_code(lengths):
    with pytest.raises(ValueError, match="no complete prefix code"):
        canonical_codes(lengths)


# --- Exp-Golomb and Golomb-Rice ---------------------------------------------------------------------------------------


def exp_golomb_text(n: int, k: int) -> str:
    """Write the quotient plus 1 in binary after its length less 1 in zeros, then k bits, as the standards do."""
    head = f"{(n >> k) + 1:b}"
    return "0" * (len(head) - 1) + head + (f"{n & ((1 << k) - 1):0{k}b}" if k else "")


def rice_text(n: int, k: int) -> str:
    return "1" * (n >> k) + "0" + (f"{n & ((1 << k) - 1):0{k}b}" if k else "")


@pytest.mark.parametrize("k", range(9))
def test_lengths_are_those_of_written_codes(k):
    ranks = np.arange(256)
    assert exp_golomb_lengths(ranks, k).tolist() == [len(exp_golomb_text(n, k)) for n in range(256)]
    assert golomb_rice_lengths(ranks, k).tolist() == [len(rice_text(n, k)) for n in range(256)]


@pytest.mark.parametrize("k", range(7))
def test_the_stream_is_the_written_codes(k):
    """Bit for bit: the first of four streams of a block, read from the lowest bit of each byte."""
    codes = np.repeat(np.arange(20, dtype=np.uint8), np.arange(20, 0, -1) ** 2)
    blob = compress(codes, "eg", parameter=k)
    if blob[5] != 3:
        pytest.fail("not stored as Exp-Golomb")
    place = 24 + 20 + 8 + 4 + 12  # head, table, index, checksum, ends of streams
    bits = "".join(f"{byte:08b}"[::-1] for byte in blob[place:])
    expected = "".join(exp_golomb_text(int(code), k) for code in codes[: codes.size // 4])
    assert bits.startswith(expected)


@pytest.mark.parametrize("code", ["exp-golomb", "golomb-rice"])
def test_k_is_the_best(code):
    counts = COUNTS[5]
    chosen = code_lengths(counts, code)
    others = {k: code_lengths(counts, code, parameter=k).payload_bits for k in range(9)}
    assert others[chosen.parameter] == chosen.payload_bits == min(others.values())
    assert others[0] > chosen.payload_bits


def test_zigzag_order_is_the_order_of_values():
    rf8 = get_format("rf8")
    order = zigzag_order(rf8.values)
    values = rf8.values[order][np.isfinite(rf8.values[order])]
    assert sorted(order.tolist()) == list(range(256))
    assert np.all(np.diff(np.abs(values)) >= 0)
    int8 = zigzag_order(get_format("int8").values)
    assert get_format("int8").values[int8][:5].tolist() == [0, 1, -1, 2, -2]


def test_an_order_of_values_costs_more_than_one_of_counts():
    counts = np.bincount(np.random.default_rng(0).integers(60, 90, 5000), minlength=256)
    order = zigzag_order(get_format("rf8").values).tolist()
    by_value, by_count = (code_lengths(counts, "exp-golomb", parameter=0, order=given) for given in (order, None))
    assert by_count.payload_bits < by_value.payload_bits
    assert symbol_order(counts)[0] == np.argmax(counts)


# --- rANS -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", COUNTS[1:], ids=lambda counts: f"{counts.size}:{counts.max()}")
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_frequencies_are_the_best(counts, bits):
    """Against the plain way to the optimum of a separable concave sum: unit after unit to where it is worth most."""
    expected = np.ones(counts.size, dtype=np.int64)
    heap = [(-count * math.log(2), i) for i, count in enumerate(counts.tolist())]
    heapq.heapify(heap)
    for _ in range((1 << bits) - counts.size):
        _, i = heapq.heappop(heap)
        expected[i] += 1
        heapq.heappush(heap, (-int(counts[i]) * math.log1p(1 / int(expected[i])), i))
    found = quantized_frequencies(counts, (bits,))[0]
    assert found.sum() == 1 << bits
    assert found.min() >= 1
    cost = [float(np.dot(counts, bits - np.log2(f))) for f in (found, expected)]
    assert cost[0] == pytest.approx(cost[1], rel=1e-12)


def test_rans_has_constrictions_size():
    for n, p in ((224, 0.02), (16, 0.3), (100, 0.1)):
        codes = np.minimum(np.random.default_rng(n).geometric(p, size=200_000) - 1, n - 1).astype(np.uint8)
        counts = np.bincount(codes)
        share = (counts / counts.sum()).astype(np.float32)
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(codes.astype(np.int32), constriction.stream.model.Categorical(share, perfect=False))
        ours = len(compress(codes, "rans", block_size=1 << 20)) * 8
        table = code_lengths(counts, "rans").table_bits + 8 * 36
        assert ours - table == pytest.approx(coder.num_bits(), rel=5e-4)


@pytest.mark.parametrize("counts", COUNTS, ids=lambda counts: f"{counts.size}:{counts.max()}")
def test_no_code_is_below_the_entropy_and_every_code_is_decodable(counts):
    entropy = code_lengths(counts, "entropy")
    share = counts / counts.sum()
    assert entropy.bits_per_symbol == pytest.approx(float(-np.sum(share * np.log2(share))), abs=1e-12)
    for code in CODES:
        found = code_lengths(counts, code)
        assert found.payload_bits >= entropy.payload_bits * (1 - 1e-12)
        assert np.sum(2.0 ** -found.lengths[counts > 0]) <= 1 + 1e-9
        assert (found.table_bits == 0) == (code == "entropy")


# --- edges ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
def test_nothing_and_one_symbol(code):
    assert code_lengths(np.zeros(256, np.int64), code).total_bits == 0
    assert code_lengths([], code).bits_per_symbol == 0
    one = code_lengths([0, 0, 8], code)
    assert one.bits_per_symbol == (1.0 if code in ("exp-golomb", "golomb-rice") else 0.0)


# --- more than 256 symbols --------------------------------------------------------------------------------------------


@given(st.dictionaries(st.integers(0, 65535), st.integers(1, 10**6), max_size=60), st.integers(257, 65536))
def test_planes_by_their_definition(drawn, size):
    """The length of a symbol is that of its high bits and that of its low bits, each of all symbols that share them."""
    counts = np.zeros(size, np.int64)
    for symbol, count in drawn.items():
        counts[symbol % size] = count
    low = low_plane_bits(counts)
    high_counts, low_counts = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for symbol in np.flatnonzero(counts).tolist():
        high_counts[symbol >> low] += counts[symbol]
        low_counts[symbol % (1 << low)] += counts[symbol]
    for code in CODES[1:]:
        lengths = code_lengths(counts, code)
        high, rest = code_lengths(high_counts, code), code_lengths(low_counts, code)
        assert lengths.low_bits == low
        for symbol in np.flatnonzero(counts).tolist():
            assert lengths.lengths[symbol] == high.lengths[symbol >> low] + rest.lengths[symbol % (1 << low)]
        assert not lengths.lengths[counts == 0].any()
        assert lengths.table_bits == high.table_bits + rest.table_bits
        assert lengths.payload_bits == pytest.approx(high.payload_bits + rest.payload_bits)
        assert lengths.payload_bits >= 0.999999 * code_lengths(counts, "entropy").payload_bits or code != "rans"


@given(st.integers(9, 16), st.integers(0, 2**32))
def test_the_split_is_the_one_of_least_entropy(bits, seed):
    generator = np.random.default_rng(seed)
    codes = (generator.laplace(scale=generator.uniform(1, 2**bits / 4), size=20_000).astype(np.int64)) % (1 << bits)
    counts = np.bincount(codes, minlength=65536)

    def cost(low):
        planes = np.bincount(codes >> low), np.bincount(codes % (1 << low))
        return sum(-np.sum(p[p > 0] * np.log2(p[p > 0] / codes.size)) + 8 * np.count_nonzero(p) for p in planes)

    choices = range(max(int(codes.max()).bit_length() - 8, 1), 9)
    assert cost(low_plane_bits(counts)) <= min(map(cost, choices)) * (1 + 1e-12)


def test_the_entropy_of_65536_symbols_is_that_of_whole_symbols():
    counts = np.zeros(65536, np.int64)
    counts[[0, 0x0101]] = 500  # the planes alone would take a bit each
    assert code_lengths(counts, "entropy").bits_per_symbol == 1
    assert code_lengths(counts, "rans").bits_per_symbol == 2


@pytest.mark.parametrize(
    ("counts", "code", "options", "message"),
    [
        (
            [1, -1],
            "rans",
            {},
            "counts are at most 65536 whole numbers from 0 on, got dtype int64 of shape .2,. down to -1",
        ),
        ([0.5], "rans", {}, "counts are at most 65536 whole numbers"),
        (np.ones(65537, np.int64), "rans", {}, "codes of at most 16 bits: counts of 65536 symbols, got 65537"),
        (np.ones(257, np.int64), "exp-golomb", {"order": range(257)}, "an order is of at most 256 symbols"),
        ([1], "lzma", {}, "unknown code 'lzma'"),
        (np.ones(256, np.int64), "huffman", {"parameter": 7}, "256 symbols have no code of at most 7 bits"),
        ([1], "huffman", {"parameter": 16}, "lengths go from 0 to 15, got 16"),
        (np.ones(256, np.int64), "rans", {"parameter": 7}, "256 symbols need frequencies of 1 to 15 bits"),
        ([1, 1], "exp-golomb", {"parameter": 9}, "k must be an integer from 0 to 8, got 9"),
    ],
)
def test_bad_input(counts, code, options, message):
    with pytest.raises(ValueError, match=message):
        code_lengths(counts, code, **options)

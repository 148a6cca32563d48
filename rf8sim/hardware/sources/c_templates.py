"""The C text of a header's arithmetic. Capital words stand for what a format has: see `c_arithmetic`."""

from __future__ import annotations

__all__ = ["DIVIDE", "DRAW", "DRAW_FAR", "FAR", "OPEN", "SUMS"]

OPEN = """
/* Thresholds that 63 bits do not hold, ascending: the 64 bits before one, and those after them. */
typedef struct { uint8_t rounding, negative; int16_t octave; uint64_t before; uint32_t after[TAIL]; } NAME_open;
static const NAME_open NAME_open_thresholds[COUNT_OPEN] = {
ROWS
};

/* Return the significand with which a magnitude of more than 64 bits is to be compared. */
static inline uint64_t NAME_decide(const uint32_t *words, int top, int zeros, int octave, uint64_t significand,
                                   int rounding, int negative) {
    int low = 0, high = COUNT_OPEN, word;
    while (low < high) {
        int middle = (low + high) / 2;
        const NAME_open *at = &NAME_open_thresholds[middle];
        int below = at->rounding != rounding ? at->rounding < rounding
            : at->negative != negative ? at->negative < negative
            : at->octave != octave ? at->octave < octave : at->before < significand;
        if (below) low = middle + 1;
        else high = middle;
    }
    if (low < COUNT_OPEN) {
        const NAME_open *at = &NAME_open_thresholds[low];
        if (at->rounding == rounding && at->negative == negative && at->octave == octave
            && at->before == significand) {
            for (word = 0; word < TAIL; word++) {
                int place = top - 2 - word;
                uint32_t upper = place >= 0 ? words[place] : 0, lower = place > 0 ? words[place - 1] : 0;
                uint32_t bits = (uint32_t)(((uint64_t)upper << 32 | lower) >> (32 - zeros));
                if (bits != at->after[word]) return bits > at->after[word] ? significand + 1 : significand;
            }
            return significand;
        }
    }
    return significand | 1;
}
"""

SUMS = """
/* A sum of products, exact: two's complement in units of 2^UNIT, lowest word first, for up to 2^31 products. The last
 * word has what is not finite: 1 infinity, 2 minus infinity, 4 NaN. A sum starts as {{0}}. */
typedef struct { uint32_t words[WORDS + 1]; } NAME_sum;

/* A code's value, significand * 2^exponent; special: 1 infinity, 4 NaN. */
typedef struct { int negative, special, exponent; uint32_t significand; } NAME_number;

static inline NAME_number NAME_split(CODE code) {
    NAME_number number;
    double value = NAME_decode(code);
    uint64_t pattern, mantissa;
    memcpy(&pattern, &value, sizeof pattern);
    mantissa = pattern & 0xfffffffffffffu;
    number.negative = (int)(pattern >> 63);
    number.exponent = (int)(pattern >> 52 & 0x7ff);
    number.special = number.exponent != 0x7ff ? 0 : mantissa ? 4 : 1;
    number.significand = number.exponent ? (uint32_t)((mantissa | 1ull << 52) >> 29) : 0;
    number.exponent -= 1046;
    return number;
}

/* Add significand * 2^exponent, which is a whole number of units. */
static inline void NAME_add_term(NAME_sum *sum, int negative, uint64_t significand, int exponent) {
    int place = exponent - UNIT, word;
    uint64_t low = (significand & 0xffffffffu) << place % 32;
    uint64_t high = ((significand >> 32) << place % 32) + (low >> 32), carry = 0;
    uint32_t parts[3];
    parts[0] = (uint32_t)low;
    parts[1] = (uint32_t)high;
    parts[2] = (uint32_t)(high >> 32);
    place /= 32;
    for (word = 0; place + word < WORDS && (word < 3 || carry); word++) {
        uint64_t part = word < 3 ? parts[word] : 0, before = sum->words[place + word];
        before = negative ? before - part - carry : before + part + carry;
        sum->words[place + word] = (uint32_t)before;
        carry = before >> 32 & 1;
    }
}

/* Add a value. */
static inline void NAME_add_number(NAME_sum *sum, NAME_number x) {
    if (x.special) sum->words[WORDS] |= x.special == 4 ? 4u : 1u << x.negative;
    else if (x.significand) NAME_add_term(sum, x.negative, x.significand, x.exponent);
}

/* Add the product of two codes. */
static inline void NAME_accumulate(NAME_sum *sum, CODE a, CODE b) {
    NAME_number x = NAME_split(a), y = NAME_split(b);
    int negative = x.negative ^ y.negative, special = x.special | y.special;
    if (special) sum->words[WORDS] |= special & 4 || !x.significand || !y.significand ? 4u : 1u << negative;
    else if (x.significand && y.significand)
        NAME_add_term(sum, negative, (uint64_t)x.significand * y.significand, x.exponent + y.exponent);
}
OPEN_TABLE
/* The code of a magnitude in words of 32 bits and units of 2^unit. */
static inline CODE NAME_round_words(const uint32_t *words, int negative, int unit, int rounding, int overflow) {
    int top = WORDS - 1, zeros = 0, octave, word;
    uint64_t significand;
    uint32_t third, rest;
    while (top >= 0 && !words[top]) top--;
    if (top < 0) return NAME_ladder[negative][0];
    significand = (uint64_t)words[top] << 32 | (top > 0 ? words[top - 1] : 0);
    third = top > 1 ? words[top - 2] : 0;
    for (; !(significand >> 63); zeros++) significand <<= 1;
    significand |= (uint64_t)third << zeros >> 32;
    rest = (uint32_t)((uint64_t)third << zeros);
    for (word = 0; word < top - 2; word++) rest |= words[word];
    octave = 32 * top + 31 - zeros + unit;
    if (rest) OPEN_CALL
    return NAME_place(negative, octave, significand, rounding, overflow);
}

/* The code of a sum; of zero with the given sign, where the format has two. */
static inline CODE NAME_round_signed(const NAME_sum *sum, int zero_negative, int rounding, int overflow) {
    uint32_t words[WORDS], special = sum->words[WORDS], any = 0;
    int negative = (int)(sum->words[WORDS - 1] >> 31), word;
    uint64_t carry = 1;
    if (special) return special == 1 || special == 2 ? NAME_infinite[overflow][special - 1] : NAN_CODE;
    for (word = 0; word < WORDS; word++) {
        words[word] = sum->words[word];
        any |= words[word];
        if (negative) {
            carry += (uint32_t)~words[word];
            words[word] = (uint32_t)carry;
            carry >>= 32;
        }
    }
    return NAME_round_words(words, any ? negative : zero_negative, UNIT, rounding, overflow);
}

/* The code of a sum, rounded once; zero is +0. */
static inline CODE NAME_round_sum(const NAME_sum *sum, int rounding, int overflow) {
    return NAME_round_signed(sum, 0, rounding, overflow);
}

static inline CODE NAME_add_numbers(NAME_sum *sum, int first, int second, int rounding, int overflow) {
    /* Zeros of one sign keep it; what cancels is +0, and -0 when rounding down. */
    return NAME_round_signed(sum, first == second ? first : rounding == GUARD_DOWN, rounding, overflow);
}

/* a + b, rounded once. */
static inline CODE NAME_add(CODE a, CODE b, int rounding, int overflow) {
    NAME_sum sum = {{0}};
    NAME_number x = NAME_split(a), y = NAME_split(b);
    NAME_add_number(&sum, x);
    NAME_add_number(&sum, y);
    return NAME_add_numbers(&sum, x.negative, y.negative, rounding, overflow);
}

/* a - b, rounded once. */
static inline CODE NAME_subtract(CODE a, CODE b, int rounding, int overflow) {
    NAME_sum sum = {{0}};
    NAME_number x = NAME_split(a), y = NAME_split(b);
    y.negative = !y.negative;
    NAME_add_number(&sum, x);
    NAME_add_number(&sum, y);
    return NAME_add_numbers(&sum, x.negative, y.negative, rounding, overflow);
}

/* a * b + c, rounded once. */
static inline CODE NAME_fma(CODE a, CODE b, CODE c, int rounding, int overflow) {
    NAME_sum sum = {{0}};
    NAME_number z = NAME_split(c);
    NAME_accumulate(&sum, a, b);
    NAME_add_number(&sum, z);
    return NAME_add_numbers(&sum, NAME_split(a).negative ^ NAME_split(b).negative, z.negative, rounding, overflow);
}

/* The sum of n products, rounded once. */
static inline CODE NAME_dot(const CODE *a, const CODE *b, int n, int rounding, int overflow) {
    NAME_sum sum = {{0}};
    int lane;
    for (lane = 0; lane < n; lane++) NAME_accumulate(&sum, a[lane], b[lane]);
    return NAME_round_sum(&sum, rounding, overflow);
}
"""

DIVIDE = """
/* a / b, rounded once. */
static inline CODE NAME_divide(CODE a, CODE b, int rounding, int overflow) {
    NAME_number x = NAME_split(a), y = NAME_split(b);
    int negative = x.negative ^ y.negative, word;
    uint32_t words[WORDS];
    uint64_t rest = x.significand;
    if ((x.special | y.special) & 4 || (x.special && y.special)) return NAN_CODE;
    if (x.special) return NAME_infinite[overflow][negative];
    if (y.special) return NAME_ladder[negative][0];
    if (!y.significand) return x.significand ? BY_ZERO : NAN_CODE;
    for (word = WORDS - 1; word >= 0; word--) {
        words[word] = (uint32_t)(rest / y.significand);
        rest = rest % y.significand << 32;
    }
    words[0] |= rest != 0;
    return NAME_round_words(words, negative, x.exponent - y.exponent - 32 * (WORDS - 1), rounding, overflow);
}
"""

FAR = """
/* The same for neighbours far apart. */
static inline uint64_t NAME_way_far(const uint64_t *x, const int *exponent, int steps, int *rest) {
    NAME_sum way = {{0}}, gap = {{0}};
    int place = exponent[0] - UNIT, word;
    uint64_t result = 0, cut = x[0];
    if (place < 0) {
        *rest = place < -63 || cut & ((1ull << -place) - 1) ? 1 : 0;
        cut = place < -63 ? 0 : cut >> -place;
        place = 0;
    }
    NAME_add_term(&way, 0, cut, place + UNIT);
    NAME_add_term(&way, 1, x[1], exponent[1]);
    NAME_add_term(&gap, 0, x[2], exponent[2]);
    NAME_add_term(&gap, 1, x[1], exponent[1]);
    for (; steps > 0; steps--) {
        uint32_t left[WORDS];
        uint64_t borrow = 0;
        for (word = WORDS - 1; word > 0; word--) way.words[word] = way.words[word] << 1 | way.words[word - 1] >> 31;
        way.words[0] <<= 1;
        for (word = 0; word < WORDS; word++) {
            borrow = (uint64_t)way.words[word] - gap.words[word] - borrow;
            left[word] = (uint32_t)borrow;
            borrow = borrow >> 32 & 1;
        }
        if (!borrow) memcpy(way.words, left, sizeof left);
        result = result << 1 | !borrow;
    }
    for (word = 0; word < WORDS; word++) *rest |= way.words[word] != 0;
    return result;
}
"""

DRAW_FAR = "    if (exponent[2] - exponent[1] > 10) return NAME_way_far(x, exponent, steps, rest);\n"

DRAW = """
/* Stochastic rounding as IEEE P3109 has it: StochasticA takes the upper neighbour where the fraction of the way to
 * it, cut to the random bits, plus the random word carries; B and C round it to nearest, halves up or to even. */
enum { GUARD_STOCHASTIC_A = 0, GUARD_STOCHASTIC_B = 1, GUARD_STOCHASTIC_C = 2 };
static const CODE NAME_drawn_beyond[OPTIONS][2] = {DRAWN_BEYOND};
/* By sign: the pattern of the next magnitude, were the format to go on. */
static const uint64_t NAME_next_pattern[2] = {NEXT};

/* The pattern of a magnitude, as a double, by its rank. */
static inline uint64_t NAME_rung(int negative, int rank) {
    double value;
    uint64_t pattern;
    if (rank >= NAME_ladder_length[negative]) return NAME_next_pattern[negative];
    value = NAME_decode(NAME_ladder[negative][rank]);
    memcpy(&pattern, &value, sizeof pattern);
    return pattern & 0x7fffffffffffffffu;
}
FAR_TABLE
/* floor((x - below) / (above - below) * 2^steps), for patterns of doubles; rest: whether anything was cut off. */
static inline uint64_t NAME_way(uint64_t magnitude, uint64_t below, uint64_t above, int steps, int *rest) {
    uint64_t x[3], result = 0, way, gap;
    int exponent[3], field, number;
    x[0] = magnitude;
    x[1] = below;
    x[2] = above;
    for (number = 0; number < 3; number++) {
        field = (int)(x[number] >> 52);
        x[number] = (x[number] & 0xfffffffffffffu) | (field ? 1ull << 52 : 0);
        exponent[number] = (field ? field : 1) - 1075;
    }
    *rest = 0;
    if (!x[1]) {
        steps -= exponent[2] - exponent[0];
        *rest = 1;
        if (steps < 0) return 0;
        way = x[0];
        gap = x[2];
        if (way >= gap) {
            way -= gap;
            result = 1;
        }
    } else {
FAR_CALL        way = (x[0] << (exponent[0] - exponent[1])) - x[1];
        gap = (x[2] << (exponent[2] - exponent[1])) - x[1];
    }
    for (; steps > 0; steps--) {
        way <<= 1;
        result = result << 1 | (way >= gap);
        if (way >= gap) way -= gap;
    }
    *rest = way != 0;
    return result;
}

/* x, rounded by the low bits of a random word: 1 to 32 of them, for B and C 1 to 31. */
static inline CODE NAME_encode_stochastic(double x, uint32_t word, int bits, int variant, int overflow) {
    uint64_t pattern, magnitude, way, whole = 1ull << bits, drawn = word & (whole - 1);
    int negative, low = 0, high, rest, up;
    memcpy(&pattern, &x, sizeof pattern);
    negative = (int)(pattern >> 63);
    magnitude = pattern & 0x7fffffffffffffffu;
    if (magnitude >> 52 == 0x7ff)
        return magnitude & 0xfffffffffffffu ? NAN_CODE : NAME_infinite[overflow][negative];
    if (magnitude == 0) return NAME_ladder[negative][0];
BELOW_ZERO    if (magnitude <= NAME_rung(negative, 0)) return NAME_ladder[negative][0];
    for (high = NAME_ladder_length[negative]; high - low > 1;) { /* the last rank that is not above */
        int middle = (low + high) / 2;
        if (NAME_rung(negative, middle) <= magnitude) low = middle;
        else high = middle;
    }
    if (magnitude == NAME_rung(negative, low)) return NAME_ladder[negative][low];
    if (low + 1 == NAME_ladder_length[negative]) {
        if (NAME_next_pattern[negative] >> 52 == 0x7ff) return NAME_ladder[negative][low];
        if (magnitude >= NAME_next_pattern[negative]) return NAME_drawn_beyond[overflow][negative];
    }
    way = NAME_way(magnitude, NAME_rung(negative, low), NAME_rung(negative, low + 1), bits + 1, &rest);
    if (variant == GUARD_STOCHASTIC_B) up = way + 2 * drawn + 1 >= 2 * whole;
    else {
        int half = variant == GUARD_STOCHASTIC_C && way & 1;
        way >>= 1;
        if (half && (rest || way & 1)) way++;
        up = way + drawn >= whole;
    }
    if (!up) return NAME_ladder[negative][low];
    if (low + 1 == NAME_ladder_length[negative]) return NAME_drawn_beyond[overflow][negative];
    return NAME_ladder[negative][low + 1];
}
"""

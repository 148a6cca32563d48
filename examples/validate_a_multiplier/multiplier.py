"""A stranger's RF8 multiplier, as a program: what multiplier.sv does, for those who have no simulator at hand.

It reads lines of operands and answers each with the product: python multiplier.py < operands > answers
"""

import sys

SIGNIFICAND = (12, 14, 15, 16, 17, 18, 20, 24)  # what the residual field stands for, in sixteenths
MIDPOINTS = (1, 3, 6, 12, 20, 26, 30)  # between the values of an octave, in 32nds


def multiply(a: int, b: int) -> int:
    if 0x80 in (a, b):
        return 0x80  # NaN
    if a == 0 or b == 0:
        return 0
    product = SIGNIFICAND[a & 7] * SIGNIFICAND[b & 7]
    length = product.bit_length()
    octave = (a >> 3 & 15) + (b >> 3 & 15) - 15 + length - 9  # exponent field of the leading one
    fraction = (product << 5 >> length - 1) & 31  # five bits below it go to the rounder
    rest = False
    # The values of an octave are numbered on from the octave below, seven each.
    rank = 7 * octave + 3
    for number, midpoint in enumerate(MIDPOINTS):
        upper_is_even = (7 * octave + 4 + number) % 2 == 0
        rank += fraction > midpoint or (fraction == midpoint and (rest or upper_is_even))
    if rank <= 0:  # zero, or the smallest value from half of it on
        rank = int(octave == -1 or (octave == -2 and (fraction > 24 or (fraction == 24 and rest))))
    if rank == 0:
        return 0
    field, residual = divmod(min(rank, 112) - 1, 7)
    return (a ^ b) & 0x80 | field << 3 | residual + 1


if __name__ == "__main__":
    for line in sys.stdin:
        a, b = (int(word, 16) for word in line.split()[:2])
        print(f"{a:02X} {b:02X} {multiply(a, b):02X}")

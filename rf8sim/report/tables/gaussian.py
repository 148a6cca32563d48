"""The accuracy of the signed built-in formats on a Gaussian: constants, which take a second each to compute."""

from __future__ import annotations

__all__ = ["GAUSSIAN_SQNR_DB"]

GAUSSIAN_SQNR_DB = {
    "rf8": 28.501539083566996,
    "rf8_e3": 28.658140314840796,
    "rf6": 23.12834510493945,
    "e4m3fn": 31.556781494988513,
    "e4m3": 31.556754154583587,
    "e4m3fnuz": 31.55675415581156,
    "e4m3b11fnuz": 31.55675415581156,
    "e5m2": 25.582092744714814,
    "e5m2fnuz": 25.582092744714817,
    "e3m4": 37.56203643959559,
    "e2m3fn": 30.81368373846697,
    "e3m2fn": 25.581301562389243,
    "e2m1fn": 18.966144816023164,
    "binary8p3se": 25.582047567554874,
    "binary8p4se": 31.556781494988513,
    "binary8p5se": 37.56401979808022,
    "binary8p3sf": 25.582092744714817,
    "binary8p4sf": 31.55675415581156,
    "binary8p5sf": 37.564682854257306,
    "hifloat8": 31.556538292861795,
    "int8": 40.56943258819906,
    "int4": 19.25731635109123,
    "posit8_es0": 41.34519592011447,
    "posit8_es1": 37.48423429966587,
    "posit8_es2": 31.55669953611357,
    "lns8": 32.04036201261107,
    "nf4": 20.042605441159836,
    "nf8": 43.83196188487314,
}
"""Expected SQNR in dB at the best scale, rounding to nearest: what `listings.computed_sqnr_db` returns."""

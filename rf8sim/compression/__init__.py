"""Weights rounded for what they cost once they are entropy-coded, and for what their errors do to a layer's outputs."""

from __future__ import annotations

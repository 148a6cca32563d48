"""Shared by all tests: property tests that give the same verdict on every run."""

from __future__ import annotations

import numba  # noqa: F401  (once it is loaded, the compiled loops do all work: they are what is tested)
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("long", settings.get_profile("repeatable"), derandomize=False, max_examples=5000)
settings.load_profile("repeatable")

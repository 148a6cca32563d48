"""The generalized Gaussian distribution as a working tool for neural-network weights.

Fit it to a whole checkpoint in one pass, sample it, know its entropy and the error of any quantizer under it,
and say whether it is the right family at all. Names are imported when first used, so ``import ggd`` costs
nothing.

Examples
--------
>>> import ggd
>>> weights = ggd.GGD(shape=0.8, scale=0.02).sample(200_000, seed=0)
>>> fit = ggd.fit(weights)
>>> bool(abs(fit.shape - 0.8) < 5 * fit.stderr.shape)
True
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ggd.asymmetric import AsymmetricFit as AsymmetricFit
    from ggd.asymmetric import fit_asymmetric as fit_asymmetric
    from ggd.distribution import GGD as GGD
    from ggd.estimate import fit as fit
    from ggd.families import compare_estimators as compare_estimators
    from ggd.families import compare_families as compare_families
    from ggd.families import select as select
    from ggd.floats import FloatTheory as FloatTheory
    from ggd.floats import float_theory as float_theory
    from ggd.grouped import fit_grouped as fit_grouped
    from ggd.histogram import MagnitudeHistogram as MagnitudeHistogram
    from ggd.optimal import best_scale as best_scale
    from ggd.optimal import entropy_coded_uniform as entropy_coded_uniform
    from ggd.optimal import lloyd_max as lloyd_max
    from ggd.optimal import panter_dite as panter_dite
    from ggd.optimal import shannon_lower_bound as shannon_lower_bound
    from ggd.quantizer import cell_probabilities as cell_probabilities
    from ggd.quantizer import expected_mse as expected_mse
    from ggd.quantizer import expected_mse_scaled as expected_mse_scaled
    from ggd.quantizer import expected_mse_stochastic as expected_mse_stochastic
    from ggd.quantizer import index_entropy as index_entropy
    from ggd.rates import dead_zone as dead_zone
    from ggd.rates import feedback_gain as feedback_gain
    from ggd.rates import optimized_rounding as optimized_rounding
    from ggd.reshaping import deepshape as deepshape
    from ggd.result import FitResult as FitResult
    from ggd.theory import QuantizerTheory as QuantizerTheory
    from ggd.theory import quantizer_theory as quantizer_theory

_HOME = {
    "AsymmetricFit": "asymmetric",
    "best_scale": "optimal",
    "cell_probabilities": "quantizer",
    "compare_estimators": "families",
    "compare_families": "families",
    "dead_zone": "rates",
    "deepshape": "reshaping",
    "entropy_coded_uniform": "optimal",
    "expected_mse": "quantizer",
    "expected_mse_scaled": "quantizer",
    "expected_mse_stochastic": "quantizer",
    "feedback_gain": "rates",
    "fit": "estimate",
    "fit_asymmetric": "asymmetric",
    "fit_grouped": "grouped",
    "FitResult": "result",
    "float_theory": "floats",
    "FloatTheory": "floats",
    "GGD": "distribution",
    "index_entropy": "quantizer",
    "lloyd_max": "optimal",
    "MagnitudeHistogram": "histogram",
    "optimized_rounding": "rates",
    "panter_dite": "optimal",
    "quantizer_theory": "theory",
    "QuantizerTheory": "theory",
    "select": "families",
    "shannon_lower_bound": "optimal",
}

__all__ = [*_HOME]


if not TYPE_CHECKING:  # else a name that does not exist would be one to type checkers

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'ggd' has no attribute {name!r}")
        value = getattr(import_module(f"ggd.{_HOME[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Return the public names, and the modules that are loaded; not what this file imports for itself."""
    loaded = (name for name, value in globals().items() if isinstance(value, ModuleType) and not name.startswith("_"))
    return sorted({*__all__, *loaded, *(name for name in globals() if name.startswith("__"))})

"""The recipes that the pilot compares, as a table."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """One way to train.

    Attributes
    ----------
    name : str
        What its records are called.
    group : str
        Recipes of a group differ in ``lam`` alone and make one curve.
    lam : float
        Weight of the prior.
    constraint : dict
        Further options of `ggd.torch.RateConstraint`.
    init : dict
        Options of `ggd.torch.gg_init_`; none for the model's own Gaussian.
    rounded : dict
        Options of `rf8sim.torch.QuantizeConfig` for the last fifth of the training (all of a fine-tuning); none for
        plain weights.
    thorough : bool
        Whether formats are measured on the result; of plain training also reshaping and fine-tuning.
    quick : bool
        Whether a quick run has it.
    """

    name: str
    group: str
    lam: float = 0.0
    constraint: dict[str, Any] = field(default_factory=dict)
    init: dict[str, Any] = field(default_factory=dict)
    rounded: dict[str, Any] = field(default_factory=dict)
    thorough: bool = False
    quick: bool = False


def _curve(group: str, lams: tuple[float, ...], **options: Any) -> list[Recipe]:
    return [Recipe(f"{group}-{lam:g}", group, lam, **options) for lam in lams]


STEPPED = {"scheme": "int8", "scale": 2.0**-5}  # a uniform quantizer whose step does not follow the weights
RECIPES: list[Recipe] = [
    Recipe("plain", "plain", thorough=True, quick=True),
    # b: the same standard deviation, another shape; and the source's fan.
    Recipe("init-0.5", "init", init={"shape": 0.5, "mode": "current"}, quick=True),
    Recipe("init-1", "init", init={"shape": 1.0, "mode": "current"}),
    Recipe("init-2", "init", init={"shape": 2.0, "mode": "current"}),
    Recipe("init-source-1", "init", init={"shape": 1.0, "mode": "source"}),
    # Rounded to a coarse uniform grid in the last fifth of the training, without the prior and with it.
    Recipe("stepped", "stepped", rounded=STEPPED, quick=True),
    *_curve("stepped-l1", (0.01,), constraint={"shape": 1.0}, rounded=STEPPED),
    # The same from a heavy-tailed start, without the prior and with it.
    Recipe("stepped-init-0.5", "stepped-init", init={"shape": 0.5, "mode": "current"}, rounded=STEPPED),
    Recipe(
        "combined", "combined", 0.01, init={"shape": 0.5, "mode": "current"}, constraint={"shape": 1.0}, rounded=STEPPED
    ),
    # c: the shape estimated, and fixed ones.
    Recipe("prior-0.01", "prior", 0.01),
    Recipe("prior-0.02", "prior", 0.02, thorough=True, quick=True),
    Recipe("prior-0.04", "prior", 0.04),
    *_curve("l1", (0.005, 0.01, 0.02), constraint={"shape": 1.0}),
    *_curve("l2", (0.01, 0.03), constraint={"shape": 2.0}),
    *_curve("half", (0.001, 0.003), constraint={"shape": 0.5}),
    # Nats of the prior itself, in proportion to each tensor's scale.
    *_curve("normalized", (0.0003, 0.001), constraint={"normalize": True}),
    # An explicit step of the prior's own gradient (eps 1e-8, where the source has 1), one shape for all weights,
    # untouched by the learning rate.
    *_curve(
        "pooled", (2e-5, 4e-5), constraint={"update": "explicit", "per": "model", "scale_by_lr": False}
    ),
    # The same, a shape for each tensor, tied to the learning rate.
    *_curve("explicit", (0.02,), constraint={"update": "explicit"}),
    # e: a grid of RF8 that does not follow the weights, so that small ones underflow to zero.
    *_curve("prior-grid", (0.02,), rounded={"scheme": "rf8", "scale": 2.0**9}),
]  # fmt: skip

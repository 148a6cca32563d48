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
    decay : float
        Weight decay of AdamW, on matrices.
    rounded : dict
        Options of `rf8sim.torch.QuantizeConfig` for the last fifth of the training; none for plain weights.
    thorough : bool
        Whether formats, pruning and reshaping are measured on the result, which takes longer than the training.
    quick : bool
        Whether a quick run has it.
    """

    name: str
    group: str
    lam: float = 0.0
    constraint: dict[str, Any] = field(default_factory=dict)
    init: dict[str, Any] = field(default_factory=dict)
    decay: float = 0.0
    rounded: dict[str, Any] = field(default_factory=dict)
    thorough: bool = False
    quick: bool = False


def _curve(group: str, lams: tuple[float, ...], **options: Any) -> list[Recipe]:
    return [Recipe(f"{group}-{lam:g}", group, lam, **options) for lam in lams]


LAMS = (0.01, 0.02, 0.04, 0.08)
RECIPES: list[Recipe] = [
    Recipe("plain", "plain", thorough=True, quick=True),
    Recipe("decay-0.1", "decay", decay=0.1),
    Recipe("decay-1", "decay", decay=1.0),
    # b: the same standard deviation, another shape; and the source's fan.
    Recipe("init-0.5", "init", init={"shape": 0.5, "mode": "current"}, quick=True),
    Recipe("init-1", "init", init={"shape": 1.0, "mode": "current"}),
    Recipe("init-2", "init", init={"shape": 2.0, "mode": "current"}),
    Recipe("init-source-1", "init", init={"shape": 1.0, "mode": "source"}),
    # c: shapes estimated, and fixed ones.
    Recipe("prior-0.01", "prior", 0.01),
    Recipe("prior-0.02", "prior", 0.02, thorough=True, quick=True),
    Recipe("prior-0.04", "prior", 0.04),
    Recipe("prior-0.08", "prior", 0.08),
    *_curve("l1", LAMS, constraint={"shape": 1.0}),
    *_curve("l2", (0.003, 0.01, 0.03, 0.1), constraint={"shape": 2.0}),
    *_curve("half", (0.001, 0.003, 0.01, 0.03), constraint={"shape": 0.5}),
    # Nats of the prior itself, in proportion to each tensor's scale.
    *_curve("normalized", (0.001, 0.003, 0.01, 0.03), constraint={"normalize": True}),
    # The source's step: explicit, one shape for all weights, untouched by the learning rate.
    *_curve(
        "source", (1e-5, 2e-5, 4e-5, 8e-5), constraint={"update": "source", "per": "model", "scale_by_lr": False}
    ),
    # The source's step, tied to the learning rate.
    *_curve("explicit", (0.02,), constraint={"update": "source"}),
    # The prior from the start of a heavy-tailed initialization.
    Recipe("prior-init-0.02", "prior-init", 0.02, init={"shape": 1.0, "mode": "current"}),
    # e: rounded weights in the last fifth; and a fixed grid in which small weights underflow.
    *(Recipe(f"rounded-{name}", "rounded", rounded={"format": name}) for name in ("rf8", "e4m3fn", "e5m2", "e3m4")),
    Recipe("rounded-int8", "rounded", rounded={"format": "int8"}, quick=True),
    *_curve("prior-grid", LAMS, rounded={"format": "rf8", "scale": 2.0**9}),
    *_curve("prior-int8", LAMS, rounded={"format": "int8", "scale": 2.0**-5}),
]  # fmt: skip

"""`metrics`: every metric by name. Each wraps a function of this package, which says what is computed and where it comes from."""

import difflib
from collections.abc import Sequence

from dave_jax.evaluation.map_metrics import (
    DeletionOfMost,
    EnergyPG,
    GridDiscrimination,
    GridPG,
    Perturbation,
    Pointing,
    RankAccuracy,
    RelevanceGain,
)
from dave_jax.evaluation.method_metrics import Convergence, Discrimination, Equivariance, Randomisation, Stability
from dave_jax.evaluation.metric import Metric
from dave_jax.evaluation.perturbation import PerturbationProtocol

metrics: dict[str, Metric] = {
    "gridpg": GridPG(),
    "gridpg_stride": GridPG(grid_mode="stride"),
    "grid_discrimination": GridDiscrimination(),
    "energypg": EnergyPG(),
    "pointing": Pointing(),
    "rank_accuracy": RankAccuracy(),
    "deletion": Perturbation(),
    "deletion_most": DeletionOfMost(),
    "insertion": Perturbation(PerturbationProtocol(first="most", insert=True, fraction=1.0)),
    "srg": RelevanceGain(),
    "equivariance": Equivariance(),
    "stability": Stability(),
    "discrimination": Discrimination(),
    "randomisation": Randomisation(),
    "convergence": Convergence(),
}
"""Metrics by name. Add your own: `metrics["mine"] = Mine()`."""


def select_metrics(names: Sequence[str]) -> dict[str, Metric]:
    """The metrics of these names; `all` stands for every one.

    Raises:
        ValueError: an unknown name, or one twice.
    """
    names = list(metrics) if list(names) == ["all"] else list(names)
    for name in names:
        if name not in metrics:
            near = difflib.get_close_matches(name, metrics, n=3)
            hint = f"Near names: {', '.join(near)}." if near else f"There are {', '.join(metrics)}; or all."
            raise ValueError(f"No metric is called {name!r}. {hint}")
    if len(set(names)) < len(names):
        raise ValueError(f"Each metric is named once; got {', '.join(names)}.")
    return {name: metrics[name] for name in names}

"""`metrics`: every metric by name. Each wraps a function of this package, which says what is computed and where it comes from."""

from collections.abc import Sequence

from dave_jax.attribution.methods import by_name
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
    return by_name("metric", names, metrics)

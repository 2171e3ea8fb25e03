"""Protocols: what to compare, on what, by name. A protocol is a starting point; what the command line gives takes precedence."""

import dataclasses
from collections.abc import Mapping

from dave_jax.evaluation.map_metrics import Perturbation
from dave_jax.evaluation.metric import Metric
from dave_jax.evaluation.metrics import metrics
from dave_jax.evaluation.perturbation import dave_paper as authors_deletion
from dave_jax.evaluation.settings import Settings


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A comparison.

    Attributes:
        methods: names.
        metrics: by name.
        num_samples: of the methods that average over samples; None leaves each its own.
        settings: photographs, mosaics and seed.
    """

    methods: tuple[str, ...]
    metrics: Mapping[str, Metric]
    num_samples: int | None = None
    settings: Settings = Settings()


quick = Protocol(
    methods=("dave", "input_x_gradient"),
    metrics={name: metrics[name] for name in ("gridpg", "deletion")},
    settings=Settings(max_images=50, num_mosaics=50),
)
"""A first look: neither boxes nor hours are needed."""

dave_paper = Protocol(
    methods=("input_x_gradient", "integrated_gradients", "smoothgrad", "legrad", "attn_lrp", "cp_lrp", "dave"),
    metrics={"gridpg": metrics["gridpg"], "energypg": metrics["energypg"], "deletion": Perturbation(authors_deletion)},
    num_samples=50,
    settings=Settings(num_mosaics=500, rows=2, min_confidence=0.9),
)
"""The comparison of arXiv 2602.06613, as far as it is stated; `docs/evaluation.md` says which choices are the authors' and which ours."""

protocols: dict[str, Protocol] = {"quick": quick, "dave-paper": dave_paper}
"""Protocols by name."""

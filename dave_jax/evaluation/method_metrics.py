"""Metrics of a method: how its maps change with the image, with the class, with the model, and with its samples. They run it again."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from dave_jax.attribution.methods import samples, with_samples
from dave_jax.evaluation import convergence, discrimination, randomisation, stability
from dave_jax.evaluation.metric import Case, Metric, Scores, numbers
from dave_jax.models.vit import ViT


@dataclasses.dataclass(frozen=True)
class Equivariance(Metric):
    """Whether the map moves with the image, under the two motions of DAVE's authors; see `stability.equivariance`."""

    needs, headline = "photograph", "correlation"

    def score(self, case: Case) -> Scores:
        """`correlation`: the mean over the motions; `motions`: each."""
        found = stability.equivariance(lambda *given: case.explain(case.model, *given), case.image[None], case.targets)[0]
        return {"correlation": found.mean(), **{f"motion_{i}": value for i, value in enumerate(found)}}


@dataclasses.dataclass(frozen=True)
class Stability(Metric):
    """Whether the map stays under a little noise; see `stability.noise_stability`."""

    radius: float = 0.02
    num_draws: int = 4

    needs, headline = "photograph", "correlation"

    def score(self, case: Case) -> Scores:
        """`correlation`, `max_sensitivity`, `mean_sensitivity`."""
        found = stability.noise_stability(
            lambda *given: case.explain(case.model, *given),
            case.image[None],
            case.targets,
            key=case.key,
            radius=self.radius,
            num_draws=self.num_draws,
        )
        return numbers(found)


@dataclasses.dataclass(frozen=True)
class Discrimination(Metric):
    """How the maps of a photograph's class and of the runner-up differ; see `discrimination`."""

    needs, headline = "photograph", "distance"

    def score(self, case: Case) -> Scores:
        """`distance`, and positive mass `shared`."""
        other = discrimination.runner_up(case.model, case.image[None], case.targets)
        targets = jnp.stack([case.targets, other.astype(case.targets.dtype)], axis=1)
        found = discrimination.class_discrimination(lambda *given: case.explain(case.model, *given), case.image[None], targets)
        return numbers(found)


@dataclasses.dataclass(frozen=True)
class Randomisation(Metric):
    """How alike the maps of a destroyed model are, its head, half of its blocks, all of it; see `randomisation`."""

    needs, headline, higher_is_better = "photograph", "mean", False

    def score(self, case: Case) -> Scores:
        """Rank correlations of absolute values: `head`, `half`, `everything`, and their `mean`; `signed`, the mean with the signs."""
        forward = case.model.forward
        depth = forward.config.depth if isinstance(forward, ViT) else 0  # the function refuses another model
        stages = {"head": 1, "half": 1 + depth // 2, "everything": depth + 2}
        found = randomisation.randomisation(
            case.explain, case.model, case.image[None], case.targets, key=case.key, stages=tuple(stages.values())
        )
        return {"mean": found.absolute.mean(), "signed": found.signed.mean(), **dict(zip(stages, found.absolute[:, 0], strict=True))}


@dataclasses.dataclass(frozen=True)
class Convergence(Metric):
    """How alike maps of few samples are to one of many, for methods that sample; see `convergence`."""

    num_samples: tuple[int, ...] = (4, 8, 16, 50)
    reference: int = 200

    needs, headline = "photograph", "correlation_16"

    def score(self, case: Case) -> Scores:
        """`correlation_N` for each number of samples."""
        if not samples(case.method):
            return {f"correlation_{count}": jnp.nan for count in self.num_samples}

        def attribute(images: Any, targets: Any, num_samples: int, key: jax.Array) -> jax.Array:
            return with_samples(case.method, num_samples)(case.model, images, targets, key=key, raw=True)

        found = convergence.convergence(
            attribute, case.image[None], case.targets, key=case.key, num_samples=self.num_samples, reference=self.reference
        )
        return {f"correlation_{count}": value[0] for count, value in zip(self.num_samples, found.correlation, strict=True)}

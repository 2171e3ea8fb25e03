"""What is asked on the page, and its answers: maps that become sharper, as any method gives them."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dave_jax.attribution.dave import Dave
from dave_jax.attribution.method import Method
from dave_jax.attribution.methods import available, lookup, samples, with_samples
from dave_jax.attribution.rounds import explain_rounds
from dave_jax.models.model import Model, check_class_ids

MOST_TARGETS = 6
"""Classes side by side."""

MOST_SAMPLES = 1024
"""Of one request; a program may take more."""

ROUNDS = 8
"""Maps that are shown until all samples are there."""


@dataclasses.dataclass(frozen=True)
class Question:
    """What to explain, and how.

    Attributes:
        targets: class ids; of a contrast the two.
        contrast: whether the first is asked for rather than the second.
        method: its name.
        num_samples: of a method that averages over samples and does not have its own number.
        seed: of what is random.
    """

    targets: tuple[int, ...]
    contrast: bool = False
    method: str = "dave"
    num_samples: int = 32
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Answer:
    """Maps, and how far they are.

    Attributes:
        maps: heat maps Float[k h w] in [0, 1], one of a contrast.
        num_samples: samples so far, or None where the method has no rounds.
        last: whether these are the final maps.
    """

    maps: Float[np.ndarray, "k h w"]
    num_samples: int | None
    last: bool


def check(question: Question, classes: int) -> None:
    """Raise unless a model of so many classes can be asked this.

    Raises:
        ValueError: no class, too many or unknown ones, a contrast of other than two, too few samples.
    """
    check_class_ids(question.targets, classes)
    lookup("method", question.method, available())
    if question.contrast and len(set(question.targets)) != 2:
        raise ValueError("A contrast is between two different classes. Choose another second one.")
    if not question.targets:
        raise ValueError("Choose at least one class to explain.")
    if len(question.targets) > MOST_TARGETS:
        raise ValueError(f"At most {MOST_TARGETS} classes are explained side by side; these are {len(question.targets)}.")
    if not 1 <= question.num_samples <= MOST_SAMPLES:
        raise ValueError(f"There must be at least 1 sample. At most {MOST_SAMPLES} are averaged here; got {question.num_samples}.")
    if not 0 <= question.seed < 2**32:
        raise ValueError(f"A seed is an integer from 0 to 2**32 - 1; got {question.seed}.")


def probabilities(logits: Float[np.ndarray, " classes"]) -> Float[np.ndarray, " classes"]:
    """Their softmax, in double precision.

    Example:
        >>> probabilities(np.zeros(4)).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    odds = np.exp(logits.astype(float) - logits.max())
    return odds / odds.sum()


def likely(odds: Float[np.ndarray, " classes"], least: float = 0.2) -> list[int]:
    """The classes to ask about first: the most probable one, and others of at least that probability.

    Example:
        >>> likely(np.array([0.3, 0.1, 0.6])), likely(np.array([0.11, 0.1, 0.79]))
        ([2, 0], [2])
    """
    order = np.argsort(-odds, kind="stable").tolist()
    return [order[0], *(target for target in order[1:MOST_TARGETS] if odds[target] >= least)]


def as_targets(question: Question, classes: int) -> Any:
    """What `dave.explain` takes: ids `[[a, b]]`, or a contrast's cotangent, +1 and -1.

    Example:
        >>> as_targets(Question((2, 0), contrast=True), 3).tolist()
        [[-1.0, 0.0, 1.0]]
    """
    if not question.contrast:
        return np.array([question.targets])
    first, second = question.targets
    return jnp.zeros((1, classes)).at[0, first].set(1.0).at[0, second].set(-1.0)


def titles(question: Question, model: Model) -> list[str]:
    """What each map is of.

    Example:
        >>> import dave_jax as dave
        >>> titles(Question((2, 0), contrast=True), dave.testing.tiny_model())
        ['2 rather than 0']
    """
    names = [model.class_name(target) for target in question.targets]
    return [" rather than ".join(names)] if question.contrast else names


def chosen_method(question: Question, model: Model) -> Method:
    """The method with its settings; of DAVE and its relatives all of them, and `dave_fast` keeps its own."""
    method = lookup("method", question.method, available())
    if isinstance(method, Dave):
        config = method.config or model.config.with_samples(question.num_samples)
        return dataclasses.replace(method, config=config, num_samples=None)
    return with_samples(method, question.num_samples)


def has_samples(name: str) -> bool:
    """Whether the number of samples is asked for.

    Example:
        >>> has_samples("dave"), has_samples("dave_fast"), has_samples("legrad")
        (True, False, False)
    """
    method = lookup("method", name, available())
    return samples(method) and getattr(method, "config", None) is None


def answers(question: Question, model: Model, images: Float[Array, "1 h w 3"], classes: int) -> Iterator[Answer]:
    """The maps after each round of samples; of a method without rounds, one answer."""
    method, targets, key = chosen_method(question, model), as_targets(question, classes), jax.random.key(question.seed)
    if not isinstance(method, Dave):
        yield Answer(_stack(method(model, images, targets, key=key)), None, True)
        return
    assert method.config is not None  # `chosen_method` has filled it
    count = method.config.num_samples
    rounds = explain_rounds(
        model, images, targets, key=key, round_size=-(-count // ROUNDS), config=method.config, decomposition=method.decomposition
    )
    for found in rounds:
        yield Answer(_stack(found.maps), found.num_samples, found.num_samples == count)


def _stack(maps: Float[Array, "1 ..."]) -> Float[np.ndarray, "k h w"]:
    """Of one image, with an axis of targets."""
    return np.asarray(maps).reshape(-1, *maps.shape[-2:])

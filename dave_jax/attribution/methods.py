"""`methods`: every way to explain, by name."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import TypeVar

from dave_jax.attribution.baselines.chefer import GenericAttention, TransformerAttribution
from dave_jax.attribution.baselines.floors import CentreMap, EdgeMap, RandomMap
from dave_jax.attribution.baselines.full_gradient import FullGradPlus
from dave_jax.attribution.baselines.grad_cam import AttentionGradCam, GradCam
from dave_jax.attribution.baselines.gradient import InputTimesGradient
from dave_jax.attribution.baselines.integrated_gradients import IntegratedGradients
from dave_jax.attribution.baselines.legrad import LeGrad
from dave_jax.attribution.baselines.occlusion import Occlusion
from dave_jax.attribution.baselines.rise import Rise
from dave_jax.attribution.baselines.rollout import GradientRollout, Rollout
from dave_jax.attribution.baselines.smoothgrad import SmoothGrad
from dave_jax.attribution.dave import Dave
from dave_jax.attribution.method import Method
from dave_jax.config import DaveConfig
from dave_jax.effective.decomposition import presets

T = TypeVar("T")

methods: dict[str, Method] = {
    "dave": Dave(),
    **{f"dave_{name}": Dave(decomposition=name) for name in presets if name != "effective"},
    "input_x_gradient": InputTimesGradient(),
    **{name: InputTimesGradient(name) for name in presets if name != "gradient"},
    "integrated_gradients": IntegratedGradients(),
    "smoothgrad": SmoothGrad(),
    "grad_cam": GradCam(),
    "attention_grad_cam": AttentionGradCam(),
    "rollout": Rollout(),
    "gradient_rollout": GradientRollout(),
    "transformer_attribution": TransformerAttribution(),
    "gae": GenericAttention(),
    "legrad": LeGrad(),
    "full_grad_plus": FullGradPlus(),
    "rise": Rise(centred=True),
    "occlusion": Occlusion(),
    "random": RandomMap(),
    "edge": EdgeMap(),
    "centre": CentreMap(),
    "dave_fast": Dave(DaveConfig(num_samples=4, noise_alpha=0.0, aggregation="median"), "res_lrp"),
}
"""Methods by name: DAVE; after `dave_`, its averaging around other decompositions; each decomposition's derivative times the input; the
baselines; floors that do not look at the model; and `dave_fast`, the median of four transformed copies around ResLRP, without noise, which
localises better than DAVE with fifty samples where we measured (docs/evaluation.md). Add your own: `methods["mine"] = Mine()`."""


def available() -> dict[str, Method]:
    """`methods`, and those that follow from decompositions entered in `presets` since.

    Example:
        >>> list(available()) == list(methods)
        True
    """
    return methods | {name: method for name, method in _decomposed().items() if name not in methods}


def _decomposed() -> dict[str, Method]:
    plain: dict[str, Method] = {name: InputTimesGradient(name) for name in presets if name != "gradient"}
    return plain | {f"dave_{name}": Dave(decomposition=name) for name in presets if name != "effective"}


def select(names: Sequence[str], num_samples: int | None = None) -> dict[str, Method]:
    """The methods of these names; `all` stands for every one.

    Args:
        names: in the order that is wanted.
        num_samples: of those that average over samples; None leaves each its own, and `dave_fast`, whose few are what it is, keeps them.

    Raises:
        ValueError: an unknown name, one twice, or no samples.

    Example:
        >>> select(["dave", "attn_lrp"], num_samples=8)["dave"].num_samples
        8
    """
    chosen = by_name("method", names, available())
    if num_samples is not None and num_samples < 1:
        raise ValueError(f"num_samples must be at least 1; got {num_samples}.")
    if num_samples is None:
        return chosen
    own = {name for name, method in chosen.items() if getattr(method, "config", None) is not None}
    return {name: method if name in own else with_samples(method, num_samples) for name, method in chosen.items()}


def by_name(kind: str, names: Sequence[str], known: Mapping[str, T]) -> dict[str, T]:
    """What is called so, in that order; `all` stands for everything known.

    Args:
        kind: what they are, for the message: "method".
        names: each once.
        known: by name.

    Raises:
        ValueError: an unknown name, or one twice.

    Example:
        >>> by_name("number", ["two"], {"one": 1, "two": 2})
        {'two': 2}
    """
    names = list(known) if list(names) == ["all"] else list(names)
    found = {name: lookup(kind, name, known) for name in names}
    if len(found) < len(names):
        raise ValueError(f"Each {kind} is named once; got {', '.join(names)}.")
    return found


def lookup(kind: str, name: str, known: Mapping[str, T]) -> T:
    """What is called so.

    Raises:
        ValueError: nothing is; the message has the near names.

    Example:
        >>> lookup("number", "two", {"one": 1, "two": 2})
        2
    """
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"Near names: {', '.join(near)}." if near else f"There are {', '.join(known)}."
        raise ValueError(f"No {kind} is called {name!r}. {hint}")
    return known[name]


def with_samples(method: Method, num_samples: int) -> Method:
    """A method that averages over samples with so many; any other as it is."""
    if not samples(method):
        return method
    return dataclasses.replace(method, num_samples=num_samples)  # pyright: ignore[reportArgumentType, reportCallIssue] it has that field


def samples(method: Method) -> bool:
    """Whether a method averages over a number of samples.

    Example:
        >>> samples(methods["smoothgrad"]), samples(methods["attn_lrp"])
        (True, False)
    """
    return any(field.name == "num_samples" for field in dataclasses.fields(method))  # pyright: ignore[reportArgumentType] by `settings`

"""With which method, and which settings, a data set is explained."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from dave_jax.attribution.dave import Dave
from dave_jax.attribution.method import Method
from dave_jax.attribution.methods import available, lookup
from dave_jax.config import DaveConfig
from dave_jax.effective.decomposition import Decomposition
from dave_jax.evaluation.settings import as_json
from dave_jax.models.model import Model, count_classes

_LEFT_OPEN = ("chunk_size", "precision", "warp_adjoint", "mad_pilot")
"""Settings of DAVE that may be None."""


def choose_method(method: str | Method | None, model: Model, config: DaveConfig | None, decomposition: str | Decomposition) -> Method:
    """The method that is meant; DAVE with its configuration. Arguments as of `explain_dataset`.

    Raises:
        ValueError: no method is called so, or it is given settings of DAVE.
    """
    if method is not None and (config is not None or decomposition != "effective"):
        raise ValueError("config and decomposition are DAVE's; a method has its own settings. Leave them out, or pass method=Dave(...).")
    if isinstance(method, str):
        method = lookup("method", method, available())
    method = Dave(config, decomposition) if method is None else method
    if not isinstance(method, Dave):
        return method
    config = method.config or model.config
    if method.num_samples is not None and method.num_samples != config.num_samples:
        config = config.with_samples(method.num_samples)
    return dataclasses.replace(method, config=config, num_samples=None)


def settle_method(method: Method, stored: dict[str, Any] | None, model: Model, num_targets: int) -> Method:
    """The method with what it leaves open: as the store has it, or what suits this device; so that a run goes on alike on another.

    Args:
        method: from `choose_method`.
        stored: the run of the store; None where there is none yet.
        model: what predicts.
        num_targets: of each image.

    Raises:
        ValueError: the model is not one that it can explain.
    """
    stored = stored or {}
    image = jax.ShapeDtypeStruct((*model.preprocessing.image_size, 3), jnp.float32)
    if isinstance(method, Dave):
        config, known = method.config, stored.get("config", {})
        assert config is not None  # `choose_method` has filled it
        if known.get("num_samples") == config.num_samples:
            open_ = {name: known.get(name) for name in _LEFT_OPEN if getattr(config, name) is None}
            method = dataclasses.replace(method, config=dataclasses.replace(config, **open_))
        return method.fitted(model, image, num_targets)
    known = stored.get("settings", {})
    if getattr(method, "chunk_size", 0) is None and as_json(method) == known | {"chunk_size": None}:
        method = dataclasses.replace(method, chunk_size=known["chunk_size"])  # pyright: ignore[reportArgumentType, reportCallIssue] it has it
    method = method.fitted(model, image, num_targets)
    cotangents = jax.ShapeDtypeStruct((num_targets, count_classes(model)), jnp.float32)
    jax.eval_shape(partial(method.attribute, model.forward), model.params, image, cotangents, jax.random.key(0))
    return method

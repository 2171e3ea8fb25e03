"""For tests, yours and ours: a tiny model, and a count of compilations."""

import contextlib
import logging
from collections.abc import Iterator

import jax

from dave_jax.config import DaveConfig
from dave_jax.models.model import Model
from dave_jax.models.preprocess import Preprocessing
from dave_jax.models.vit import ViT
from dave_jax.models.vit_config import ViTConfig, init_params


def tiny_model(seed: int = 0, **options) -> Model:
    """A random vision transformer of 16 x 16 pixels, two blocks and five classes; `options` go to `ViTConfig`.

    All parameters are random, norms and biases too, so that nothing cancels by chance.

    Example:
        >>> tiny_model(pooling="avg").forward.config.pooling
        'avg'
    """
    config = ViTConfig(
        **(
            {"image_size": (16, 16), "patch_size": (4, 4), "width": 16, "depth": 2, "num_heads": 2, "mlp_width": 32, "num_classes": 5}
            | options
        )
    )
    params = init_params(jax.random.key(seed), config)
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    leaves = [leaf + 0.1 * jax.random.normal(key, leaf.shape, leaf.dtype) for leaf, key in zip(leaves, keys, strict=True)]
    return Model(
        params=jax.tree.unflatten(structure, leaves),
        forward=ViT(config),
        config=DaveConfig(num_samples=4, noise_alpha=0.5),
        preprocessing=Preprocessing(image_size=config.image_size),
        name="tiny",
    )


@contextlib.contextmanager
def count_compilations() -> Iterator[list[str]]:
    """Collect the names of the functions that JAX compiles in the block.

    Example:
        >>> with count_compilations() as compiled:
        ...     _ = jax.jit(lambda x: 3 * x + 41)(1.0)
        >>> len(compiled) >= 1
        True
    """
    compiled: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if message.startswith("Compiling "):
                compiled.append(message.split()[1])

    logger, handler = logging.getLogger("jax"), Collect()
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with jax.log_compiles():
            yield compiled
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate

"""`TextConfig`: what a checkpoint's arrays do not say about a text tower, and parameters to start from."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dave_jax.effective.activations import MULTIPLIERS
from dave_jax.models.config_checks import problems_of

Params = dict[str, Any]

POOLINGS = ("argmax", "end", "last")


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """What a checkpoint's arrays do not say about the text tower of an image-text model.

    Attributes:
        vocab_size: number of tokens that there are.
        context_length: tokens of a sentence, padding included.
        width: of a token.
        depth: number of blocks.
        num_heads: attention heads; divides the width.
        mlp_width: hidden width of the MLP.
        projection: width of the embedding, 0 for no product with weights behind the last norm.
        projection_bias: whether that product has a bias.
        causal: whether a token sees only itself and those before it (CLIP), or all (SigLIP).
        pooling: which token is the sentence's: `argmax`, the first of those with the largest id (the end of the text in CLIP's vocabulary),
            `end`, the first that is `end_id`, or `last`.
        end_id: of the token that ends a text.
        eps: of every norm.
        activation: a name of `effective.activations.MULTIPLIERS`.
    """

    vocab_size: int = 49408
    context_length: int = 77
    width: int = 512
    depth: int = 12
    num_heads: int = 8
    mlp_width: int = 2048
    projection: int = 512
    projection_bias: bool = False
    causal: bool = True
    pooling: str = "argmax"
    end_id: int = 49407
    eps: float = 1e-5
    activation: str = "gelu"

    def __post_init__(self):
        problems = problems_of(
            self,
            allowed={"pooling": POOLINGS, "activation": MULTIPLIERS},
            least=dict.fromkeys(("vocab_size", "context_length", "width", "depth", "num_heads", "mlp_width"), 1) | {"projection": 0},
        )
        if self.pooling == "end" and not 0 <= self.end_id < self.vocab_size:
            problems.append(f"end_id must be a token, from 0 to {self.vocab_size - 1}; got {self.end_id}")
        if problems:
            raise ValueError("This is no text tower: " + "; ".join(problems) + ".")

    @property
    def num_features(self) -> int:
        """Width of the embedding of a sentence."""
        return self.projection or self.width


def init_params(key: PRNGKeyArray, config: TextConfig) -> Params:
    """Random parameters: normal(0, 0.02) kernels and embeddings, zero biases, unit scales.

    Example:
        >>> config = TextConfig(vocab_size=50, context_length=6, width=8, depth=2, num_heads=2, mlp_width=16, projection=4)
        >>> params = init_params(jax.random.key(0), config)
        >>> params["blocks"]["mlp"]["fc1"]["kernel"].shape, params["projection"]["kernel"].shape
        ((2, 8, 16), (8, 4))
    """
    width = config.width

    def normal(*shape: int) -> Array:
        nonlocal key
        key, draw = jax.random.split(key)
        return 0.02 * jax.random.normal(draw, shape)

    def dense(fan_in: int, fan_out: int, bias: bool = True) -> Params:
        return {"kernel": normal(fan_in, fan_out)} | ({"bias": jnp.zeros(fan_out)} if bias else {})

    def norm() -> Params:
        return {"scale": jnp.ones(width), "bias": jnp.zeros(width)}

    def block() -> Params:
        return {
            "attention_norm": norm(),
            "attention": {name: dense(width, width) for name in ("query", "key", "value", "proj")},
            "mlp_norm": norm(),
            "mlp": {"fc1": dense(width, config.mlp_width), "fc2": dense(config.mlp_width, width)},
        }

    params = {
        "token_embedding": normal(config.vocab_size, width),
        "position_embedding": normal(config.context_length, width),
        "blocks": jax.tree.map(lambda *leaves: jnp.stack(leaves), *(block() for _ in range(config.depth))),
        "final_norm": norm(),
    }
    return params | ({"projection": dense(width, config.projection, config.projection_bias)} if config.projection else {})

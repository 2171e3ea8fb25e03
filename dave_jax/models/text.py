"""The text towers of CLIP (arXiv 2103.00020) and SigLIP (arXiv 2303.15343), built of the image tower's layers.

    token ids -> embeddings [+ position] -> blocks -> one token -> norm -> projection -> divided by its length

One sentence at a time, padded to the context length. A tower is dynamic linear in its token embeddings as the image tower is in its image.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from dave_jax.effective import layers
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.models.text_config import Params, TextConfig

Ids = Integer[Array, " tokens"]


@dataclasses.dataclass(frozen=True)
class TextTower:
    """The forward pass of a configuration: a hashable function of parameters and token ids.

    Example:
        >>> from dave_jax.models.text_config import init_params
        >>> tower = TextTower(TextConfig(vocab_size=50, context_length=6, width=8, depth=2, num_heads=2, mlp_width=16, projection=4))
        >>> embedding = tower(init_params(jax.random.key(0), tower.config), jnp.array([48, 3, 7, 49, 0, 0]))
        >>> embedding.shape, round(float(jnp.sum(embedding**2)), 4)
        ((4,), 1.0)
    """

    config: TextConfig

    def __call__(self, params: Params, ids: Ids, decomposition: str | Decomposition = "gradient") -> Float[Array, " features"]:
        """The embedding of one sentence, of length 1; the decomposition changes its derivative only."""
        return self.encode(params, self.embed(params, ids), self.place(ids), decomposition)

    def embed(self, params: Params, ids: Ids) -> Float[Array, "tokens width"]:
        """The rows of the token embedding.

        Raises:
            ValueError: not as many ids as the context length.
        """
        if ids.shape != (self.config.context_length,):
            raise ValueError(f"The text tower takes {self.config.context_length} token ids, padding included; got {ids.shape}.")
        return params["token_embedding"][ids]

    def place(self, ids: Ids) -> Integer[Array, ""]:
        """Where the token stands that is the sentence's."""
        if self.config.pooling == "last":
            return jnp.asarray(ids.shape[0] - 1)
        return jnp.argmax(ids if self.config.pooling == "argmax" else ids == self.config.end_id)  # the first, where there are several

    def encode(
        self,
        params: Params,
        embedded: Float[Array, "tokens width"],
        place: Integer[Array, ""],
        decomposition: str | Decomposition = "gradient",
    ) -> Float[Array, " features"]:
        """The embedding of a sentence, of length 1, from those of its tokens.

        Args:
            params: the parameters.
            embedded: of the tokens, without position.
            place: of the token that is the sentence's (`place`).
            decomposition: its name or itself.
        """
        config, rules = self.config, resolve(decomposition)
        bias = _causal(config.context_length, embedded.dtype) if config.causal else None
        options: dict[str, Any] = {"num_heads": config.num_heads, "activation_name": config.activation, "eps": config.eps, "bias": bias}

        def step(tokens, block):
            return layers.block(block, tokens, rules, **options)[0], None

        tokens, _ = jax.lax.scan(step, embedded + params["position_embedding"], params["blocks"])
        pooled = jax.lax.dynamic_slice_in_dim(tokens, place, 1)
        pooled, _ = layers.norm(params["final_norm"], pooled, rules, eps=config.eps)
        if config.projection:
            pooled, _ = layers.dense(params["projection"], pooled, rules)
        return layers.unit_norm(pooled, rules)[0][0]


def _causal(length: int, dtype: Any) -> Float[Array, "1 queries keys"]:
    """Zero where the key stands at or before the query, -1e9 elsewhere: no infinity, of which a rule could make NaN."""
    return jnp.triu(jnp.full((1, length, length), -1e9, dtype), k=1)

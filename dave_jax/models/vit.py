"""The vision transformer (arXiv 2010.11929) with the options of timm's `VisionTransformer`.

    image -> patches -> [+ position, class and register tokens] -> blocks -> norm -> pool -> head -> logits

One example at a time; the blocks' parameters are stacked on a leading axis and run under `lax.scan`, so a network of any depth
compiles as one block does.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.effective import layers, pooling
from dave_jax.effective.decomposition import Decomposition, resolve
from dave_jax.effective.operators import Chain, Diagonal, Operator, Sum, attention_matrix
from dave_jax.effective.shifts import Trim
from dave_jax.effective.tokens import Pad, Select
from dave_jax.models.network import Network
from dave_jax.models.stem import embed_through_stem
from dave_jax.models.vit_config import Params, ViTConfig
from dave_jax.models.vit_positions import attention_positions


class Intermediates(NamedTuple):
    """What a vision transformer computes on the way from an image to its logits.

    Attributes:
        tokens: before each block, and after the last.
        attention: the attention matrices of the blocks, Float[depth heads tokens tokens].
    """

    tokens: Float[Array, "states tokens width"]
    attention: Float[Array, "depth heads queries keys"]


@dataclasses.dataclass(frozen=True)
class ViT(Network):
    """The forward pass of a configuration: a hashable function of parameters and image.

    Example:
        >>> from dave_jax.models.vit_config import init_params
        >>> config = ViTConfig(image_size=(8, 8), patch_size=(4, 4), width=8, depth=2, num_heads=2, mlp_width=16, num_classes=3)
        >>> vit = ViT(config)
        >>> vit(init_params(jax.random.key(0), config), jnp.zeros((8, 8, 3))).shape
        (3,)
    """

    config: ViTConfig

    def operators(
        self, params: Params, image: Float[Array, "h w 3"], decomposition: str | Decomposition = "effective"
    ) -> tuple[Float[Array, " classes"], dict[str, Any]]:
        """Logits and the operators that made them.

        Returns:
            Logits, and a dict: `embedding` (image to tokens), `blocks` (the pair of branch operators of `layers.block`, their arrays
            stacked on a leading axis of length depth) and `head` (tokens to logits; with a distillation token, the mean of two; with
            `pooled_blocks`, the earlier class tokens stand in front of the tokens).
        """
        rules = resolve(decomposition)
        tokens, embedding = self.embed(params, image, rules)

        def step(tokens, block):
            after, ops = self.block(block, tokens, rules)
            return after, (ops, tokens[0] if self.config.pooled_blocks > 1 else None)

        tokens, (blocks, before) = jax.lax.scan(step, tokens, params["blocks"])
        logits, head = self.head(params, self._pooled(tokens, before), rules)
        return logits, {"embedding": embedding, "blocks": blocks, "head": head}

    def logits(self, params: Params, image: Float[Array, "h w 3"], decomposition: str | Decomposition) -> Float[Array, " classes"]:
        """The logits of `operators`. Of the last block, only the tokens that the head reads."""
        if self.config.num_read is None:
            return self.operators(params, image, decomposition)[0]
        rules = resolve(decomposition)
        tokens, _ = self.embed(params, image, rules)

        def step(tokens, block):
            return self.block(block, tokens, rules)[0], tokens[0]

        tokens, before = _scan_first(step, tokens, params["blocks"], self.config.depth - 1)
        before = jnp.concatenate([before, tokens[:1]])
        tokens, _ = self.block(jax.tree.map(lambda leaf: leaf[-1], params["blocks"]), tokens, rules, rows=self.config.num_read)
        return self.head(params, self._pooled(tokens, before), rules)[0]

    def intermediates(
        self,
        params: Params,
        image: Float[Array, "h w 3"],
        decomposition: str | Decomposition = "gradient",
        probes: "Intermediates | None" = None,
    ) -> tuple[Float[Array, " classes"], "Intermediates"]:
        """Logits, and what happened on the way: tokens and attention matrices.

        Args:
            params: the parameters.
            image: one normalised image.
            decomposition: its name or itself.
            probes: added to the intermediates where they arise; zeros change nothing, and the derivative with respect to a probe is the
                derivative with respect to what it is added to.

        Example:
            >>> from dave_jax.testing import tiny_model
            >>> model = tiny_model()
            >>> logits, inside = model.forward.intermediates(model.params, jnp.ones((16, 16, 3)))
            >>> inside.tokens.shape, inside.attention.shape
            ((3, 17, 16), (2, 2, 17, 17))
        """
        rules = resolve(decomposition)
        tokens, _ = self.embed(params, image, rules)
        if probes is None:
            before, after, mixing = None, jnp.zeros_like(tokens), None
        else:
            before, after, mixing = probes.tokens[:-1], probes.tokens[-1], probes.attention

        def step(tokens, job):
            block, before, mixing = job
            tokens = tokens if before is None else tokens + before
            output, (attend, _) = self.block(block, tokens, rules, probe=mixing)
            return output, Intermediates(tokens, attention_matrix(attend))

        tokens, inside = jax.lax.scan(step, tokens, (params["blocks"], before, mixing))
        tokens = tokens + after
        logits, _ = self.head(params, self._pooled(tokens, inside.tokens[:, 0]), rules)
        return logits, Intermediates(jnp.concatenate([inside.tokens, tokens[None]]), inside.attention)

    def _pooled(self, tokens: Array, before: Array | None) -> Array:
        """What the head takes: the tokens, and in front of them the class tokens of earlier blocks, those before each block given."""
        if self.config.pooled_blocks == 1 or before is None:
            return tokens
        return jnp.concatenate([before[1 - self.config.pooled_blocks :], tokens])

    def block(
        self, params: Params, tokens: Array, rules: Decomposition, *, probe: Array | None = None, rows: int | None = None
    ) -> tuple[Array, tuple[Operator, Operator]]:
        """One block, from its own parameters: see `layers.block`."""
        config = self.config
        options = {"num_heads": config.num_heads, "activation_name": config.activation, "eps": config.eps, "probe": probe, "rows": rows}
        return layers.block(params, tokens, rules, **options, **attention_positions(params["attention"], config, tokens.dtype))

    def embed(self, params: Params, image: Array, rules: Decomposition) -> tuple[Array, Operator]:
        """The tokens before the first block, and the operator from the image to them."""
        config = self.config
        if image.shape != (*config.image_size, 3):
            raise ValueError(
                f"The model takes images of shape {(*config.image_size, 3)}; got {image.shape}. "
                "Resize the image (model.preprocess), or load the model with image_size=(height, width)."
            )
        links: list[Operator] = []
        if config.overhang:
            seen = Trim(image.shape, (config.grid[0] * config.patch_size[0], config.grid[1] * config.patch_size[1]))
            image = seen(image)
            links.append(seen)
        if config.stem_widths:
            options = {"widths": config.stem_widths, "activation_name": config.activation, "eps": config.eps}
            tokens, op = embed_through_stem(params, image, rules, **options)
        else:
            tokens, op = layers.patch_embedding(params["patch_embedding"], image, rules, patch_size=config.patch_size)
        links.append(op)
        if config.patch_norm:
            tokens, op = layers.norm(params["patch_norm"], tokens, rules, eps=config.patch_norm_eps)
            links.append(op)
        if config.position_embedding and not config.position_on_prefix:
            tokens = tokens + params["position_embedding"]
        if config.num_prefix:
            names = ("class_token", "distillation_token", "register_tokens")
            prefix = [params[name] for name in names if name in params]
            links.append(Pad(tokens.shape, config.num_prefix, 0))
            tokens = jnp.concatenate([*prefix, tokens])
        if config.position_embedding and config.position_on_prefix:
            tokens = tokens + params["position_embedding"]
        if config.pre_norm:
            tokens, op = layers.norm(params["pre_norm"], tokens, rules, eps=config.eps)
            links.append(op)
        return tokens, Chain(tuple(links))

    def head(self, params: Params, tokens: Array, rules: Decomposition, *, probe: Array | None = None) -> tuple[Array, Operator]:
        """The logits from the tokens after the last block, and the operator from these to them; `probe` on attention pooling's matrix.

        With `pooled_blocks`, the class tokens after the earlier of these blocks stand in front of the tokens.
        """
        config = self.config
        before: tuple[Operator, ...] = ()
        if config.final_norm == "tokens":
            tokens, op = layers.norm(params["final_norm"], tokens, rules, eps=config.eps)
            before = (op,)
        pooled, op = pooling.pool(
            params.get("pool", {}),
            tokens,
            rules,
            kind=config.pooling,
            num_prefix=0 if config.pool_prefix else config.num_prefix,
            num_heads=config.pool_num_heads or config.num_heads,
            activation_name=config.activation,
            eps=config.eps,
            num_earlier=config.pooled_blocks - 1,
            probe=probe,
        )
        links = [op]
        if config.final_norm == "pooled":
            pooled, op = layers.norm(params["final_norm"], pooled, rules, eps=config.eps)
            links.append(op)
        if config.projection:
            pooled, op = layers.dense(params["projection"], pooled, rules)
            links.append(op)
        if config.unit_features:
            pooled, op = layers.unit_norm(pooled, rules)
            links.append(op)
        if config.num_classes:
            pooled, op = layers.dense(params["head"], pooled, rules)
            links.append(op)
        head: Operator = Chain(tuple(links))
        if config.distillation_token:  # DeiT (arXiv 2012.12877) averages the two tokens' logits
            select = Select(tokens.shape, 1, 2)
            other, op = select(tokens), select
            if config.num_classes:
                other, op = layers.dense(params["distillation_head"], other, rules)
                op = op @ select
            half = Diagonal(jnp.full((1, 1), 0.5, pooled.dtype), pooled.shape)
            pooled, head = half(pooled + other), half @ Sum((head, op))
        return pooled[0], Chain((*before, head))


def _scan_first(step: Any, carry: Any, stacked: Any, count: int) -> Any:
    """`jax.lax.scan` over the first `count` of what is stacked.

    A slice of the stack would be a copy of it, for every chunk of samples, as would be what a backward pass keeps of blocks taken singly.
    Therefore it takes them from the stack once more, and computes nothing else again.
    """

    def indexed(carry, i):
        return step(carry, jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, i, keepdims=False), stacked))

    return jax.lax.scan(jax.checkpoint(indexed, policy=_computes, prevent_cse=False), carry, jnp.arange(count))


def _computes(primitive: Any, *_: Any, **__: Any) -> bool:
    """What a backward pass keeps: not what is only taken from the stack."""
    return primitive not in (jax.lax.dynamic_slice_p, jax.lax.squeeze_p, jax.lax.reshape_p, jax.lax.bitcast_convert_type_p)

"""Derivatives with respect to attention matrices and tokens, one block at a time, from the logits back to the image.

A forward pass keeps the tokens before each block. On the way back each block is computed once more and pulled back for every target at
once, so that memory is that of one block however deep the network is, and the attention matrices of one block are all there ever is.

    still, moved <- what the classified token is made of, 0          (targets, tokens)
    for block in reversed(blocks):
        F <- fuse(A, dA, ...)
        moved <- moved + (still + moved) @ F

`still + moved` is a row of rollout's product of matrices I + F. What stayed in its token's residual stream all the way says nothing about
where the model looked, and is kept apart: for a class token it never reaches a patch, but for an average over the patches it would be a
constant under the map, often a thousand times the map itself.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dave_jax.effective.decomposition import Decomposition, gradient
from dave_jax.effective.operators import attention_matrix
from dave_jax.models.vit import ViT
from dave_jax.models.vit_config import ViTConfig

Part = Callable[[Any, Array, Array | None], tuple[Array, Array | None]]
"""`part(params, tokens, probe) -> (output, attention matrix)`; the probe is added to the matrix."""


class Network(NamedTuple):
    """A vision transformer in parts: what is pulled back through it, gradients or relevances, is the parts' own affair.

    Attributes:
        block: from a block's parameters, the tokens before it and a probe on its attention matrix to the tokens after it, and the matrix.
        head: from all parameters, the tokens after the last block and a probe on attention pooling's matrix to the logits, and that matrix
            (None, and a probe of None, with another pooling).
    """

    block: Part
    head: Part


class Pulled(NamedTuple):
    """Derivatives of `k` targets through one part.

    Attributes:
        tokens: with respect to its input, Float[k tokens width].
        attention: its attention matrix, Float[heads queries keys], or None.
        derivative: with respect to the matrix, Float[k heads queries keys], or None.
    """

    tokens: Array
    attention: Any
    derivative: Any


def differentiated(vit: ViT, rules: Decomposition = gradient) -> Network:
    """The network whose derivatives are those of a decomposition."""

    def block(params, tokens, probe):
        output, (attend, _) = vit.block(params, tokens, rules, probe=probe)
        return output, attention_matrix(attend)

    def head(params, tokens, probe):
        logits, op = vit.head(params, tokens, rules, probe=probe)
        return logits, attention_matrix(op) if vit.config.pooling == "map" else None

    return Network(block, head)


def block_probe(config: ViTConfig, tokens: Float[Array, "tokens width"]) -> Float[Array, "heads tokens tokens"]:
    """Zeros to add to a block's attention matrices."""
    return jnp.zeros((config.num_heads, len(tokens), len(tokens)), tokens.dtype)


def head_probe(config: ViTConfig, tokens: Float[Array, "tokens width"]) -> Float[Array, "heads 1 keys"] | None:
    """Zeros to add to attention pooling's matrix; None with another pooling."""
    if config.pooling != "map":
        return None
    num_heads = config.pool_num_heads or config.num_heads
    return jnp.zeros((num_heads, 1, len(tokens) - (0 if config.pool_prefix else config.num_prefix)), tokens.dtype)


def pull(part: Part, params: Any, tokens: Float[Array, "tokens width"], probe: Array | None, cotangents: Float[Array, "k ..."]) -> Pulled:
    """Pull cotangents on a part's output back to its tokens and its attention matrix: one forward pass for all targets."""
    _, back, attention = jax.vjp(lambda tokens, probe: part(params, tokens, probe), tokens, probe, has_aux=True)
    below, derivative = jax.lax.map(back, cotangents)
    return Pulled(below, attention, derivative)


def block_index(config: ViTConfig, index: int, name: str) -> int:
    """The number of a block; negative numbers count from the last.

    Raises:
        ValueError: there is no such block.
    """
    if not -config.depth <= index < config.depth:
        raise ValueError(f"{name} must lie in {-config.depth} to {config.depth - 1}, for the model has {config.depth} blocks; got {index}.")
    return index % config.depth


def pooled_tokens(config: ViTConfig) -> Float[Array, " tokens"]:
    """The weight of every token in the one that is classified: the class token, the mean of the two tokens of a distilled model, or a mean;
    where the class token stands beside a mean, half of each.

    Raises:
        ValueError: attention pooling, whose weights depend on the image.
    """
    if config.pooling == "map":
        raise ValueError("Attention pooling has no fixed weights; take those of its attention matrix.")
    rows, columns = config.grid
    count = config.num_prefix + rows * columns
    if config.pooling == "token_and_mean":
        return jnp.zeros(count).at[0].set(0.5).at[config.num_prefix :].set(0.5 / (rows * columns))
    if config.pooling == "token":
        first, last = 0, 1 + config.distillation_token
    else:
        first, last = 0 if config.pool_prefix else config.num_prefix, count
    place = jnp.arange(count)
    return jnp.where((place >= first) & (place < last), 1.0 / (last - first), 0.0)


class Row(NamedTuple):
    """A row of the product of matrices I + F, in two parts.

    Attributes:
        still: what never left its token's residual stream, Float[... tokens].
        moved: what an attention matrix has moved at least once, Float[... tokens].
    """

    still: Array
    moved: Array


def first_row(config: ViTConfig, pooling: Float[Array, "k 1 keys"] | None, num_targets: int, dtype: Any) -> Row:
    """What the classified token is made of: attention pooling's fused matrix, or the fixed weights of another pooling."""
    if pooling is None:
        weights = pooled_tokens(config).astype(dtype)
        still = jnp.broadcast_to(weights, (num_targets, len(weights)))
        return Row(still, jnp.zeros_like(still))
    left_out = 0 if config.pool_prefix else config.num_prefix
    moved = jnp.pad(pooling[:, 0], ((0, 0), (left_out, 0)))
    return Row(jnp.zeros_like(moved), moved)


def advance(row: Row, fused: Float[Array, "*k tokens tokens"], *, normalise: bool) -> Row:
    """The row times `I + F`; with `normalise`, times `I + F` with its rows divided by their sums."""
    still, moved = row
    if normalise:
        sums = 1.0 + jnp.sum(fused, axis=-1)
        still, moved = still / sums, moved / sums
    return Row(still, moved + jnp.einsum("...q,...qk->...k", still + moved, fused))


def roll_back(
    vit: ViT,
    networks: tuple[Network, ...],
    params: Any,
    image: Float[Array, "h w 3"],
    cotangents: Float[Array, "k classes"],
    fuse: Callable[..., Float[Array, "k queries keys"]],
    *,
    first_block: int,
    normalise: bool = False,
) -> Float[Array, "k tokens"]:
    """The row of the classified token in the product `(I + F_L) ... (I + F_1)` of the blocks' fused matrices: what was moved.

    Args:
        vit: the model.
        networks: what is pulled back; they have the model's values.
        params: the parameters.
        image: one normalised image.
        cotangents: on the logits, for every network.
        fuse: from the attention matrix (heads, queries, keys) and its derivative (k, heads, queries, keys) in each network to F.
        first_block: blocks before it are left out.
        normalise: see `advance`.
    """
    config = vit.config
    first = block_index(config, first_block, "first_block")
    states = vit.intermediates(params, image)[1].tokens
    pulled = [pull(network.head, params, states[-1], head_probe(config, states[-1]), cotangents) for network in networks]
    pooling = None if config.pooling != "map" else fuse(pulled[0].attention, *(each.derivative for each in pulled))
    row = first_row(config, pooling, len(cotangents), states.dtype)

    def step(carry, job):
        below, row = carry
        block, before = job
        pairs = zip(networks, below, strict=True)
        pulled = [pull(network.block, block, before, block_probe(config, before), each) for network, each in pairs]
        fused = fuse(pulled[0].attention, *(each.derivative for each in pulled))
        return ([each.tokens for each in pulled], advance(row, fused, normalise=normalise)), None

    blocks = jax.tree.map(lambda leaf: leaf[first:], params["blocks"])
    (_, row), _ = jax.lax.scan(step, ([each.tokens for each in pulled], row), (blocks, states[first:-1]), reverse=True)
    return row.moved

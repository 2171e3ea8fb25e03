"""From the tokens of a vision transformer to the one that its head reads."""

from jaxtyping import Array, Float

from dave_jax.effective import layers
from dave_jax.effective.decomposition import Decomposition
from dave_jax.effective.operators import Chain, Identity, Operator, Sum
from dave_jax.effective.tokens import Average, Pad, Rearrange, Select


def pool(
    params: layers.Params,
    x: layers.Tokens,
    decomposition: Decomposition,
    *,
    kind: str,
    num_prefix: int,
    num_heads: int,
    activation_name: str,
    eps: float,
    num_earlier: int = 0,
    probe: Float[Array, "heads 1 keys"] | None = None,
) -> layers.Result:
    """From tokens (n, d) to one (1, d): the class token, the average, or attention pooling (SigLIP's MAP head); or to one of twice the
    width (1, 2d), the class token beside the average. Class tokens of earlier blocks stand in front of the class token: (1, kd).

    Args:
        params: of attention pooling (`latent`, `attention`, `mlp_norm`, `mlp`); empty for the others.
        x: the tokens, prefix tokens first.
        decomposition: the rules.
        kind: `token`, `avg`, `map` or `token_and_mean`.
        num_prefix: how many leading tokens the average and `map` leave out.
        num_heads: of attention pooling.
        activation_name: of attention pooling.
        eps: of attention pooling's norm.
        num_earlier: how many leading tokens are class tokens of earlier blocks; for `token` and `token_and_mean`.
        probe: on attention pooling's matrix: see `layers.mixing`.
    """
    if kind in ("token", "token_and_mean"):
        op: Operator = Select(x.shape, 0, 1 + num_earlier)
        if kind == "token_and_mean":
            patches = Select(x.shape, num_earlier + num_prefix, x.shape[0])
            mean = Chain((patches, Average(patches.out_shape), Pad((1, x.shape[1]), 1 + num_earlier, 0)))
            op = Sum((Chain((op, Pad(op.out_shape, 0, 1))), mean))
        if op.out_shape[0] > 1:
            op = Chain((op, Rearrange(op.out_shape, op.out_shape, (0, 1), (1, op.out_shape[0] * op.out_shape[1]))))
        return op(x), op
    select = Select(x.shape, num_prefix, x.shape[0]) if num_prefix else Identity(x.shape)
    x = select(x)
    if kind == "avg":
        op = Average(x.shape)
        return op(x), Chain((select, op))
    y, attend = layers.attention(params["attention"], x, decomposition, num_heads=num_heads, eps=eps, latent=params["latent"], probe=probe)
    normalised, normalise = layers.norm(params["mlp_norm"], y, decomposition, eps=eps)
    branch, op = layers.mlp(params["mlp"], normalised, decomposition, activation_name=activation_name, eps=eps)
    residual = Sum((Identity(y.shape), op @ normalise))
    return decomposition.residual(y, branch), Chain((select, attend, residual))

"""`ViTConfig`: what a checkpoint's arrays do not say about a vision transformer, and parameters to start from."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dave_jax.models.relative import num_entries
from dave_jax.models.rotary import Rotary, init_frequencies
from dave_jax.models.stem import init_stem
from dave_jax.models.vit_checks import problems_of_vit

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class ViTConfig:
    """What a checkpoint's arrays do not say about a vision transformer.

    Attributes:
        image_size: height and width in pixels; multiples of the patch size, but for `overhang`.
        patch_size: height and width of a patch in pixels.
        overhang: whether the image may be larger than its patches: what they leave over on the right and below is not seen.
        stem_widths: channels behind each convolution of a stem (`models.stem`), whose strides together make up a patch; none without.
        width: of a token.
        depth: number of blocks.
        num_heads: attention heads; divides the width.
        mlp_width: hidden width of the MLP (of one half, for a gated MLP).
        num_classes: logits; 0 returns the pooled features.
        class_token, distillation_token, num_registers: tokens in front of the patches, in this order.
        position_embedding: whether a learned embedding of the place is added to the tokens.
        position_on_prefix: whether it has rows for those tokens.
        position_resampling: how it, or a relative position bias, becomes another image size's: `antialiased` (timm),
            `bicubic` (transformers) or `corners` (big_vision).
        relative_position: whether the scores of attention have a bias for how far apart two tokens are; for one class token in front.
        rotary: how queries and keys are turned by their places; None leaves them.
        pooling: `token`, `avg`, `map` (attention pooling), or `token_and_mean`: the class token beside the mean of the patches (DINOv2).
        pooled_blocks: of how many of the last blocks the head reads the class token, each behind the final norm and the last block's last
            (DINO's and DINOv2's evaluations take 4); for `token` and `token_and_mean`.
        pool_prefix: whether `avg` and `map` pool over the prefix tokens too.
        pool_num_heads, pool_mlp_width: of attention pooling, if not those of the blocks.
        norm: `layer_norm` or `rms_norm`.
        eps: of every norm but the patch embedding's.
        activation: a name of `effective.activations.MULTIPLIERS`.
        gated_mlp: SwiGLU-like MLP.
        patch_bias, qkv_bias, proj_bias: whether these products have a bias (`proj_bias`: attention's output and the MLP).
        key_bias: whether the keys have one where `qkv_bias` says so.
        query_key_norm, attention_norm, mlp_norm, patch_norm: further norms: of queries and keys, before attention's output, inside the MLP,
            on the patches.
        patch_norm_eps: of the norm on the patches.
        layer_scale: whether branches are scaled before the residual sum.
        mlp_layer_scale: whether the MLP's is where `layer_scale` says so.
        post_norm: norms behind the branches, `x + norm(f(x))`, instead of before them.
        pre_norm: a norm before the first block.
        final_norm: where the last norm is: `tokens` (before pooling), `pooled` (after) or `none`.
        projection, projection_bias: width of a product with weights between pooling and head (an image-text model's), 0 for none, and
            whether it has a bias.
        unit_features: whether what the head reads is divided by its length, so that the logits are scaled cosine similarities.
        head_bias: whether the head has a bias.
    """

    image_size: tuple[int, int] = (224, 224)
    patch_size: tuple[int, int] = (16, 16)
    overhang: bool = False
    stem_widths: tuple[int, ...] = ()
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_width: int = 3072
    num_classes: int = 1000
    class_token: bool = True
    distillation_token: bool = False
    num_registers: int = 0
    position_embedding: bool = True
    position_on_prefix: bool = True
    position_resampling: str = "antialiased"
    relative_position: bool = False
    rotary: Rotary | None = None
    pooling: str = "token"
    pooled_blocks: int = 1
    pool_prefix: bool = False
    pool_num_heads: int | None = None
    pool_mlp_width: int | None = None
    norm: str = "layer_norm"
    eps: float = 1e-6
    activation: str = "gelu"
    gated_mlp: bool = False
    patch_bias: bool = True
    qkv_bias: bool = True
    proj_bias: bool = True
    key_bias: bool = True
    query_key_norm: bool = False
    attention_norm: bool = False
    mlp_norm: bool = False
    patch_norm: bool = False
    patch_norm_eps: float = 1e-5
    layer_scale: bool = False
    mlp_layer_scale: bool = True
    post_norm: bool = False
    pre_norm: bool = False
    final_norm: str = "tokens"
    projection: int = 0
    projection_bias: bool = False
    unit_features: bool = False
    head_bias: bool = True

    def __post_init__(self):
        problems = problems_of_vit(self)
        if problems:
            raise ValueError("This is no vision transformer: " + "; ".join(problems) + ".")

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.image_size[0] // self.patch_size[0], self.image_size[1] // self.patch_size[1]

    @property
    def num_features(self) -> int:
        """Width of what the head reads."""
        return self.projection or self.num_pooled

    @property
    def num_pooled(self) -> int:
        """Width of what pooling gives."""
        return (self.pooled_blocks + (self.pooling == "token_and_mean")) * self.width

    @property
    def num_read(self) -> int | None:
        """How many leading tokens the head reads after the last block; None for all."""
        return 1 + self.distillation_token if self.pooling == "token" else None

    @property
    def num_prefix(self) -> int:
        """Tokens in front of the patches."""
        return self.class_token + self.distillation_token + self.num_registers


def init_params(key: PRNGKeyArray, config: ViTConfig) -> Params:
    """Random parameters: normal(0, 0.02) kernels and tokens, zero biases, unit scales, LayerScale 0.1.

    Example:
        >>> config = ViTConfig(image_size=(8, 8), patch_size=(4, 4), width=8, depth=2, num_heads=2, mlp_width=16, num_classes=3)
        >>> init_params(jax.random.key(0), config)["blocks"]["mlp"]["fc1"]["kernel"].shape
        (2, 8, 16)
    """
    width = config.width

    def split() -> PRNGKeyArray:
        nonlocal key
        key, draw = jax.random.split(key)
        return draw

    def normal(*shape: int) -> Array:
        return 0.02 * jax.random.normal(split(), shape)

    def dense(fan_in: int, fan_out: int, bias: bool = True) -> Params:
        return {"kernel": normal(fan_in, fan_out)} | ({"bias": jnp.zeros(fan_out)} if bias else {})

    def norm(size: int = width) -> Params:
        return {"scale": jnp.ones(size)} | ({"bias": jnp.zeros(size)} if config.norm == "layer_norm" else {})

    def attention(bias: bool, key_bias: bool, proj_bias: bool) -> Params:
        params = {name: dense(width, width, bias and (key_bias or name != "key")) for name in ("query", "key", "value")}
        return params | {"proj": dense(width, width, proj_bias)}

    def block() -> Params:
        attend, mlp = (
            attention(config.qkv_bias, config.key_bias, config.proj_bias),
            {"fc1": dense(width, config.mlp_width, config.proj_bias), "fc2": dense(config.mlp_width, width, config.proj_bias)},
        )
        if config.query_key_norm:
            attend |= {"query_norm": norm(width // config.num_heads), "key_norm": norm(width // config.num_heads)}
        if config.attention_norm:
            attend["norm"] = norm()
        if config.gated_mlp:
            mlp["gate"] = dense(width, config.mlp_width, config.proj_bias)
        if config.mlp_norm:
            mlp["norm"] = norm(config.mlp_width)
        if config.relative_position:
            attend["relative_position"] = normal(num_entries(config.grid), config.num_heads)
        if config.rotary and config.rotary.frequencies == "learned":
            attend["frequencies"] = init_frequencies(split(), config.rotary, config.num_heads, width // config.num_heads)
        place = "post_norm" if config.post_norm else "norm"
        params = {f"attention_{place}": norm(), "attention": attend, f"mlp_{place}": norm(), "mlp": mlp}
        if config.layer_scale:
            scaled = ("attention", "mlp") if config.mlp_layer_scale else ("attention",)
            params |= {f"{name}_scale": {"scale": jnp.full(width, 0.1)} for name in scaled}
        return params

    rows, columns = config.grid
    patch_values = config.patch_size[0] * config.patch_size[1] * 3
    params: Params = {"patch_embedding": dense(config.stem_widths[-1] if config.stem_widths else patch_values, width, config.patch_bias)}
    if config.stem_widths:
        params["stem"] = init_stem(split(), config.stem_widths)
    if config.position_embedding:
        params["position_embedding"] = normal(rows * columns + config.num_prefix * config.position_on_prefix, width)
    params["blocks"] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(block() for _ in range(config.depth)))
    if config.class_token:
        params["class_token"] = normal(1, width)
    if config.distillation_token:
        params["distillation_token"] = normal(1, width)
    if config.num_registers:
        params["register_tokens"] = normal(config.num_registers, width)
    if config.patch_norm:
        params["patch_norm"] = norm()
    if config.pre_norm:
        params["pre_norm"] = norm()
    if config.final_norm != "none":
        params["final_norm"] = norm()
    if config.pooling == "map":
        hidden = config.pool_mlp_width or config.mlp_width
        params["pool"] = {
            "latent": normal(1, width),
            "attention": attention(True, True, True),
            "mlp_norm": norm(),
            "mlp": {"fc1": dense(width, hidden), "fc2": dense(hidden, width)},
        }
    if config.projection:
        params["projection"] = dense(config.num_pooled, config.projection, config.projection_bias)
    if config.num_classes:
        params["head"] = dense(config.num_features, config.num_classes, config.head_bias)
        if config.distillation_token:
            params["distillation_head"] = dense(width, config.num_classes)
    return params

"""`SwinConfig`: what a checkpoint's arrays do not say about a Swin transformer, and parameters to start from."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dave_jax.effective.activations import MULTIPLIERS
from dave_jax.effective.window_attention import Windows
from dave_jax.models.config_checks import problems_of
from dave_jax.models.relative import num_entries

Params = dict[str, Any]

LARGEST_WINDOW = 512
"""The most rows and columns: more is a broken file, whose tables would fit nowhere."""

POSITION_WIDTH = 512
"""Hidden width of the network that V2's relative position bias comes from."""


@dataclasses.dataclass(frozen=True)
class SwinConfig:
    """What a checkpoint's arrays do not say about a Swin transformer (arXiv 2103.14030; V2: 2111.09883).

    Attributes:
        image_size: height and width in pixels, multiples of the patch size.
        patch_size: height and width of a patch.
        width: of the first stage's tokens; every stage doubles it.
        depths: blocks of every stage; every second one shifts its windows by half of them.
        num_heads: of every stage.
        mlp_widths: hidden widths of every stage's MLPs.
        windows: rows and columns of every stage's windows; where a map has fewer, a window has the map's, and none is shifted there.
        num_classes: logits; 0 returns the pooled features.
        version: 1, or 2: cosine attention, a relative position bias that a small network computes, and norms behind the branches.
        pretrained_windows: V2: the windows that every stage's position bias was trained with, which its coordinates are measured by; 0
            for those that it has.
        always_partition: whether windows keep their size and shift on smaller maps, which are then filled up.
        eps: of every norm.
        activation: a name of `effective.activations.MULTIPLIERS`.
        qkv_bias: whether queries, keys (not V2's) and values have a bias.
    """

    image_size: tuple[int, int] = (224, 224)
    patch_size: tuple[int, int] = (4, 4)
    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    mlp_widths: tuple[int, ...] = (384, 768, 1536, 3072)
    windows: tuple[tuple[int, int], ...] = ((7, 7),) * 4
    num_classes: int = 1000
    version: int = 1
    pretrained_windows: tuple[int, ...] = (0, 0, 0, 0)
    always_partition: bool = False
    eps: float = 1e-5
    activation: str = "gelu"
    qkv_bias: bool = True

    def __post_init__(self):
        stages = ("depths", "num_heads", "mlp_widths", "windows", "pretrained_windows")
        least = dict.fromkeys(("patch_size", "width", "depths", "num_heads", "mlp_widths"), 1)
        problems = problems_of(self, allowed={"activation": MULTIPLIERS}, least=least | {"num_classes": 0, "pretrained_windows": 0})
        if len({len(getattr(self, name)) for name in stages}) > 1 or not self.depths:
            lengths = ", ".join(f"{name} {len(getattr(self, name))}" for name in stages)
            problems.append(f"depths and the others must have one entry for each stage; they have {lengths}")
        elif len(self.depths) > 8:
            problems.append(f"more than 8 stages leave nothing of an image; got {len(self.depths)}")
        if any(len(window) != 2 or not 1 <= min(window) <= max(window) <= LARGEST_WINDOW for window in self.windows):
            problems.append(f"windows are pairs (rows, columns) of 1 to {LARGEST_WINDOW}; got {self.windows}")
        if self.version not in (1, 2):
            problems.append(f"version is 1 or 2; got {self.version!r}")
        if min(self.patch_size) > 0 and any(
            edge < step or edge % step for edge, step in zip(self.image_size, self.patch_size, strict=True)
        ):
            problems.append(f"image_size must be a multiple of patch_size; got {self.image_size} and {self.patch_size}")
        if problems:
            raise ValueError("This is no Swin transformer: " + "; ".join(problems) + ".")

    @property
    def widths(self) -> tuple[int, ...]:
        """Of every stage's tokens."""
        return tuple(self.width * 2**stage for stage in range(len(self.depths)))

    def grid(self, stage: int) -> tuple[int, int]:
        """Rows and columns of a stage's map.

        Example:
            >>> SwinConfig(image_size=(224, 256)).grid(3)
            (7, 8)
        """
        rows, columns = (-(-edge // (step * 2**stage)) for edge, step in zip(self.image_size, self.patch_size, strict=True))
        return rows, columns

    def cuts(self, stage: int) -> tuple[Windows, Windows]:
        """How the blocks of a stage cut its map, in turn.

        Example:
            >>> [cut.shift for cut in SwinConfig().cuts(2)], [cut.shift for cut in SwinConfig().cuts(3)]
            ([(0, 0), (3, 3)], [(0, 0), (0, 0)])
        """
        (rows, columns), (down, across) = grid, target = self.grid(stage), self.windows[stage]
        if self.always_partition:
            return Windows(grid, target), Windows(grid, target, (down // 2, across // 2))
        window = min(rows, down), min(columns, across)
        shift = 0 if rows <= down else down // 2, 0 if columns <= across else across // 2
        return Windows(grid, window), Windows(grid, window, shift)


def init_params(key: PRNGKeyArray, config: SwinConfig) -> Params:
    """Random parameters: normal(0, 0.02) kernels and tables, zero biases, unit scales, cosines times 10.

    Example:
        >>> config = SwinConfig((16, 16), width=8, depths=(1, 2), num_heads=(2, 2), mlp_widths=(16, 32), windows=((2, 2),) * 2,
        ...     pretrained_windows=(0, 0), num_classes=3)
        >>> init_params(jax.random.key(0), config)["stages"]["1"]["blocks"]["mlp"]["fc1"]["kernel"].shape
        (2, 16, 32)
    """

    def normal(*shape: int) -> Array:
        nonlocal key
        key, draw = jax.random.split(key)
        return 0.02 * jax.random.normal(draw, shape)

    def dense(fan_in: int, fan_out: int, bias: bool = True) -> Params:
        return {"kernel": normal(fan_in, fan_out)} | ({"bias": jnp.zeros(fan_out)} if bias else {})

    def norm(size: int) -> Params:
        return {"scale": jnp.ones(size), "bias": jnp.zeros(size)}

    def block(stage: int) -> Params:
        width, heads, hidden = config.widths[stage], config.num_heads[stage], config.mlp_widths[stage]
        biased = {"query": config.qkv_bias, "key": config.qkv_bias and config.version == 1, "value": config.qkv_bias}
        attention: Params = {name: dense(width, width, bias) for name, bias in biased.items()} | {"proj": dense(width, width)}
        if config.version == 1:
            attention["relative_position"] = normal(num_entries(config.cuts(stage)[0].window, class_token=False), heads)
        else:
            attention["logit_scale"] = jnp.full(heads, math.log(10.0))
            first = {"kernel": normal(2, POSITION_WIDTH), "offset": jnp.zeros(POSITION_WIDTH)}
            attention["position_mlp"] = {"fc1": first, "fc2": {"kernel": normal(POSITION_WIDTH, heads)}}
        place = "norm" if config.version == 1 else "post_norm"
        mlp = {"fc1": dense(width, hidden), "fc2": dense(hidden, width)}
        return {f"attention_{place}": norm(width), "attention": attention, f"mlp_{place}": norm(width), "mlp": mlp}

    def stage(index: int) -> Params:
        blocks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(block(index) for _ in range(config.depths[index])))
        if index == 0:
            return {"blocks": blocks}
        before, width = config.widths[index - 1], config.widths[index]
        normalise = {"norm": norm(4 * before)} if config.version == 1 else {"post_norm": norm(width)}
        return {"merge": {"reduction": dense(4 * before, width, False), **normalise}, "blocks": blocks}

    params: Params = {
        "patch_embedding": dense(config.patch_size[0] * config.patch_size[1] * 3, config.width),
        "patch_norm": norm(config.width),
        "stages": {str(index): stage(index) for index in range(len(config.depths))},
        "final_norm": norm(config.widths[-1]),
    }
    if config.num_classes:
        params["head"] = dense(config.widths[-1], config.num_classes)
    return params

"""A vision transformer in flax's linen with big_vision's names, for twins of its checkpoints."""

import flax.linen as nn
import jax.numpy as jnp


class Mlp(nn.Module):
    hidden: int

    @nn.compact
    def __call__(self, x):
        hidden = nn.gelu(nn.Dense(self.hidden)(x))  # flax numbers modules in the order in which they are made
        return nn.Dense(x.shape[-1])(hidden)


Mlp.__name__ = "MlpBlock"  # and by the names of their classes


class Block(nn.Module):
    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x, _=None):
        y = nn.LayerNorm(use_fast_variance=False)(x)
        x = x + nn.MultiHeadDotProductAttention(self.heads)(y, y)
        return x + Mlp(self.hidden)(nn.LayerNorm(use_fast_variance=False)(x)), None


class Encoder(nn.Module):
    heads: int
    hidden: int
    depth: int
    scan: bool

    @nn.compact
    def __call__(self, x):
        if self.scan:
            blocks = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=self.depth)
            x, _ = blocks(self.heads, self.hidden, name="encoderblock")(x, None)
        else:
            for i in range(self.depth):
                x, _ = Block(self.heads, self.hidden, name=f"encoderblock_{i}")(x)
        return nn.LayerNorm(use_fast_variance=False, name="encoder_norm")(x)


class MapHead(nn.Module):
    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x):
        probe = self.param("probe", nn.initializers.normal(1.0), (1, 1, x.shape[-1]))
        x = nn.MultiHeadDotProductAttention(self.heads)(probe, x)
        return x + Mlp(self.hidden)(nn.LayerNorm(use_fast_variance=False)(x))


MapHead.__name__ = "MAPHead"


class Twin(nn.Module):
    """One image (1, h, w, 3) to its logits (1, classes)."""

    pooling: str
    scan: bool = False
    learned: bool = True
    width: int = 8
    depth: int = 3

    @nn.compact
    def __call__(self, image):
        x = nn.Conv(self.width, (4, 4), (4, 4), padding="VALID", name="embedding")(image).reshape(1, -1, self.width)
        if self.learned:
            x = x + self.param("pos_embedding", nn.initializers.normal(1.0), (1, x.shape[1], self.width))
        else:
            x = x + sines_and_cosines(image.shape[1] // 4, image.shape[2] // 4, self.width)
        if self.pooling == "token":
            x = jnp.concatenate([self.param("cls", nn.initializers.normal(1.0), (1, 1, self.width)), x], axis=1)
        x = Encoder(2, 12, self.depth, self.scan, name="Transformer")(x)
        x = MapHead(2, 12)(x)[:, 0] if self.pooling == "map" else x[:, 0] if self.pooling == "token" else x.mean(1)
        return nn.Dense(5, name="head")(x)


def sines_and_cosines(rows, columns, width):
    """One position after the other."""
    positions = []
    for y in range(rows):
        for x in range(columns):
            frequencies = [10_000.0 ** (-i / (width // 4 - 1)) for i in range(width // 4)]
            wave = [function(place * frequency) for place in (x, y) for function in (jnp.sin, jnp.cos) for frequency in frequencies]
            positions.append(jnp.stack(wave))
    return jnp.stack(positions)[None]

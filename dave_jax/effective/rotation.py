"""`Rotation`: the operator of rotary position embedding (RoPE, arXiv 2104.09864), which turns pairs of channels by a token's angles.

The angles know where a token is and nothing of what it says, so the operator is the same for every image.
"""

import jax.numpy as jnp

from dave_jax.effective.operators import Leaf, Operator, Shape, operator


@operator(("cos", "sin"), ("in_shape", "pairs"))
class Rotation(Operator):
    """`(a, b) -> (a cos - b sin, b cos + a sin)` for each pair of channels: orthogonal, so that its transpose turns back.

    `cos` and `sin` have shape (heads or 1, tokens, c / 2). The channels of a pair are `adjacent` (2k and 2k + 1) or in the two `halves`
    (k and k + c / 2).

    Example:
        >>> quarter = Rotation(jnp.zeros((1, 1, 1)), jnp.ones((1, 1, 1)), (1, 1, 2), "halves")
        >>> quarter(jnp.array([[[3.0, 1.0]]])).tolist()
        [[[-1.0, 3.0]]]
    """

    cos: Leaf
    sin: Leaf
    in_shape: Shape
    pairs: str

    def __call__(self, x):
        adjacent = self.pairs == "adjacent"
        a, b = (x[..., ::2], x[..., 1::2]) if adjacent else jnp.split(x, 2, axis=-1)
        turned = a * self.cos - b * self.sin, b * self.cos + a * self.sin
        return jnp.stack(turned, axis=-1).reshape(x.shape) if adjacent else jnp.concatenate(turned, axis=-1)

    def transpose(self):
        return Rotation(self.cos, -self.sin, self.in_shape, self.pairs)

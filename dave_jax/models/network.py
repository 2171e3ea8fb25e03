"""`Network`: what the networks of dave_jax have in common."""

import abc
from typing import Any

from jaxtyping import Array, Float

from dave_jax.effective.decomposition import Decomposition


class Network(abc.ABC):
    """A forward pass made of layers that return their operators: a hashable function of parameters and one image."""

    def __call__(
        self, params: Any, image: Float[Array, "h w 3"], decomposition: str | Decomposition = "gradient"
    ) -> Float[Array, " classes"]:
        """Logits of one normalised image; the decomposition changes their derivative only."""
        return self.operators(params, image, decomposition)[0]

    @abc.abstractmethod
    def operators(
        self, params: Any, image: Float[Array, "h w 3"], decomposition: str | Decomposition = "effective"
    ) -> tuple[Float[Array, " classes"], dict[str, Any]]:
        """Logits and the operators that made them."""

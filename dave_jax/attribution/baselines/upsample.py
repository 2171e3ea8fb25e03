"""From scores of a vision transformer's tokens to maps of pixels: the patches cut out, put on their grid, and enlarged."""

import abc
import difflib

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dave_jax.attribution.method import Method
from dave_jax.models.model import Forward
from dave_jax.models.vit import ViT

KINDS = ("bilinear", "nearest", "bicubic")


def check_kind(kind: str) -> None:
    """Raise unless patches can be enlarged in that way.

    Raises:
        ValueError: it is none of `KINDS`.
    """
    if kind not in KINDS:
        near = difflib.get_close_matches(str(kind), KINDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"upsampling must be one of {list(KINDS)}; got {kind!r}.{hint}")


def upsample(patches: Float[Array, "rows columns"], image_size: tuple[int, int], kind: str = "bilinear") -> Float[Array, "h w"]:
    """Enlarge a map of patches to the image's size.

    `bilinear` interpolates between the patches' centres and is constant beyond the outermost (as torch does with `align_corners=False`);
    `nearest` fills each patch; `bicubic` is Keys' kernel with a = -0.5, which can leave the range of the values.

    Raises:
        ValueError: no such kind.

    Example:
        >>> upsample(jax.numpy.array([[0.0, 1.0]]), (1, 4)).tolist()
        [[0.0, 0.25, 0.75, 1.0]]
    """
    check_kind(kind)
    return jax.image.resize(patches, image_size, kind)


def patch_grid(scores: Float[Array, "*batch tokens"], vit: ViT) -> Float[Array, "*batch rows columns"]:
    """The scores of the patches on their grid. The patches are the last tokens; class, distillation and register tokens are cut off.

    Example:
        >>> from dave_jax.testing import tiny_model
        >>> patch_grid(jax.numpy.arange(17.0), tiny_model().forward)[0].tolist()
        [1.0, 2.0, 3.0, 4.0]
    """
    rows, columns = vit.config.grid
    return scores[..., -rows * columns :].reshape(*scores.shape[:-1], rows, columns)


def enlarged(scores: Float[Array, "*batch tokens"], vit: ViT, kind: str) -> Float[Array, "*batch h w"]:
    """The scores of the patches as maps of the image's size: zero where no patch is (`ViTConfig.overhang`)."""
    grids, size, patch = patch_grid(scores, vit), vit.config.image_size, vit.config.patch_size
    covered = grids.shape[-2] * patch[0], grids.shape[-1] * patch[1]
    rest = [(0, whole - part) for whole, part in zip(size, covered, strict=True)]
    flat = jax.vmap(lambda grid: jnp.pad(upsample(grid, covered, kind), rest))(grids.reshape(-1, *grids.shape[-2:]))
    return flat.reshape(*grids.shape[:-2], *size)


def as_vit(forward: Forward, method: str) -> ViT:
    """The forward pass of a vision transformer of ours, whose tokens and attention matrices are known.

    Raises:
        TypeError: it is another function.
    """
    if not isinstance(forward, ViT):
        raise TypeError(
            f"{method} looks at the tokens and attention matrices of a vision transformer, and those of {type(forward).__name__} are not "
            "known. Use a model of dave_jax.load, or a method that needs only logits and gradients (InputTimesGradient)."
        )
    return forward


class TokenMethod(Method):
    """A method that scores the tokens of a vision transformer; its maps are the enlarged scores of the patches.

    Attributes:
        upsampling: how patches become pixels: a kind of `upsample`.
    """

    upsampling: str

    def __post_init__(self):
        check_kind(self.upsampling)

    @abc.abstractmethod
    def scores(self, vit: ViT, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"]) -> Float[Array, "k tokens"]:
        """Scores of tokens, the patches last; tokens in front of them may be left out. Traced."""

    def attribute(
        self, forward: Forward, params, image: Float[Array, "h w 3"], cotangents: Float[Array, "k classes"], key: PRNGKeyArray
    ) -> Float[Array, "k h w"]:
        """Maps of one image."""
        vit = as_vit(forward, type(self).__name__)
        if vit.config.pooled_blocks > 1:
            raise ValueError(
                f"{type(self).__name__} follows the tokens of the last block, and this head reads the class tokens of "
                f"{vit.config.pooled_blocks}. Use a method that needs only logits and gradients (InputTimesGradient), or pooled_blocks=1."
            )
        return enlarged(self.scores(vit, params, image, cotangents), vit, self.upsampling)

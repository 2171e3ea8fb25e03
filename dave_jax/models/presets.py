"""The noise levels that DAVE's authors chose by eye for six models (arXiv 2602.06613, the configurations of their repository)."""

from dave_jax.config import DaveConfig

_NOISE_ALPHA = {
    "deit3_base_patch16_224": 0.9,
    "deit3_small_patch16_224": 0.5,
    "deit_base_patch16_224": 0.7,
    "deit_small_patch16_224": 0.5,
    "vit_base_patch16_224": 0.3,
    "vit_small_patch16_224": 0.1,
}


def preset(architecture: str) -> DaveConfig | None:
    """The authors' settings for a timm architecture (any weights of it), or None where they gave none: calibrate such a model.

    Example:
        >>> preset("deit3_base_patch16_224").noise_alpha
        0.9
    """
    noise_alpha = _NOISE_ALPHA.get(architecture)
    return None if noise_alpha is None else DaveConfig(noise_alpha=noise_alpha)

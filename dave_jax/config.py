"""`DaveConfig`: everything that one explanation depends on besides the model, the image and the key."""

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Array

from dave_jax.pytree import register_pytree

if TYPE_CHECKING:
    Scalar = float | Array
else:  # JAX rebuilds a config with whatever stands for its floats (tracers, shapes, argument names), so nothing is checked at run time
    Scalar = Any

_STATIC = (
    *("num_samples", "chunk_size", "schedule", "sampler", "pull_back", "warp_adjoint", "precision", "aggregation", "mad_pilot"),
    *("smoothing", "gaussian_size", "bilateral_size", "random_padding", "random_blur"),
)

_SWITCH_OFF = {
    "gaussian_sigma": " (gaussian_share=0 switches the blur off)",
    "bilateral_sigma": " (bilateral_size=1 switches the filter off)",
    "bilateral_range": " (bilateral_size=1 switches the filter off)",
}


@dataclasses.dataclass(frozen=True)
class DaveConfig:
    """Settings of `explain`. Floats are traced: changing one compiles nothing. The others are static.

    The defaults are those of the authors' repository; `noise_alpha` is each model's own (see `calibrate`).

    Attributes:
        num_samples: neighbours of the image that are averaged.
        chunk_size: samples that are computed at once, at most `num_samples`; None chooses it from the device's memory.
        noise_alpha: the strongest noise level, in [0, 1]: levels run from 0 to it (see `sampling.noise`).
        schedule: `linear` in the level t, or `angle`: linear in theta where `1 - t = cos(theta)`.
        sampler: how neighbours are drawn: `independent` (the authors' code) or another of `sampling.samplers.SAMPLERS`.
        flip_probability: of a horizontal flip.
        rotation: largest angle, in degrees.
        shift: largest shift, as a share of the image's size, for each axis.
        scale_min, scale_max: range of the isotropic scale.
        random_padding: whether to shrink the image into a zero border; `padding` is then the largest border, as a share of the size.
        padding: see `random_padding`.
        random_blur: whether to blur; `blur` is then the largest sigma, in pixels.
        blur: see `random_blur`.
        pull_back: `adjoint` (the gradient with respect to the image before its transform; the authors' code) or `inverse` (the paper's
            notation: the map is warped back).
        warp_adjoint: how the warp's derivative goes back: `scatter`, or `gather`, which is exact for scales of up to 1.41 (up to 2 without
            rotation) and gives the same bits every time; None takes `gather` where the ranges allow it.
        precision: `bfloat16` computes the network's passes in it, with norms, softmax and sums in float32 (networks of ours only);
            `bfloat16_products` rounds to it only what dense layers multiply, which suits CPUs that have such products (AMX, AVX-512);
            `float32` in the parameters' own type, or in float32 where they are in bfloat16; None takes `bfloat16` on GPU and TPU
            where it can, and where the parameters are in it.
        aggregation: `mad_mean`, `biweight`, `mean`, `median`, or `streaming_mean` (the mean, in memory that does not grow
            with `num_samples`); see `attribution.aggregate`.
        mad_threshold: samples further than this many robust standard deviations from the median are left out by `mad_mean`.
        mad_pilot: `mad_mean` and `biweight` take median and deviation from so many samples, spread evenly over all, and hold no more than
            these; None takes all, or as many as fit in memory.
        smoothing: whether to smooth the average of W_eff before it multiplies the image, as far as two halves of the samples disagree
            (`attribution.smoothing`); the authors do not.
        gaussian_size, gaussian_sigma, gaussian_share: post-processing blends this share of a blurred map with the map; kernel size and
            sigma in pixels.
        bilateral_size, bilateral_sigma, bilateral_range: the bilateral filter's kernel size and sigma in pixels, and its sigma in units of
            the map; a size of 1 leaves the map as it is.
    """

    num_samples: int = 50
    chunk_size: int | None = None
    noise_alpha: Scalar = 0.5
    schedule: Literal["linear", "angle"] = "linear"
    sampler: str = "independent"
    flip_probability: Scalar = 0.5
    rotation: Scalar = 20.0
    shift: Scalar = 0.1
    scale_min: Scalar = 0.9
    scale_max: Scalar = 1.1
    random_padding: bool = False
    padding: Scalar = 0.1
    random_blur: bool = False
    blur: Scalar = 1.0
    pull_back: Literal["adjoint", "inverse"] = "adjoint"
    warp_adjoint: Literal["scatter", "gather"] | None = None
    precision: Literal["float32", "bfloat16", "bfloat16_products"] | None = None
    aggregation: Literal["mad_mean", "biweight", "mean", "median", "streaming_mean"] = "mad_mean"
    mad_threshold: Scalar = 2.5
    mad_pilot: int | None = None
    smoothing: bool = False
    gaussian_size: int = 11
    gaussian_sigma: Scalar = 7.0
    gaussian_share: Scalar = 0.5
    bilateral_size: int = 5
    bilateral_sigma: Scalar = 0.5
    bilateral_range: Scalar = 0.05

    def __post_init__(self):
        problems = []
        for name, least in (("num_samples", 1), ("gaussian_size", 1), ("bilateral_size", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                problems.append(f"{name} must be an integer of at least {least}; got {value!r}")
        for name in ("gaussian_size", "bilateral_size"):
            if isinstance(getattr(self, name), int) and getattr(self, name) % 2 == 0:
                problems.append(f"{name} must be odd; got {getattr(self, name)}")
        if self.chunk_size is not None and not 1 <= self.chunk_size <= self.num_samples:
            problems.append(f"chunk_size must be between 1 and num_samples={self.num_samples}, or None to choose it; got {self.chunk_size}")
        if self.mad_pilot is not None and not 1 <= self.mad_pilot <= self.num_samples:
            problems.append(f"mad_pilot must be between 1 and num_samples={self.num_samples}, or None to choose it; got {self.mad_pilot}")
        if self.smoothing and self.num_samples < 4:
            problems.append(f"smoothing compares two halves of at least 4 samples; got num_samples={self.num_samples}")
        for name, choices in (
            ("schedule", ("linear", "angle")),
            ("pull_back", ("adjoint", "inverse")),
            ("warp_adjoint", ("scatter", "gather", None)),
            ("precision", ("float32", "bfloat16", "bfloat16_products", None)),
            ("aggregation", ("mad_mean", "biweight", "mean", "median", "streaming_mean")),
        ):
            if getattr(self, name) not in choices:
                problems.append(f"{name} must be one of {list(choices)}; got {getattr(self, name)!r}")
        for name, low, high in (
            ("noise_alpha", 0.0, 1.0),
            ("flip_probability", 0.0, 1.0),
            ("rotation", 0.0, 360.0),
            ("shift", 0.0, 1.0),
            ("scale_min", 1e-3, 1e3),
            ("scale_max", 1e-3, 1e3),
            ("padding", 0.0, 0.49),
            ("blur", 0.0, 1e3),
            ("mad_threshold", 0.0, float("inf")),
            ("gaussian_share", 0.0, 1.0),
            ("gaussian_sigma", 1e-3, 1e3),
            ("bilateral_sigma", 1e-3, 1e3),
            ("bilateral_range", 1e-6, 1e6),
        ):
            value = getattr(self, name)
            if isinstance(value, (int, float)) and not low <= value <= high:  # traced values cannot be looked at
                problems.append(f"{name} must lie in [{low:g}, {high:g}]; got {value}{_SWITCH_OFF.get(name, '')}")
        if problems:
            raise ValueError("DaveConfig: " + "; ".join(problems) + ".")

    def with_samples(self, num_samples: int) -> "DaveConfig":
        """The same settings with another number of samples; a chunk size or pilot that is too large for it is chosen anew.

        Example:
            >>> DaveConfig(num_samples=16, chunk_size=8).with_samples(4).chunk_size is None
            True
        """
        chunk, pilot = (None if (size or 0) > num_samples else size for size in (self.chunk_size, self.mad_pilot))
        return dataclasses.replace(self, num_samples=num_samples, chunk_size=chunk, mad_pilot=pilot)


register_pytree(DaveConfig, [field.name for field in dataclasses.fields(DaveConfig) if field.name not in _STATIC], _STATIC)


def config_as_json(config: DaveConfig) -> dict[str, Any]:
    """The settings by name, floats exactly, so that a map can be computed again.

    Example:
        >>> config_as_json(DaveConfig(num_samples=8))["num_samples"]
        8
    """
    return {name: value if value is None or isinstance(value, int | str) else float(value) for name, value in vars(config).items()}

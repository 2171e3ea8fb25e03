"""Pictures of explanations, as PIL images: a heat map over its photograph, panels of several classes, and curves.

matplotlib is imported when a picture is drawn, and only its objects are used: no window, no global state.
"""

import difflib
import textwrap
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Float
from PIL import Image

Pixels = jax.Array | np.ndarray

_TILE = 240  # pixels of the longest edge of a small image in a panel
_GAP = 8


def overlay(
    image: Float[Pixels, "..."],
    heat: Float[Pixels, "..."],
    *,
    alpha: float = 1.0,
    fade: float = 0.3,
    colormap: str = "inferno",
) -> Image.Image:
    """A heat map over its photograph: `(1 - alpha s) faded + alpha s colour(0.3 + 0.7 s)` with `s = sqrt(heat)`.

    A pixel without heat shows the photograph, darker and greyer by `fade`. The root lifts the lower half of the range, where most of a map
    lies, and the colours start above the darkest ones, which would pass for shadows.

    Args:
        image: RGB pixels in [0, 1], shape (h, w, 3); `Preprocessing.denormalise` gives them back from a normalised image.
        heat: in [0, 1], shape (h, w).
        alpha: opacity where the heat is one.
        fade: how much darker and greyer the photograph becomes, in [0, 1].
        colormap: a name that matplotlib knows.

    Returns:
        An RGB image of the same size.

    Raises:
        ValueError: shapes that do not fit, values outside [0, 1], or an unknown colormap.

    Example:
        >>> overlay(np.ones((6, 8, 3)), np.zeros((6, 8)), fade=0.0).getpixel((0, 0))
        (255, 255, 255)
    """
    pixels, heat = _check_image(image), _check_heat(heat, image.shape)
    for name, value in (("alpha", alpha), ("fade", fade)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must lie in [0, 1]; got {value}")
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    faded = (1.0 - fade) * ((1.0 - fade) * pixels + fade * grey[..., None])
    strength = np.sqrt(heat)
    opacity = alpha * strength[..., None]
    return _to_image((1.0 - opacity) * faded + opacity * colours(0.3 + 0.7 * strength, colormap))


def heat_picture(heat: Float[Pixels, "..."], *, colormap: str = "inferno") -> Image.Image:
    """A heat map alone, in colours.

    Args:
        heat: in [0, 1], shape (h, w).
        colormap: a name that matplotlib knows.

    Raises:
        ValueError: values outside [0, 1], or an unknown colormap.

    Example:
        >>> heat_picture(np.zeros((6, 8))).size
        (8, 6)
    """
    return _to_image(colours(_check_heat(heat, heat.shape), colormap))


def panel(
    image: Float[Pixels, "..."],
    heats: Float[Pixels, "..."],
    titles: Sequence[str] | None = None,
    *,
    alpha: float = 1.0,
    fade: float = 0.3,
    colormap: str = "inferno",
) -> Image.Image:
    """Photograph, heat map and overlay beside each other; for several classes a column each, the overlay above the map.

    Args:
        image: RGB pixels in [0, 1], shape (h, w, 3).
        heats: in [0, 1], shape (h, w), or (k, h, w) for k classes.
        titles: one for each class.
        alpha: see `overlay`.
        fade: see `overlay`.
        colormap: see `overlay`.

    Raises:
        ValueError: shapes that do not fit, values outside [0, 1], another number of titles, or an unknown colormap.

    Example:
        >>> panel(np.ones((6, 8, 3)), np.zeros((2, 6, 8)), ["cat", "dog"]).mode
        'RGB'
    """
    stack = heats[None] if heats.ndim == 2 else heats
    if stack.ndim != 3 or not len(stack):
        raise ValueError(f"heats must have shape (h, w), or (k, h, w) with k >= 1; got {tuple(heats.shape)}")
    titles = [""] * len(stack) if titles is None else list(titles)
    if len(titles) != len(stack):
        raise ValueError(f"There must be one title for each class; got {len(titles)} titles and {len(stack)} heat maps")
    photo = _to_image(_check_image(image))
    overlays = [overlay(image, heat, alpha=alpha, fade=fade, colormap=colormap) for heat in stack]  # checks the shapes
    maps = [heat_picture(heat, colormap=colormap) for heat in stack]
    if len(stack) == 1:
        return tiles([[(photo, "photograph"), (maps[0], titles[0] or "map"), (overlays[0], "overlay")]])
    legend = np.broadcast_to(np.linspace(0.0, 1.0, photo.width), (max(1, photo.height // 12), photo.width))
    upper = [(photo, "photograph"), *zip(overlays, titles, strict=True)]
    return tiles([upper, [(_to_image(colours(legend, colormap)), "maps: 0 to their maximum"), *((heat, "") for heat in maps)]])


def curve(
    levels: Float[Pixels, "..."],
    change: Float[Pixels, "..."],
    chosen: float,
    *,
    tolerance: float | None = None,
    title: str = "",
) -> Image.Image:
    """A calibration curve: the change of the target's probability against the noise level, with the level that was chosen.

    Args:
        levels: noise levels, shape (n,).
        change: mean change of the probability at each level, shape (n,).
        chosen: the level that calibration picked.
        tolerance: the largest change that was accepted.
        title: above the drawing.

    Raises:
        ValueError: not two vectors of one length.

    Example:
        >>> curve(np.linspace(0.0, 0.9, 10), np.linspace(0.0, 0.5, 10) ** 2, 0.5, tolerance=0.1).size
        (720, 432)
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    x, y = np.asarray(levels, float), np.asarray(change, float)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ValueError(f"levels and change must be vectors of one length; got {x.shape} and {y.shape}")
    figure = Figure(figsize=(7.2, 4.32), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(x, y, "o-", color="tab:blue", markersize=4, label="mean over the photographs")
    if tolerance is not None:
        axes.axhline(tolerance, color="0.45", linestyle="--", linewidth=1, label=f"tolerance {tolerance:g}")
    axes.axvline(chosen, color="tab:red", linewidth=1.5, label=f"chosen noise_alpha = {chosen:.3g}")
    axes.set(xlabel="noise level t", ylabel="change of the target's probability", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return _draw(figure, FigureCanvasAgg)


def curves(
    x: Float[Pixels, "..."], heights: Mapping[str, Float[Pixels, "..."]], *, x_label: str = "", y_label: str = "", title: str = ""
) -> Image.Image:
    """Named curves over the same places, the legend in the order of their last points.

    Example:
        >>> curves(np.linspace(0.0, 0.9, 10), {"dave": np.ones(10), "random": np.zeros(10)}).size
        (900, 500)
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 5.0), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for i, name in enumerate(sorted(heights, key=lambda name: -float(heights[name][-1]))):
        axes.plot(np.asarray(x), np.asarray(heights[name]), color=f"C{i % 10}", linestyle=("-", "--", ":")[i // 10 % 3], label=name)
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return _draw(figure, FigureCanvasAgg)


def tiles(rows: list[list[tuple[Image.Image, str]]]) -> Image.Image:
    """Rows of titled pictures of one width; small ones are enlarged without smoothing, so that their pixels stay visible.

    Example:
        >>> tiles([[(Image.new("RGB", (100, 60)), "a photograph")]]).size
        (216, 158)
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first = rows[0][0][0]
    scale = max(1, round(_TILE / max(first.size)))
    width, line = first.width * scale, 22
    heights = [max(tile.height for tile, _ in row) * scale for row in rows]
    total = len(rows[0]) * (width + _GAP) + _GAP, sum(heights) + len(rows) * (line + _GAP) + _GAP
    figure = Figure(figsize=(total[0] / 100, total[1] / 100), dpi=100)
    top = total[1]
    for row, height in zip(rows, heights, strict=True):
        top -= line + _GAP
        for column, (tile, title) in enumerate(row):
            left, size = _GAP + column * (width + _GAP), (width, tile.height * scale)
            figure.figimage(np.asarray(tile.resize(size, Image.Resampling.NEAREST)), left, top - size[1])
            short = textwrap.shorten(title, max(8, width // 7), placeholder=" …") or title[: width // 7]
            figure.text((left + width / 2) / total[0], (top + 6) / total[1], short, ha="center", va="baseline", fontsize=9)
        top -= height
    return _draw(figure, FigureCanvasAgg)


def _draw(figure, canvas_type) -> Image.Image:
    canvas = canvas_type(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def colours(values: np.ndarray, colormap: str) -> np.ndarray:
    """RGB in [0, 1] of values in [0, 1]."""
    from matplotlib import colormaps

    if colormap not in colormaps:
        near = difflib.get_close_matches(colormap, list(colormaps), n=3)
        raise ValueError(
            f"colormap must be one that matplotlib knows; got {colormap!r}. Near names: {near or ['inferno', 'viridis', 'jet']}."
        )
    return colormaps[colormap](np.asarray(values, float))[..., :3]


def _to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(255.0 * pixels).astype(np.uint8))


def _check_image(image: Pixels) -> np.ndarray:
    pixels = np.asarray(image, float)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"image must have shape (h, w, 3); got {pixels.shape}. Draw one image of a batch at a time.")
    if not (pixels.min() >= 0.0 and pixels.max() <= 1.0):
        found = f"[{pixels.min():g}, {pixels.max():g}]"
        raise ValueError(f"image must hold pixels in [0, 1]; got {found}. Use model.preprocessing.denormalise(image).")
    return pixels


def _check_heat(heat: Pixels, shape: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(heat, float)
    if values.shape != tuple(shape[:2]):
        raise ValueError(f"a heat map must have the image's height and width {tuple(shape[:2])}; got {values.shape}")
    if not (values.min() >= 0.0 and values.max() <= 1.0):
        raise ValueError(
            f"a heat map must lie in [0, 1]; got [{values.min():g}, {values.max():g}]. Cut it at 0 and divide it by its maximum."
        )
    return values

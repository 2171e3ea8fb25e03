"""The settings of the page as a program, which gives the same map."""

import dataclasses
from pathlib import Path

from dave_jax.app.question import Question, chosen_method, has_samples, titles
from dave_jax.attribution.dave import Dave
from dave_jax.attribution.method import Method
from dave_jax.models.model import Model

EXAMPLES = Path(__file__).parents[1] / "assets" / "photos"
"""The photographs that come with the package."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a model came from, as somebody would write it.

    Attributes:
        name: for `dave.load`; None is the embedded model.
        image_size: height and width; None is the model's own.
        prompts: of a model of images and text.
        templates: of the prompts.
    """

    name: str | None = None
    image_size: int | None = None
    prompts: tuple[str, ...] = ()
    templates: tuple[str, ...] = ("{}",)


def load_code(source: Source) -> str:
    """The expression that loads a model.

    Example:
        >>> load_code(Source("openai/clip-vit-base-patch32", prompts=("a cat", "a dog")))
        "dave.load('openai/clip-vit-base-patch32').prompts(['a cat', 'a dog'])"
    """
    given = [] if source.name is None else [repr(source.name)]
    given += [] if source.image_size is None else [f"image_size={source.image_size}"]
    code = f"dave.load({', '.join(given)})"
    if source.prompts:
        templates = "" if source.templates == ("{}",) else f", templates={list(source.templates)!r}"
        code += f".prompts({list(source.prompts)!r}{templates})"
    return code


def snippet(source: Source, model: Model, photo: str, question: Question, classes: int) -> str:
    """A program that draws the page's maps: as text that runs.

    Args:
        source: of the model.
        model: what predicts.
        photo: name of the photograph's file; that of an example where it is one (`EXAMPLES`), else of a file in the working folder.
        question: what was asked.
        classes: of the model.
    """
    example = (EXAMPLES / photo).is_file() and Path(photo).name == photo
    place = f'Path(dave.__file__).parent / "assets" / "photos" / {photo!r}' if example else repr(photo)
    method, averages = chosen_method(question, model), has_samples(question.method)
    lines = ["from pathlib import Path", ""] if example else []
    if averages and not isinstance(method, Dave):
        lines = ["import dataclasses", *(lines or [""])]
    lines += ["import jax", "", "import dave_jax as dave", "from dave_jax import plot"]
    if not (averages and isinstance(method, Dave)):
        lines.append("from dave_jax.attribution.methods import methods")
    names = titles(question, model)
    lines += ["", f"model = {load_code(source)}", f"images = model.preprocess({place})"]
    if question.contrast:
        first, second = question.targets
        zeros = f"jax.numpy.zeros((1, {classes}))"
        lines.append(f"targets = {zeros}.at[0, {first}].set(1.0).at[0, {second}].set(-1.0)")
    else:
        lines.append(f"targets = [{list(question.targets)}]")
    lines += [*_call(question, method), f"titles = {names!r}"]
    lines.append('plot.panel(model.preprocessing.denormalise(images[0]), maps[0], titles).save("panel.png")')
    return "\n".join(lines) + "\n"


def _call(question: Question, method: Method) -> list[str]:
    """The lines that compute the maps."""
    key, averages = f"key=jax.random.key({question.seed})", has_samples(question.method)
    if averages and isinstance(method, Dave):
        other = "" if method.decomposition == "effective" else f", decomposition={method.decomposition!r}"
        return [
            f"config = model.config.with_samples({question.num_samples})",
            f"maps = dave.explain(model, images, targets, {key}, config=config{other})",
        ]
    lines = [f"method = methods[{question.method!r}]"]
    if averages:
        lines.append(f"method = dataclasses.replace(method, num_samples={question.num_samples})")
    return [*lines, f"maps = method(model, images, targets, {key})"]

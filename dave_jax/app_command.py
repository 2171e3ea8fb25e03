"""The command `dave-jax app`: a page in the browser."""

import importlib.util
import os
import sys
import webbrowser
from argparse import Namespace

import dave_jax as dave
from dave_jax.app.limits import Limits
from dave_jax.app.question import MOST_SAMPLES
from dave_jax.app.server import serve
from dave_jax.app.snippet import Source
from dave_jax.batch.extras import need
from dave_jax.models.model import Model


def app(arguments: Namespace) -> int:
    """Serve the page until it is interrupted."""
    if importlib.util.find_spec("gradio") is None:  # not imported yet: it reads its settings then, which are still to be made
        need("gradio", "'dave-jax[app]'")
    limits = Limits(arguments.max_megabytes, arguments.max_megapixels)
    if not 0 <= arguments.port < 65536:
        raise ValueError(f"--port must lie in 0 to 65535; got {arguments.port}.")
    if not 4 <= arguments.samples <= MOST_SAMPLES:
        raise ValueError(f"--samples must lie in 4 to {MOST_SAMPLES}; got {arguments.samples}.")
    models, sources = load_models(arguments)

    def ready(url: str) -> None:
        print(f"The page is at {url}\nCtrl+C ends it.", flush=True)
        if not arguments.no_browser:
            webbrowser.open(url)

    where = {"host": arguments.host, "port": arguments.port}
    computing = serve(models, sources, limits, **where, num_samples=arguments.samples, ready=ready)
    if computing:  # Python would wait for the thread, and nobody waits for its map
        sys.stdout.flush()
        os._exit(0)
    return 0


def load_models(arguments: Namespace) -> tuple[dict[str, Model], dict[str, Source]]:
    """The models that the arguments name, and where each came from, by the names that the page shows.

    Raises:
        ValueError: a model of images and text without prompts, or prompts without such a model.
    """
    models: dict[str, Model] = {}
    sources: dict[str, Source] = {}
    for name in arguments.model or [None]:
        model, source = dave.load(name, image_size=arguments.image_size), Source(name, arguments.image_size)
        if isinstance(model, dave.ImageText):
            if not arguments.prompt:
                raise ValueError(
                    f"{model.name!r} is a model of images and text, which needs sentences. "
                    'Add some: --prompt "a photo of a cat" --prompt "a photo of a dog".'
                )
            source = Source(name, arguments.image_size, tuple(arguments.prompt), tuple(arguments.template or ["{}"]))
            model = model.prompts(arguments.prompt, templates=list(source.templates))
        shown = model.name if model.name not in models else f"{model.name} ({name})"
        models[shown], sources[shown] = model, source
    if (arguments.prompt or arguments.template) and not any(source.prompts for source in sources.values()):
        raise ValueError("--prompt and --template are for models of images and text; none of these is one. Leave them out.")
    return models, sources

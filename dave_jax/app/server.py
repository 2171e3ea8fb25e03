"""The server of the page: a temporary folder, gradio told to stay at home, and uvicorn until SIGINT or SIGTERM."""

import contextlib
import ipaddress
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dave_jax.app.drawing import STATIC
from dave_jax.app.guard import Guard
from dave_jax.app.layout import theme
from dave_jax.app.limits import Limits
from dave_jax.app.page import page
from dave_jax.app.session import Studio
from dave_jax.app.snippet import EXAMPLES, Source
from dave_jax.batch.extras import need
from dave_jax.models.model import Model

_GRACE = 5.0  # seconds for open connections to end
_LOCAL = ("127.0.0.1", "localhost", "[::1]")


def serve(
    models: Mapping[str, Model],
    sources: Mapping[str, Source],
    limits: Limits,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    num_samples: int = 32,
    ready: Callable[[str], None] = print,
) -> bool:
    """Serve the page until SIGINT or SIGTERM; then nothing is left of what was uploaded.

    Args:
        models: by the name that is shown; the first is chosen to begin with.
        sources: where each came from.
        limits: of uploads.
        host: the address to listen at.
        port: likewise; 0 takes a free one.
        num_samples: to begin with.
        ready: called with the page's address when it can be opened.

    Returns:
        Whether a thread is still computing: JAX cannot be interrupted.

    Raises:
        OSError: the address is taken, or not this machine's.
        ModuleNotFoundError: gradio is not installed.
    """
    with _listening(host, port) as listener, _folder() as folder, _at_home(folder):
        gradio = need("gradio", "'dave-jax[app]'")  # which reads its settings from the environment now
        uvicorn, fastapi = need("uvicorn"), need("fastapi")
        studio = Studio(models, sources, limits, folder / "results")
        blocks = page(studio, _examples(folder / "uploads"), num_samples)
        app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        gradio.mount_gradio_app(
            app,
            blocks,
            "/",
            footer_links=[],
            run_history=False,
            max_file_size=limits.bytes,
            ssr_mode=False,
            mcp_server=False,
            enable_monitoring=False,
            pwa=False,
            show_error=False,
            theme=theme(gradio),
            css_paths=STATIC / "style.css",
            js=(STATIC / "page.js").read_text(encoding="utf-8"),
        )
        blocks.has_launched = True  # gradio's own checks of paths wait for it
        guarded = Guard(app, limits.bytes, _LOCAL if _is_local(host) else None)
        address = listener.getsockname()
        url = f"http://{f'[{address[0]}]' if ':' in address[0] else address[0]}:{address[1]}/"
        config = uvicorn.Config(guarded, log_level="critical", access_log=False, timeout_graceful_shutdown=1, ws="none")
        held_up = _run(uvicorn, config, listener, lambda: ready(url))
    return held_up or studio.turns.working


def _run(uvicorn: Any, config: Any, listener: socket.socket, ready: Callable[[], None]) -> bool:
    """Serve in a thread until a signal comes; returns whether the thread is held up by a computation.

    asyncio would wait for that as long as it takes, and the folder is still to be removed.
    """

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    server, ended = Server(config), threading.Event()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        thread.start()
        while thread.is_alive() and not ended.wait(0.5):
            pass
        server.should_exit = True
        thread.join(_GRACE)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return thread.is_alive()


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket at the address, before anything slow happens."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise OSError(f"--host must be an address of this machine; got {host!r} ({error.strerror}).") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise OSError(f"Cannot listen at {host}:{port} ({error.strerror}). Choose another --port; 0 takes a free one.") from error
        yield listener


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A temporary folder, in which also libraries put theirs."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="dave-jax-app-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        for part in ("uploads", "results"):
            (folder / part).mkdir()
        tempfile.tempdir = str(folder)
        try:
            yield folder
        finally:
            tempfile.tempdir = before


@contextlib.contextmanager
def _at_home(folder: Path) -> Iterator[None]:
    """The environment in which gradio tells nobody, asks nobody, and writes into our folder."""
    settings = {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(folder / "uploads"),
        "GRADIO_EXAMPLES_CACHE": str(folder / "examples"),
        "GRADIO_CACHE_EXAMPLES": "False",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _examples(folder: Path) -> list[Path]:
    """Copies of the package's photographs where gradio serves from."""
    (folder / "examples").mkdir()
    return [Path(shutil.copy(photo, folder / "examples")) for photo in sorted(EXAMPLES.glob("*.jpg"))]


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

"""What of a server can be reached: the routes that the page needs, under the names that it has, with bodies of bounded size."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

EXACT = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt")
BEGINNINGS = ("/assets/", "/static/", "/svelte/")
CALLS = (
    *("upload", "upload_progress", "file=", "queue/join", "queue/data", "run/predict"),
    *("heartbeat/", "cancel", "reset", "startup-events", "info"),
)
_OVERHEAD = 65536  # of a form around its file


def reachable(path: str) -> bool:
    """Whether the page needs a route. Files of other servers are not passed on.

    Example:
        >>> reachable("/gradio_api/queue/join"), reachable("/gradio_api/file=https://example.org/"), reachable("/gradio_api/proxy=x")
        (True, False, False)
    """
    if path in EXACT or path.startswith(BEGINNINGS):
        return True
    call = path.removeprefix("/gradio_api/")
    return call != path and call.startswith(CALLS) and not (call.startswith("file=") and "://" in call)


class Guard:
    """An ASGI application around another.

    Args:
        app: the other one.
        most: bytes of a request's body.
        hosts: names under which the server may be called, so that no other site's page reaches it by a name of its own; None is any.
    """

    def __init__(self, app: App, most: int, hosts: tuple[str, ...] | None = None):
        self.app, self.most, self.hosts = app, most + _OVERHEAD, hosts

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").rpartition(":")[0] or headers.get(b"host", b"").decode("latin-1")
        length = headers.get(b"content-length", b"0")
        if self.hosts is not None and host not in self.hosts:
            await _refuse(send, 421, "This server is not called so.")
        elif not reachable(scope["path"]):
            await _refuse(send, 404, "There is nothing here.")
        elif not length.isdigit() or int(length) > self.most:
            await _refuse(send, 413, "This is too large.")
        else:
            await self.app(scope, self._bounded(receive), send)

    def _bounded(self, receive: Callable[[], Awaitable[Message]]) -> Callable[[], Awaitable[Message]]:
        """Bodies that do not tell their length end where they are too long, as if the visitor had left."""
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            return {"type": "http.disconnect"} if taken > self.most else message

        return bounded


async def _refuse(send: Callable[[Message], Awaitable[None]], status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""What of the server can be reached."""

import asyncio

import pytest

from dave_jax.app.guard import Guard, reachable


def ask(path: str, *, headers: dict[str, str] | None = None, bodies: tuple[bytes, ...] = (b"",), hosts=("127.0.0.1", "[::1]")) -> int | str:
    """The status of the answer, 200 where the guard lets a request pass, or what the application got in place of its body."""
    headers = {"host": "127.0.0.1:7860"} | (headers or {})
    scope = {"type": "http", "path": path, "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    messages = iter([{"type": "http.request", "body": body, "more_body": True} for body in bodies])
    sent = []

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message)

    async def app(scope, receive, send):
        for _ in bodies:
            if (await receive())["type"] == "http.disconnect":
                sent.append({"status": "cut off"})
                return
        await send({"status": 200})

    asyncio.run(Guard(app, 1000, hosts)(scope, receive, send))
    return sent[0]["status"]


@pytest.mark.parametrize("path", ["/", "/config", "/theme.css", "/assets/index.js", "/gradio_api/upload", "/gradio_api/file=/tmp/a/b.png"])
def test_what_the_page_needs_is_there(path):
    assert ask(path) == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/docs", "/monitoring", "/login", "/gradio_api/proxy=https://example.org", "/gradio_api/file=https://example.org/a"),
        *("/gradio_api/call/explain", "/gradio_api/vibe-edit", "/gradio_api/mcp/sse", "/gradio_api/runs", "/upload", "/assets"),
    ],
)
def test_nothing_else_is(path):
    assert ask(path) == 404 and not reachable(path)


def test_other_names_are_refused_on_this_machine_only():
    assert ask("/", headers={"host": "evil.example:7860"}) == 421
    assert ask("/", headers={"host": "[::1]:7860"}) == 200 and ask("/", headers={"host": "127.0.0.1"}) == 200
    assert ask("/", headers={"host": "photos.example:7860"}, hosts=None) == 200


def test_bodies_are_bounded():
    most = 1000 + 65536
    assert ask("/gradio_api/upload", headers={"content-length": str(most)}) == 200
    assert ask("/gradio_api/upload", headers={"content-length": str(most + 1)}) == 413
    assert ask("/gradio_api/upload", headers={"content-length": "-1"}) == 413
    assert ask("/gradio_api/upload", bodies=(b"0" * 60000, b"0" * 60000)) == "cut off"  # of a length that nobody told

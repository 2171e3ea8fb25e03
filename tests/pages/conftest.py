"""A browser whose pages may neither complain nor ask for anything that is not a file."""

import pytest


@pytest.fixture
def tab(chromium):
    """A page of a fresh profile; afterwards it must have been quiet."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []

"""A browser deals with input in its own time."""

import time
from collections.abc import Callable
from typing import Any

SECONDS = 20


def settled(read: Callable[[], Any], expected: Any = True) -> None:
    """Wait until something is as expected, and fail if it does not become so."""
    end = time.monotonic() + SECONDS
    while read() != expected and time.monotonic() < end:
        time.sleep(0.02)
    assert read() == expected

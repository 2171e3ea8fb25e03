"""One computation at a time: a line in which requests wait, and in which a session's new request takes the place of its old one."""

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


@dataclasses.dataclass(eq=False)
class Turn:
    """A request in the line.

    Attributes:
        session: whose it is.
        seen: when it was last heard of.
        working: whether it computes right now.
    """

    session: str
    seen: float
    working: bool = False


class Turns:
    """A line of requests, for threads.

    Example:
        >>> turns = Turns()
        >>> first, second = turns.take("ada"), turns.take("ben")
        >>> turns.ahead(first), turns.ahead(second)
        (0, 1)
        >>> third = turns.take("ada")
        >>> turns.ahead(first), turns.ahead(second), turns.ahead(third)
        (None, 0, 1)
    """

    def __init__(self, longest: int = 32, patience: float = 30.0, clock: Callable[[], float] = time.monotonic):
        self.longest, self.patience, self._clock = longest, patience, clock
        self._line: list[Turn] = []
        self._guard, self._desk = threading.Lock(), threading.Lock()

    def take(self, session: str) -> Turn:
        """Come to the end of the line; what the session asked before is over.

        Raises:
            ValueError: the line is too long.
        """
        with self._guard:
            now = self._clock()
            self._line = [turn for turn in self._line if turn.session != session and self._alive(turn, now)]
            if len(self._line) >= self.longest:
                raise ValueError(f"{len(self._line)} requests are waiting already. Try again later.")
            self._line.append(Turn(session, now))
            return self._line[-1]

    def leave(self, session: str) -> None:
        """What the session asked is over."""
        with self._guard:
            self._line = [turn for turn in self._line if turn.session != session]

    def drop(self, turn: Turn) -> None:
        """This request is over."""
        with self._guard:
            self._line = [other for other in self._line if other is not turn]

    def ahead(self, turn: Turn) -> int | None:
        """How many come before; None where it is over."""
        with self._guard:
            turn.seen = self._clock()
            self._line = [other for other in self._line if self._alive(other, turn.seen)]  # pages that are closed are not heard of
            return self._line.index(turn) if turn in self._line else None

    @property
    def working(self) -> bool:
        """Whether a step is being computed."""
        return self._desk.locked()

    def work(self, turn: Turn, step: Callable[[], T]) -> T:
        """Compute a step, when the step of a request that is over since has ended."""
        with self._desk:
            turn.working = True
            try:
                return step()
            finally:
                turn.seen, turn.working = self._clock(), False

    def _alive(self, turn: Turn, now: float) -> bool:
        return turn.working or now - turn.seen <= self.patience

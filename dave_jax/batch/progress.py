"""How far a run is: a bar on a terminal, a line of JSON for each batch elsewhere; both on standard error."""

import json
import sys
import time
from types import TracebackType
from typing import Any

from tqdm import tqdm


class Progress:
    """Counts images.

    Args:
        total: images of the whole run.
        done: those that earlier runs finished.
        share: images that this process is to compute.
        shown: whether to write anything.
        process: number of this process, for the lines.
    """

    def __init__(self, total: int, done: int, share: int, shown: bool, process: int = 0):
        self.total, self.done, self.share, self.shown, self.process = total, done, share, shown, process
        self.computed = self.failed = 0
        self.first: tuple[float, int] | None = None
        bar = shown and sys.stderr.isatty()
        self.bar = tqdm(total=share, unit="image", smoothing=0.1) if bar else None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()

    def add(self, batch: int, images: int, failed: int) -> None:
        """A batch is computed."""
        self.computed, self.failed = self.computed + images, self.failed + failed
        now = time.perf_counter()
        self.first = self.first or (now, self.computed)
        if self.bar is not None:
            self.bar.update(images)
            self.bar.set_postfix(failed=self.failed, refresh=False)
        elif self.shown:
            print(json.dumps(self._line(batch, now)), file=sys.stderr, flush=True)

    def _line(self, batch: int, now: float) -> dict[str, Any]:
        """The rate is that since the first batch, which takes longer: nothing is read ahead of it."""
        assert self.first is not None
        start, before = self.first
        rate = (self.computed - before) / (now - start) if now > start and self.computed > before else None
        left = None if rate is None else round((self.share - self.computed) / rate, 1)
        line = {"process": self.process, "batch": batch, "done": self.done + self.computed, "of": self.total, "failed": self.failed}
        return line | {"images_per_second": rate and round(rate, 3), "seconds_left": left}

"""`Tokenizer`: from sentences to token ids, as the library does that a checkpoint comes from."""

import dataclasses
import functools
import html
import re
import string
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Int32

if TYPE_CHECKING:
    import tokenizers

_PUNCTUATION = str.maketrans("", "", string.punctuation)

CLEANING: dict[str, Callable[[str], str]] = {
    "unescape": lambda text: html.unescape(html.unescape(text)),
    "underscores": lambda text: text.replace("_", " "),
    "punctuation": lambda text: text.translate(_PUNCTUATION),
    "lower": str.lower,
    "whitespace": lambda text: re.sub(r"\s+", " ", text).strip(),
}
"""What may be done to a sentence before it is cut into tokens, by name: HTML's entities become characters, underscores spaces, ASCII
punctuation and repeated whitespace go."""


@dataclasses.dataclass(frozen=True)
class Encoded:
    """One sentence in tokens.

    Attributes:
        ids: padded to the context length.
        tokens: the parts of the sentence that the ids stand for, without padding; of one that stands for none, such as the end, its name.
        start: where in `ids` these begin.
        num_cut: how many tokens of the sentence did not fit.
    """

    ids: Int32[np.ndarray, " context"]
    tokens: tuple[str, ...]
    start: int
    num_cut: int


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A vocabulary with what a model wants of it: the context length, the padding, how sentences are cleaned.

    A sentence that is too long loses its last words and keeps its end token, as in transformers and open_clip.

    Attributes:
        source: the text of a `tokenizer.json`.
        context_length: tokens of a sentence, padding included.
        pad_id: what fills the rest.
        padding_side: `right` or `left`.
        cleaning: names of `CLEANING`, in their order.
    """

    source: str = dataclasses.field(repr=False)
    context_length: int
    pad_id: int
    padding_side: Literal["right", "left"] = "right"
    cleaning: tuple[str, ...] = ()

    def __post_init__(self):
        problems = []
        if unknown := [name for name in self.cleaning if name not in CLEANING]:
            problems.append(f"cleaning must be names of {list(CLEANING)}; got {unknown}")
        if self.padding_side not in ("right", "left"):
            problems.append(f"padding_side is 'right' or 'left'; got {self.padding_side!r}")
        if self.context_length < 1 or self.pad_id < 0:
            problems.append(f"context_length and pad_id must be positive; got {self.context_length} and {self.pad_id}")
        if problems:
            raise ValueError("Tokenizer: " + "; ".join(problems) + ".")

    @functools.cached_property
    def backend(self) -> "tokenizers.Tokenizer":
        """The vocabulary, of the library `tokenizers`.

        Raises:
            ValueError: the source is no `tokenizer.json`.
        """
        import tokenizers

        try:
            backend = tokenizers.Tokenizer.from_str(self.source)
        except Exception as error:  # the library raises that class itself
            raise ValueError(
                f"A tokenizer.json must be one that the library tokenizers wrote; it is not ({error}). Copy it again."
            ) from error
        backend.no_padding()
        backend.enable_truncation(self.context_length)
        return backend

    def clean(self, text: str) -> str:
        """The sentence as it is cut into tokens."""
        for name in self.cleaning:
            text = CLEANING[name](text)
        return text

    def encode(self, text: str) -> Encoded:
        """One sentence in tokens."""
        text = self.clean(text)
        encoding = self.backend.encode(text)
        real = len(encoding.ids)
        start = self.context_length - real if self.padding_side == "left" else 0
        ids = np.full(self.context_length, self.pad_id, np.int32)
        ids[start : start + real] = encoding.ids
        spans = zip(encoding.tokens, encoding.offsets, strict=True)
        tokens = tuple(text[first:end] or name for name, (first, end) in spans)
        special = sum(encoding.special_tokens_mask)
        return Encoded(ids, tokens, start, sum(len(part.ids) - special for part in encoding.overflowing))

    def __call__(self, texts: Iterable[str]) -> Int32[np.ndarray, "texts context"]:
        """The token ids of sentences; warns of those that are cut."""
        texts = list(texts)
        encoded = [self.encode(text) for text in texts]
        for text, one in zip(texts, encoded, strict=True):
            if one.num_cut:
                warnings.warn(
                    f"A sentence has {self.context_length} tokens at most, its ends counted; the last {one.num_cut} of "
                    f"{_short(text)!r} are cut off. Make it shorter.",
                    stacklevel=3,
                )
        return np.stack([one.ids for one in encoded])


def check_texts(texts: Sequence[str], what: str = "prompts") -> list[str]:
    """The sentences as a list.

    Raises:
        TypeError: no sequence of strings.
        ValueError: there is none, or one is blank.

    Example:
        >>> check_texts(("a cat", "a dog"))
        ['a cat', 'a dog']
    """
    found = [] if isinstance(texts, str) or not isinstance(texts, Iterable) else list(texts)
    if isinstance(texts, str) or not isinstance(texts, Iterable) or not all(isinstance(text, str) for text in found):
        raise TypeError(f'{what} must be a list of sentences, as in ["a photo of a cat", "a photo of a dog"]; got {_short(repr(texts))}.')
    if not found or not all(text.strip() for text in found):
        raise ValueError(f"{what} must be one sentence at least, and none may be empty; got {_short(repr(texts))}.")
    return found


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."

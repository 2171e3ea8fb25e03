"""A checkpoint's tokenizer files, as transformers reads them: `tokenizer.json`, or CLIP's `vocab.json` and `merges.txt`.

`tokenizer_config.json` names the class, whose cleaning of sentences is not in `tokenizer.json`, and the padding. Nothing else is needed.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dave_jax.models.files import json_object
from dave_jax.models.tokenizer import Tokenizer

Beside = Callable[[str], Path | None]
"""A file of the checkpoint by its name; None where there is none."""

_CLASSES: dict[str, dict[str, Any]] = {
    "CLIPTokenizer": {"pad_token": "<|endoftext|>"},
    "SiglipTokenizer": {"pad_token": "</s>", "cleaning": ("lower", "punctuation", "whitespace")},
    "Siglip2Tokenizer": {"pad_token": "<pad>", "cleaning": ("lower",), "padding_side": "left"},
    "GemmaTokenizer": {"pad_token": "<pad>"},
    "T5Tokenizer": {"pad_token": "<pad>"},
}
"""What transformers' classes do where the files are silent."""

_CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""The words of CLIP's tokenizer, before they are cut into pairs of bytes."""


def read_tokenizer(
    beside: Beside,
    context_length: int,
    *,
    kind: str,
    cleaning: tuple[str, ...] | None = None,
    pad_id: int | None = None,
    place: str = "the checkpoint",
) -> Tokenizer:
    """Read the tokenizer of a checkpoint.

    Args:
        beside: finds a file.
        context_length: tokens of a sentence.
        kind: transformers' class, where the files name none.
        cleaning: what is done to sentences before, if not what the class does.
        pad_id: what fills a sentence, if not the class's padding token.
        place: what to call the checkpoint in errors.

    Raises:
        FileNotFoundError: the files are missing.
        ValueError: they are broken, or name no padding token that there is.
    """
    settings = _read(beside("tokenizer_config.json"))
    name = str(settings.get("tokenizer_class") or kind).removesuffix("Fast")
    defaults = _CLASSES.get(name, {})
    source = _source(beside, place)
    padding = json.loads(source).get("padding") or {}
    if cleaning is None:
        steps: tuple[str, ...] = defaults.get("cleaning", ())
        kept = settings.get("do_lower_case") is False and name == "SiglipTokenizer"
        cleaning = tuple(step for step in steps if not (kept and step == "lower"))
    side: Any = settings.get("padding_side") or str(padding.get("direction") or defaults.get("padding_side") or "right").lower()
    tokenizer = Tokenizer(source, context_length, 0 if pad_id is None else pad_id, side, cleaning)
    if pad_id is not None:
        return tokenizer
    written = settings.get("pad_token") or _read(beside("special_tokens_map.json")).get("pad_token") or padding.get("pad_token")
    token = written or defaults.get("pad_token")
    token = token["content"] if isinstance(token, Mapping) else token
    found = None if token is None else tokenizer.backend.token_to_id(str(token))
    if found is None:
        raise ValueError(
            f"The tokenizer of {place} must name a padding token that it has; it names {token!r}. "
            "Add pad_token to its tokenizer_config.json."
        )
    return Tokenizer(source, context_length, found, side, cleaning)


def _source(beside: Beside, place: str) -> str:
    """The text of a `tokenizer.json`."""
    if file := beside("tokenizer.json"):
        _read(file)
        return file.read_text(encoding="utf-8")
    vocabulary, merges = beside("vocab.json"), beside("merges.txt")
    if vocabulary is None or merges is None:
        hint = " Its spiece.model is not read." if beside("spiece.model") else ""
        raise FileNotFoundError(
            f"{place!r} needs the tokenizer of its text tower beside its weights: tokenizer.json, or vocab.json and merges.txt of a CLIP."
            f"{hint} Copy the file from where the weights come from; all CLIPs of OpenAI's vocabulary share one."
        )
    return clip_tokenizer(_read(vocabulary), merges.read_text(encoding="utf-8"), str(merges))


def clip_tokenizer(vocabulary: Mapping[str, Any], merges: str, what: str = "merges.txt") -> str:
    """The `tokenizer.json` of CLIP's byte pairs (arXiv 2103.00020), from the two files of its vocabulary.

    Args:
        vocabulary: the JSON of the first, tokens to numbers.
        merges: the text of the second.
        what: what to call the second in errors.

    Raises:
        ValueError: the vocabulary lacks a token that the merges make, or the two that begin and end a text.
    """
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, processors

    start, end = "<|startoftext|>", "<|endoftext|>"
    if lacking := [token for token in (start, end) if token not in vocabulary]:
        raise ValueError(f"CLIP's vocab.json must have the tokens {start} and {end}; it lacks {lacking}. Copy it again.")
    lines = [line for line in merges.splitlines() if line.strip() and not line.startswith("#version")]
    pairs = [tuple(line.split()) for line in lines]
    try:
        model = models.BPE(dict(vocabulary), pairs, end_of_word_suffix="</w>", unk_token=end)  # pyright: ignore[reportArgumentType] checked there
    except Exception as error:  # the library raises that class itself
        raise ValueError(f"{what!r} must hold pairs of tokens of its vocab.json; it does not ({error}). Copy both again.") from error
    backend = tokenizers.Tokenizer(model)
    space = tokenizers.Regex(r"\s+")
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(space, " "), normalizers.Lowercase()])
    words = pre_tokenizers.Split(tokenizers.Regex(_CLIP_WORDS), behavior="removed", invert=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    special = {token: int(vocabulary[token]) for token in (start, end)}
    backend.add_special_tokens(list(special))
    backend.post_processor = processors.RobertaProcessing((end, special[end]), (start, special[start]), False, False)
    return backend.to_str()


def _read(file: Path | None) -> dict[str, Any]:
    """The JSON object of a file; empty where there is none."""
    return {} if file is None else json_object(file)

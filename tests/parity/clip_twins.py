"""Small random CLIPs and SigLIPs of transformers and open_clip, saved in the hub's layouts, with tokenizers made here."""

import gzip
import json
from pathlib import Path

import open_clip
import torch
import transformers

from convert_weights.tokenizer_files import clip_tokenizer

SENTENCES = [
    "a photo of a cat",
    "A photo of two DOGS, isn't it?  2 or 3!",
    "naïve café — 東京 \n zürich_hauptbahnhof",
    "it's " + "very " * 90 + "long",
    "ß",
]


IMAGE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48} | {"image_size": 32, "patch_size": 8}


def openai_vocabulary() -> tuple[dict[str, int], str]:
    """OpenAI's byte pairs, from the copy inside open_clip, as `vocab.json` and `merges.txt` hold them."""
    ours = open_clip.tokenizer.SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): number for token, number in ours.encoder.items()}
    with gzip.open(open_clip.tokenizer.default_bpe(), "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    return vocabulary, "\n".join(["#version: 0.2", *lines[1 : 49152 - 256 - 2 + 1]])


def save_openai_tokenizer(folder: Path, *, together: bool) -> None:
    """As one file or as two."""
    vocabulary, merges = openai_vocabulary()
    folder.mkdir(parents=True, exist_ok=True)
    if together:
        (folder / "tokenizer.json").write_text(clip_tokenizer(vocabulary, merges), encoding="utf-8")
    else:
        (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        (folder / "merges.txt").write_text(merges, encoding="utf-8")


def scatter(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Random weights everywhere, biases and scales too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, value in model.named_parameters():
            spread = 0.3 * torch.randn(value.shape, generator=generator)
            is_scale = key.endswith("weight") and any(part in key for part in ("norm", "ln_"))
            value.copy_(1 + spread if is_scale else spread)
        if hasattr(model, "logit_scale"):
            model.logit_scale.fill_(2.0)
    return model.eval()


def tiny_clip(cls: str = "CLIPModel", **text):
    words = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40} | text
    config = transformers.CLIPConfig(vision_config=IMAGE, text_config=words, projection_dim=16, num_labels=3)
    return scatter(getattr(transformers, cls)(config))


def tiny_siglip(cls: str = "SiglipModel", vocab_size: int = 300, **text):
    words = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40, "vocab_size": vocab_size}
    words |= {"max_position_embeddings": 16, "projection_size": 32, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1} | text
    return scatter(getattr(transformers, cls)(transformers.SiglipConfig(vision_config=IMAGE, text_config=words, num_labels=3)))


def siglip_tokenizer(vocab_size: int = 300, **options):
    """SigLIP 2's class with a vocabulary of pairs learnt from a few words."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    learnt = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    learnt.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    letters = [*"abcdefghijklmnopqrstuvwxyz0123456789'!?,_▁", *(f"<0x{byte:02X}>" for byte in range(256))][: vocab_size - 40]
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 20, special_tokens=special + letters[42:], initial_alphabet=letters[:42])
    learnt.train_from_iterator([sentence.lower() for sentence in SENTENCES[:2]] * 4, trainer)
    written = json.loads(learnt.to_str())["model"]
    merges = [tuple(merge) for merge in written["merges"]]
    tokenizer = transformers.Siglip2Tokenizer(vocab=written["vocab"], merges=merges, add_eos_token=True, **options)
    return tokenizer


def tiny_open_clip(**options):
    """open_clip's own towers, with their configuration."""
    image = {"image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8, "mlp_ratio": 1.5}
    text = {"width": 24, "heads": 3, "layers": 2, "mlp_ratio": 2.0}
    config = {"embed_dim": 16, "vision_cfg": image, "text_cfg": text, "quick_gelu": True}
    for name, value in options.items():
        config[name] = config[name] | value if isinstance(value, dict) else value
    custom = config.pop("custom_text", False)
    model = scatter((open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config))
    return model, config | {"custom_text": custom}


def save_open_clip(folder: Path, model, config, **preprocess) -> None:
    """The two files of open_clip's layout; the tokenizer's stand beside them."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))

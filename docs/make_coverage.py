"""The table of timm's checkpoints in docs/models.md, between its two comments: `python docs/make_coverage.py` writes it anew."""

import json
import re
from pathlib import Path
from typing import Any

import dave_jax as dave
from convert_weights.architectures import architectures
from dave_jax.models.presets import preset

PAGE = Path(__file__).with_name("models.md")
PARITY = Path(__file__).with_name("parity.json")
BEGIN, END = "<!-- made by docs/make_coverage.py -->\n", "<!-- end -->\n"

LINEAGES = {
    "DeiT-III": "deit3_",
    "DeiT, distilled or not": "deit_",
    "EVA, EVA-02": "eva_|eva02_",
    "DINOv3": ".*_dinov3",
    "DINOv2": ".*_dinov2",
    "DINO": r".*\.dino$",
    "MAE": r".*\.mae$",
    "I-JEPA": ".*ijepa",
    "CLIP, image towers and fine-tuned": ".*_clip_|.*pe_core|.*pe_lang|.*pe_spatial",
    "SigLIP, SigLIP 2, image towers": ".*siglip",
    "TIPS v2": ".*tips",
    "AIMv2": "aimv2_",
    "BEiT, BEiT v2, BEiT-3": "beit",
    "C-RADIO": ".*radio",
    "FlexiViT": "flexivit_",
    "RoPE-ViT": ".*_rope",
    "other vision transformers": "vit_|test_vit|samvit|naflexvit|sapiens|test_eva",
}
"""Patterns of the names of timm's vision transformers, the first that fits."""

OTHERS = {"swin": "Swin", "swinv2": "Swin V2", "resnet": "ResNet, ResNeXt, Wide ResNet", "convnext": "ConvNeXt, V1 and V2"}
"""Other families."""


def of_lineage(name: str, family: str) -> str:
    """The row of a checkpoint."""
    if family in OTHERS:
        return OTHERS[family]
    return next((lineage for lineage, pattern in LINEAGES.items() if re.match(pattern, name)), "other vision transformers")


def rows() -> dict[str, dict[str, Any]]:
    """For each lineage: how many pretrained tags there are, which load by name, which do not, and how many have settings of the authors."""
    known, found = set(dave.known_models()), {}
    for architecture, entry in architectures().items():
        for tag in entry["tags"]:
            name = f"{architecture}.{tag}"
            row = found.setdefault(of_lineage(name, entry["family"]), {"tags": 0, "missing": [], "authors": 0})
            row["tags"] += 1
            row["authors"] += preset(architecture) is not None
            if name not in known:
                row["missing"].append(architecture)
    order = [*LINEAGES, *OTHERS.values()]
    return {lineage: found[lineage] for lineage in order if lineage in found}


def table() -> str:
    """The rows in Markdown, with their sum."""
    lines = [
        "| checkpoints of timm | tags | load by name | not | parity error | DAVE's settings |",
        "| --- | ---: | ---: | --- | --- | --- |",
    ]
    errors = json.loads(PARITY.read_text(encoding="utf-8"))
    tags = 0
    for lineage, row in rows().items():
        names = [f"`{name}`" for name in dict.fromkeys(row["missing"])]
        missing = ", ".join(names if len(names) < 6 else [*names[:3], f"{len(names) - 3} more"])
        error = "{logits:.0e}, {gradients:.0e}".format(**errors[lineage]) if lineage in errors else ""
        settings = "default: calibrate" if not row["authors"] else f"the authors' for {row['authors']}, else the default"
        lines.append(f"| {lineage} | {row['tags']} | {row['tags'] - len(row['missing'])} | {missing} | {error} | {settings} |")
        tags += row["tags"]
    lines.append(f"| all | {tags} | {len(dave.known_models())} | | | |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the table into the page."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()

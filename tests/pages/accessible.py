"""Checks of a page as it is shown: names, contrast, structure."""

from pathlib import Path
from typing import Any

NAMED = {"button", "combobox", "slider", "radio", "searchbox", "textbox", "link", "image", "dialog", "region", "navigation", "progressbar"}
SCRIPT = Path(__file__).with_name("complaints.js").read_text(encoding="utf-8").partition("\n")[2]


def complaints(page: Any) -> list[str]:
    """What is wrong with a page now; names are those that a screen reader gets."""
    session = page.context.new_cdp_session(page)
    nodes = [node for node in session.send("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    session.detach()
    roles = [node["role"]["value"] for node in nodes if not node.get("name", {}).get("value", "").strip()]
    return [f"no name: {role}" for role in roles if role in NAMED] + page.evaluate(SCRIPT)

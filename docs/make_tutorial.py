"""Run the tutorial, docs/tutorial.ipynb, and keep what it prints and draws, for readers of the repository's page; the site runs it anew.

    python docs/make_tutorial.py

Pictures are kept as JPEG, a tenth of the size. Needs the extra `docs`. Run it again when the notebook, the model or the drawing change.
"""

import base64
import hashlib
import io
from pathlib import Path

from PIL import Image

NOTEBOOK = Path(__file__).with_name("tutorial.ipynb")


def checksum(cells: list[dict]) -> str:
    """Of the code: what is kept belongs to the notebook while this stays the same."""
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return hashlib.sha256("\n\n".join(code).encode()).hexdigest()


def as_jpeg(data: dict) -> dict:
    """A picture in one small form, and without the text that names the object."""
    if "image/png" not in data:
        return data
    made = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB").save(made, "JPEG", quality=80, optimize=True)
    return {"image/jpeg": base64.b64encode(made.getvalue()).decode()}


def main() -> None:
    """Run the notebook, and write it with its outputs."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=180, resources={"metadata": {"path": str(NOTEBOOK.parent)}}, record_timing=False).execute()
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                raise ValueError(f"The tutorial must run without warnings; got {output['text']!r}.")
            if "data" in output:
                output["data"] = as_jpeg(output["data"])
    language = {"name": "python"}
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": language, "code": checksum(notebook.cells)}
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()

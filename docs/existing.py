"""Pages that exist elsewhere in the repository, and the notebooks, with their links adjusted.

All pages link to files, as they are read in the repository. In the site a link leads to the page
that a file became. A file that is no page is offered as a download, and a folder is named only.
"""

import json
import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GENERATED = ROOT / "docs" / "generated"
# The file, and a title where it has none.
PAGES = {
    "changelog": ("CHANGELOG.md", None),
    "contributing": ("CONTRIBUTING.md", None),
    "third_party": ("THIRD_PARTY.md", None),
    "weights": ("weights/README.md", None),
    "speed": ("benchmarks/results/speed.md", "Speed on an AMD processor"),
    "speed_avx2": ("benchmarks/results/speed_avx2.md", "Speed on a processor without AVX-512"),
    "speed_intel": ("benchmarks/results/speed_intel.md", "Speed on an Intel processor"),
    "peers": ("benchmarks/results/peers.md", "Swin, DeiT, ResNet-50, and gradient checkpointing"),
    "accuracy_speed": ("benchmarks/results/accuracy_speed.md", "Accuracy and speed"),
    "users": ("benchmarks/results/users.md", "predict and fit on photos"),
    "scaling": ("benchmarks/results/scaling.md", "Speed by the size of the images"),
    "exports": ("benchmarks/results/exports_intel.md", "ONNX files, on an Intel processor"),
    "detection": ("benchmarks/results/detection.md", "Speed of detectors"),
    "forms": ("benchmarks/results/forms.md", "What each faster form contributes"),
}
# Parts of a page written by hand: without their own title.
PARTS = {"records": "training/records/README.md"}
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))
LINK = re.compile(r"\[([^]]+)\]\(([^)\s]+)\)")


def write(folder, write_text):
    """Writes pages and notebooks, by `write_text(path, text)`, into a folder."""
    for name, (path, title) in PAGES.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        text = linked(text, (ROOT / path).parent, folder)
        write_text(folder / f"{name}.md", f"# {title}\n\n{text}" if title else text)
    for name, path in PARTS.items():
        text = linked((ROOT / path).read_text(encoding="utf-8"), (ROOT / path).parent, folder)
        write_text(folder / f"{name}.inc", text.partition("\n")[2])
    for source in NOTEBOOKS:
        place = folder / "tutorials" / source.name
        notebook = json.loads(source.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                text = linked("".join(cell["source"]), source.parent, place.parent)
                cell["source"] = text.splitlines(keepends=True)
        write_text(place, json.dumps(notebook, indent=1))


def linked(text, origin, folder):
    """Returns Markdown of a file in `origin` whose relative links are right in `folder`."""
    here = {ROOT / path: GENERATED / f"{name}.md" for name, (path, _) in PAGES.items()}
    here |= {ROOT / path: GENERATED.parent / f"{name}.md" for name, path in PARTS.items()}
    here |= {path: GENERATED / "tutorials" / path.name for path in NOTEBOOKS}

    def adjusted(match):
        label, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        place, mark, anchor = target.partition("#")
        path = (origin / place).resolve()
        if path.is_dir():
            return label
        return f"[{label}]({os.path.relpath(here.get(path, path), folder)}{mark}{anchor})"

    return LINK.sub(adjusted, text)

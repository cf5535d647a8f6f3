"""The settings of Sphinx. What is written from the code comes first: `docs/generated/`."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
os.environ.setdefault("KERAS_BACKEND", "jax")

import keras_convnext  # noqa: E402
from docs import choosing, docstrings, existing, reference  # noqa: E402

project = "keras_convnext"
author = "The authors of keras_convnext"
version = release = keras_convnext.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build", "jupyter_execute", "**.ipynb_checkpoints"]

html_theme = "furo"
html_title = f"keras_convnext {version}"
html_static_path = ["_static"]
html_favicon = "_static/icon.svg"
html_css_files = ["wide.css"]
html_js_files = ["enlarge.js"]
html_show_copyright = False
html_show_sphinx = False

nb_execution_mode = "off"
myst_heading_anchors = 3
myst_links_external_new_tab = False
copybutton_exclude = ".linenos, .gp, .go"

nitpicky = True
# Of types in signatures and raised errors, most are Python's and Keras'.
nitpick_ignore_regex = [("py:(class|exc|obj)", ".*")]
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
add_module_names = False
toc_object_entries_show_parents = "hide"


def _write_text(path, text):
    """Writes a file only if it changes, so that Sphinx reads again what has changed alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app):
    existing.write(existing.GENERATED, _write_text)
    reference.write(existing.GENERATED / "api", _write_text)
    choosing.write(existing.GENERATED, _write_text)
    links = reference.links()

    def with_links(app, page, source):
        if not page.startswith("generated/"):  # those were adjusted when they were written
            folder = (HERE / page).parent
            source[0] = existing.linked(source[0], folder, folder)

    def as_rst(app, what, name, value, options, lines):
        lines[:] = docstrings.as_rst(lines, links)

    app.connect("source-read", with_links)
    app.connect("autodoc-process-docstring", as_rst)

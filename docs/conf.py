"""Configuration of the documentation: MyST pages, furo, docstrings through autodoc; warnings are errors."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import check_keys

import mmgrid

project = "MMGRid"
author = "The MMGRid authors"
project_copyright = "The MMGRid authors. Apache License 2.0"
version = release = mmgrid.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "merge_methods"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "MMGRid"

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature has the types

_CODE = re.compile(r"(``.+?``|`[^`\n]+`)")
_MARKUP = re.compile(r"(?<!\\)([*|]|_(?!\w))")
_COLON = "\ue000"  # stands for a colon while napoleon reads
_SECTION = re.compile(r"(Args|Attributes|Example|Examples|Note|Raises|Returns|Yields):$")


def plain_docstring(app, what, name, obj, options, lines) -> None:
    """Escape a docstring: in plain text `*`, `|` and indents are not markup, unlike in reStructuredText."""
    hangs = False  # inside a paragraph, where the indent of later lines has no meaning
    for number, line in enumerate(lines):
        if not line.startswith(" "):
            hangs = bool(line) and not _SECTION.match(line)
        lines[number] = _escaped(line.lstrip() if hangs else line)
        if what in ("attribute", "property"):  # napoleon would read the text before a colon as a type
            lines[number] = lines[number].replace(":", _COLON)


def with_colons(app, what, name, obj, options, lines) -> None:
    """Put the colons back after napoleon."""
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def _escaped(line: str) -> str:
    text = ""
    for place, part in enumerate(_CODE.split(line)):
        if place % 2:
            text += f"``{part.strip('`')}``"
        else:
            text += "\\ " * bool(place and part[:1].isalnum()) + _MARKUP.sub(r"\\\1", part)
    return text


def setup(app) -> None:
    app.connect("autodoc-process-docstring", plain_docstring, priority=100)  # before napoleon's 500
    app.connect("autodoc-process-docstring", with_colons, priority=900)
    app.connect("builder-inited", check_keys.check)

"""How Sphinx builds these pages: ``sphinx-build -W docs build/docs``."""

from __future__ import annotations

import builtins
import re
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING

from sphinx.addnodes import pending_xref

if TYPE_CHECKING:
    from docutils.nodes import document
    from sphinx.application import Sphinx

project = "ffi_leak_tracker"
author = "The ffi_leak_tracker authors"
copyright = author
release = version = version_of("ffi-leak-tracker")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3  # pages may link to a heading
html_theme = "alabaster"
html_theme_options = {
    "description": "Finds native memory that Python code never frees.",
    "page_width": "1240px",
    "body_max_width": "none",
    "sidebar_width": "275px",
    "code_font_size": "13px",  # reports have 100 columns
    "fixed_sidebar": True,
}
html_extra_path = ["report.schema.json"]
html_show_sourcelink = False

autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
add_module_names = False


# --- docstrings -----------------------------------------------------------
# Napoleon reads sections whose text stands below their name. It takes the
# words before a colon in the docstring of a property for a type.
_SECTION = re.compile(r"(Args|Returns|Raises|Cost|Source): +(.+)")
_ARGUMENT = re.compile(r"\s+\w+(, \w+)*: ")
_properties: dict[str, list[str]] = {}


def before_napoleon(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    lines: list[str],
) -> None:
    """Make a paragraph of each section whose text follows its name."""
    lines[:] = _paragraphs(lines)
    if what in {"property", "attribute"}:
        _properties[name] = lines[:]
        lines.clear()


def after_napoleon(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    lines: list[str],
) -> None:
    """Put the docstring of a property back."""
    lines[:0] = _properties.pop(name, [])


def _paragraphs(lines: list[str]) -> list[str]:
    made: list[str] = []
    waiting = list(lines)
    while waiting:
        line = waiting.pop(0)
        found = _SECTION.fullmatch(line)
        if found is None:
            made.append(line)
            continue
        made += ["", f"**{found[1]}:** {found[2]}"]
        if waiting and found[1] == "Args" and _ARGUMENT.match(waiting[0]):
            made += ["", "Args:"]
            continue
        while waiting and waiting[0].startswith(" "):
            made.append(waiting.pop(0).strip())
        made.append("")
    return made


def leave_builtins_alone(app: Sphinx, doctree: document) -> None:
    """Do not look for ``bytes`` and ``type`` among the attributes here."""
    for node in list(doctree.findall(pending_xref)):
        if hasattr(builtins, node["reftarget"]):
            node.replace_self(node.children)


def setup(app: Sphinx) -> None:
    """Register the above."""
    app.connect("autodoc-process-docstring", before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", after_napoleon, priority=600)
    app.connect("doctree-read", leave_builtins_alone)

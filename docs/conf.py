"""How Sphinx makes a site of these pages, which tools/site lays out for it.

The navigation is the index page's own list of links, so that GitHub and the site show one order.
"""

import re
from importlib.metadata import version as installed
from typing import Any

project = "Pullcord"
author = "The Pullcord authors"
project_copyright = author
version = release = installed("pullcord")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "docs/index"
html_theme = "furo"
html_title = f"Pullcord {release}"
html_copy_source = False
# What needs the network is in `make links`.
linkcheck_ignore = [r"http://127\.0\.0\.1", r"https://github\.com/pullcord/"]

myst_heading_anchors = 4  # as GitHub has them
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["misc.highlighting_failure"]  # an ellipsis stands in for JSON and shell code

# Docstrings are plain English with names in backticks, as in Markdown.
default_role = "code"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_use_type_comments = False
# Whose members no class of ours shows as its own.
_NOT_OURS = "BaseSettings,BaseModel,BaseException,Exception,Enum,StrEnum,str,object"
autodoc_default_options = {"members": True, "inherited-members": _NOT_OURS}

_SECTION = re.compile(r"^## (.+?)$(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_PAGE = re.compile(r"^- \[(.+?)\]\(([^)#:]+)\.md\)", re.MULTILINE)


def _navigation(app: Any, page: str, source: list[str]) -> None:
    """Adds to the index page, for each of its sections, the pages that its list links to."""
    if page == root_doc:
        for caption, text in _SECTION.findall(source[0]):
            pages = "\n".join(f"{title} <{name}>" for title, name in _PAGE.findall(text))
            options = f":hidden:\n:caption: {caption}\n"
            source[0] += f"\n```{{toctree}}\n{options}\n{pages}\n```\n"


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _navigation)

"""A document as one HTML file that needs nothing else: its style and its pictures are inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from adapter_exp.report.document import Bullets, Document, Facts, Figure, Paragraph, Table
from adapter_exp.report.texts import texts

TEMPLATES = Path(__file__).parent / "templates"
_KINDS = {Paragraph: "paragraph", Bullets: "bullets", Facts: "facts", Table: "table", Figure: "figure"}


def html(document: Document, figures: Mapping[str, bytes]) -> str:
    """The report as a page. All text is escaped.

    Args:
        figures: PNG of each figure by name; figures that are not in it are left out.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["kind"] = lambda block, kind: _KINDS[type(block)] == kind
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    pictures = {name: base64.b64encode(data).decode("ascii") for name, data in figures.items()}
    return environment.get_template("report.html").render(
        document=document,
        contents=texts(document.language)("contents"),
        pictures=pictures,
        style=Markup(style),  # our own file; quotes in it must not be escaped
    )

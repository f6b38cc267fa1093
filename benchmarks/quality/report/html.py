"""Self-contained HTML pages: sections with a table of contents, tables, figures, pictures (templates/*.jinja)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from benchmarks.quality.report.table import Table


@dataclass(frozen=True)
class Section:
    """Holds a part of the page under its own heading. name: its anchor. body: HTML."""

    name: str
    title: str
    body: str


def document(title: str, sections: Sequence[Section], lead: str = "") -> str:
    """Returns the page. lead: HTML before the contents."""
    bodies = [Section(section.name, section.title, Markup(section.body)) for section in sections]
    page = _TEMPLATES.get_template("page.html.jinja")
    return page.render(title=title, sections=bodies, lead=Markup(lead)) + "\n"


def macros(template: str, **values: object):
    """Returns a template's macros as functions; text among the values they show is escaped, `Markup` is not."""
    return _TEMPLATES.get_template(template).make_module(values)


def paragraph(text: str) -> Markup:
    """Returns text as a paragraph."""
    return _parts().paragraph(text)


def details(title: str, text: str) -> Markup:
    """Returns text that is folded away under its title."""
    return _parts().details(title, text)


def table(made: Table, file: str = "") -> Markup:
    """Returns a table. file: its numbers, beside the page."""
    return _parts().table(made, file)


def figure(svg: str, title: str, file: str = "") -> Markup:
    """Returns a figure. title: what it shows, for those who cannot see it. file: its numbers, beside the page."""
    return _parts().figure(svg, title, file)


def _parts():
    return _TEMPLATES.get_template("parts.html.jinja").module


def _width(svg: str) -> str:
    """The width that an <svg> declares, in points."""
    declared = svg.partition('width="')[2].partition("pt")[0]
    return f"{float(declared or 600):.0f}"


def _labelled(svg: str, title: str) -> Markup:
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1))


_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)
_TEMPLATES.filters |= {
    "base64": lambda data: base64.b64encode(data).decode(),
    "labelled": _labelled,
    "width": _width,
}

"""Pieces of a self-contained HTML page: sections with a table of contents, tables, figures, pictures."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

STYLE = """
:root { color-scheme: light }
* { box-sizing: border-box }
body { font: 16px/1.55 system-ui, "Segoe UI", sans-serif; color: #1c1c1c; background: #fff }
body { max-width: 86rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem }
h1 { font-size: 1.7rem; margin: .5rem 0 }
h2 { font-size: 1.3rem; margin: 3rem 0 .5rem; padding-bottom: .3rem; border-bottom: 1px solid #d8dde2 }
h3 { font-size: 1.02rem; margin: 1.8rem 0 .3rem }
p { max-width: 46rem; margin: .4rem 0 .8rem }
nav { background: #f4f7fa; border-radius: 6px; padding: .7rem 1.2rem; margin: 1rem 0 }
nav ol { margin: .2rem 0; padding-left: 1.3rem; columns: 2 18rem } nav li { break-inside: avoid }
a { color: #00548a }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .84rem }
th, td { padding: .28rem .6rem; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: inherit }
tr { background: #fff } tr:nth-child(even) { background: #f4f7fa }
th { border-bottom: 2px solid #0072B2; vertical-align: bottom }
.scroll { overflow-x: auto; margin: .6rem 0 }
.plot svg { display: block; height: auto; max-width: 100%; min-width: min(var(--w), 46rem) }
.data { color: #5a6570; font-size: .8rem; margin: .1rem 0 1.2rem }
.verdict { background: #eaf3f9; border-left: 4px solid #0072B2; padding: .7rem 1rem; max-width: none }
.strip { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .7rem; margin-top: 1.4rem }
.strip figure { margin: 0; font-size: .78rem; line-height: 1.35; color: #3c444c }
.strip img { width: 100%; display: block; border-radius: 3px; margin-bottom: .25rem }
.words { font-size: .9rem; margin: .5rem 0 0; max-width: none }
.compare { position: relative; display: block }
.compare img + img { position: absolute; inset: 0; clip-path: inset(0 0 0 50%) }
.strip input { width: 100%; margin: .1rem 0; display: block }
pre { background: #f4f7fa; padding: 1rem; overflow: auto; font-size: .8rem }
@media (max-width: 40rem) {
  body { padding: .75rem }
  .strip { grid-template-columns: repeat(3, 1fr); gap: .4rem }
  th, td { padding: .25rem .5rem }
}
"""
Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of the page under its own heading. body: HTML."""

    name: str
    title: str
    body: str


def document(title: str, sections: Sequence[Section], lead: str = "") -> str:
    """The page. lead: HTML before the contents."""
    head = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style>'
    )
    entries = "".join(f'<li><a href="#{s.name}">{html.escape(s.title)}</a></li>' for s in sections)
    contents = f'<nav aria-label="Contents"><ol>{entries}</ol></nav>' if len(sections) > 1 else ""
    body = "".join(f'<section id="{s.name}"><h2>{html.escape(s.title)}</h2>{s.body}</section>' for s in sections)
    nothing = "" if sections else "<p>Nothing was measured yet.</p>"
    return f"{head}<body><h1>{html.escape(title)}</h1>{lead}{contents}{body}{nothing}</body></html>\n"


def paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def heading(text: str) -> str:
    return f"<h3>{html.escape(text)}</h3>"


def table(rows: Rows, data: str = "") -> str:
    """A heading row, then the others. data: the file beside the page that has the numbers."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows[1:])
    return f'<div class="scroll"><table>{line(rows[0], "th")}{body}</table></div>{_data(data)}'


def figure(svg: str, title: str, data: str = "") -> str:
    """title: what it shows, for those who cannot see it."""
    width = svg.partition('width="')[2].partition("pt")[0] or "600"
    named = svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)
    return f'<div class="scroll plot" style="--w:{float(width):.0f}pt">{named}</div>{_data(data)}'


def picture(png: bytes, caption: str) -> str:
    return f"<figure>{_image(png, caption)}{html.escape(caption)}</figure>"


def compare(before: bytes, after: bytes, caption: str) -> str:
    """Two pictures over each other, with a slider between them."""
    slide = "this.previousElementSibling.lastChild.style.clipPath='inset(0 0 0 '+this.value+'%)'"
    control = f'<input type="range" aria-label="{html.escape(caption)}" oninput="{slide}">'
    pair = _image(before, "degraded") + _image(after, "restored")
    return f'<figure><span class="compare">{pair}</span>{control}{html.escape(caption)}</figure>'


def _image(png: bytes, alt: str) -> str:
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _data(file: str) -> str:
    return f'<p class="data">data: {html.escape(file)}</p>' if file else ""

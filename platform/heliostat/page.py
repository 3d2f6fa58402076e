"""Reports as HTML pages: one file, no script, nothing from elsewhere, readable on a phone and in the dark.

What all reports share: the page, its cards, figures and tables. What is drawn in a card is the report's own.
"""

from collections.abc import Mapping, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --page: #fbfaf7; --card: #fff; --ink: #1d2330;
  --quiet: #667085; --line: #e4e2dc; --bar: #d9822b; --learned: #fde7c4; --learned-ink: #5b3606; }
@media (prefers-color-scheme: dark) { :root { --page: #14171d; --card: #1c2129; --ink: #e8eaee;
  --quiet: #98a2b3; --line: #2d343f; --bar: #f0a04b; --learned: #573c14; --learned-ink: #ffe9c7; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 16px 48px; max-width: 1080px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 16px; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 0 0 12px; }
p { color: var(--quiet); margin: 0 0 12px; font-size: .875rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 12px;
  margin-bottom: 12px; }
.figures div, section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px; }
.figures b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.figures span { color: var(--quiet); font-size: .8125rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 12px; }
.wide { grid-column: 1 / -1; }
.bars { display: grid; grid-template-columns: minmax(80px, auto) minmax(60px, 1fr) auto; gap: 6px 12px;
  align-items: center; font-size: .875rem; }
.bars span { overflow-wrap: anywhere; }
.bars b, td, th { font-variant-numeric: tabular-nums; text-align: right; font-weight: 500; }
.bars svg { width: 100%; height: 14px; display: block; }
rect { fill: var(--bar); }
rect.rail { fill: var(--line); opacity: .55; }
.histogram { width: 100%; height: 140px; display: block; border-bottom: 1px solid var(--line); }
.axis { display: flex; justify-content: space-between; color: var(--quiet); font-size: .8125rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
th, td { padding: 6px 8px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child { text-align: left; }
thead th { color: var(--quiet); }
.words td:last-child, .words th:last-child { text-align: left; white-space: normal; min-width: 200px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 0 10px; padding: 12px; border-radius: 8px;
  border: 1px solid var(--line); font: 13px/1.55 ui-monospace, "Cascadia Mono", Menlo, Consolas, monospace; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); gap: 0 12px; }
mark { background: var(--learned); color: var(--learned-ink); border-radius: 3px; }
"""

Figures = Sequence[tuple[str, str]]
"""(label, value) pairs, the most telling first."""


def page(title: str, figures: Figures, cards: Sequence[str], style: str = "", note: str = "") -> str:
    """The whole file; `style` is added to what all pages have, `note` is a line below the title."""
    shown = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>" for label, value in figures
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head><body>"
        f"<h1>{escape(title)}</h1>{f'<p>{escape(note)}</p>' if note else ''}"
        f'<div class="figures">{shown}</div><div class="cards">{"".join(cards)}</div></body></html>\n'
    )


def card(title: str, body: str, wide: bool = False) -> str:
    """A frame around HTML; a wide one takes the whole line."""
    return f"<section{' class=wide' if wide else ''}><h2>{escape(title)}</h2>{body}</section>"


def table(first: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]], style: str = "") -> str:
    """Rows by the words in their first column; `style` is a class: `words` has text in its last column."""
    return table_of_lines((first, *columns), [(name, *values) for name, values in rows.items()], style)


def table_of_lines(header: Sequence[str], lines: Sequence[Sequence[str]], style: str = "") -> str:
    """The same for lines whose first words need not differ."""
    head = "".join(f"<th>{escape(each)}</th>" for each in header)
    body = "".join(
        f"<tr><th>{escape(line[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in line[1:])}</tr>"
        for line in lines
    )
    return (
        f'<div class="scroll {style}"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )

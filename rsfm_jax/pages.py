"""Pages for people: one HTML file that needs no other file, no script and no network.

Everything that comes from a user's files goes through `text` on its way into a page.
"""

import base64
from collections.abc import Sequence
import html
import io
import pathlib
from typing import Any

from matplotlib.figure import Figure

STYLE = """body{font:14px/1.45 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.6rem 0 1.4rem}td,th{padding:.2rem .6rem;border-bottom:1px solid #ddd;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}h2{margin-top:2rem}.quiet{color:#666}img{max-width:100%}"""


def page(title: str, parts: Sequence[str], style: str = STYLE) -> str:
    """A whole page.

    Args:
      title: Plain text.
      parts: HTML, one after the other.
      style: CSS.

    Returns:
      HTML.
    """
    head = f"<meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'><title>{text(title)}</title>"
    return f"<!doctype html><html lang=en><head>{head}<style>{style}</style></head><body>{''.join(parts)}</body></html>\n"


def text(value: Any) -> str:
    """A value as text of a page, with what HTML would read as its own escaped."""
    return html.escape(str(value))


def table(names: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """A table; numbers stand at the right of their cells, None is an empty cell.

    Args:
      names: Head of the columns.
      rows: Cells, plain text or numbers.

    Returns:
      HTML.
    """
    head = "".join(f"<th>{text(name)}</th>" for name in names)
    cell = lambda value: f"<td{' class=n' if isinstance(value, int | float) else ''}>{text('' if value is None else value)}</td>"  # noqa: E731
    body = "".join(f"<tr>{''.join(cell(value) for value in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def figure_image(figure: Figure, caption: str) -> str:
    """A figure as an image that is part of the page; the caption is its text for those who do not see it."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, bbox_inches="tight")
    return png_image(stream.getvalue(), caption)


def png_image(content: bytes, caption: str, more: str = "") -> str:
    """A PNG file's content as an image that is part of the page; ``more`` are attributes of the tag, each after a space."""
    return f'<img alt="{text(caption)}"{more} src="data:image/png;base64,{base64.b64encode(content).decode()}">'


def captioned(image: str, title: str, notes: str, kind: str = "") -> str:
    """An image with a title and notes under it, of a class of the page's style where ``kind`` names one."""
    return f"<figure{f' class={kind}' if kind else ''}>{image}<figcaption><b>{text(title)}</b>{text(notes)}</figcaption></figure>"


def wide_table(names: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """A table in a box of class ``wide``, for pages whose style lets such a box scroll."""
    return f"<div class=wide>{table(names, rows)}</div>"


def write_whole(file: pathlib.Path, content: str) -> None:
    """Writes a text file beside its place and moves it there, so that it is never seen half-written."""
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        unfinished.write_text(content, encoding="utf-8")
        unfinished.rename(file)
    finally:
        unfinished.unlink(missing_ok=True)

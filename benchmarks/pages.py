"""Pages of docs/ that are part prose, part figures: tables, and the places between markers where a script puts them."""

from collections.abc import Iterable, Sequence
import pathlib

from rsfm_jax.errors import InputError


def replace_between(page: pathlib.Path, name: str, text: str) -> None:
    """Replaces, in the file, what lies between ``<!-- name -->`` and ``<!-- end of name -->``.

    Args:
      page: The file.
      name: Of the markers.
      text: What comes between them.

    Raises:
      InputError: The page lacks the markers.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    old = page.read_text()
    if begin not in old or end not in old:
        raise InputError(f"{page}: lacks the markers {begin} and {end}")
    before, rest = old.split(begin, 1)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}")


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, cells)) + " |" for cells in rows)])

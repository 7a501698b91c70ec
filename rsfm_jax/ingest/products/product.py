"""What every reader of products gives, and the small pieces they share.

A reader is a module with two functions: ``find(files)`` says which of the files are its products, ``read(path)`` gives the scenes of one
as entries of `scenes.yaml` (docs/data.md), with files named as they are found from the working directory.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import math
import pathlib
import re
from typing import Any
from xml.etree import ElementTree

from rsfm_jax.errors import InputError

Entry = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Product:
    """A delivered product that was recognised.

    Attributes:
      path: What its reader takes: the file that describes it, or one of its files.
      files: All files that belong to it.
    """

    path: pathlib.Path
    files: frozenset[pathlib.Path]


def by_name(files: Iterable[pathlib.Path], pattern: re.Pattern[str]) -> dict[tuple[pathlib.Path, str], list[pathlib.Path]]:
    """Groups files by folder and by the first group of a pattern that their names match in full."""
    groups: dict[tuple[pathlib.Path, str], list[pathlib.Path]] = {}
    for file in files:
        if match := pattern.fullmatch(file.name):
            groups.setdefault((file.parent, match[1]), []).append(file)
    return groups


def siblings(path: pathlib.Path, pattern: re.Pattern[str]) -> list[pathlib.Path]:
    """The files beside one that share the first group of a pattern with it, by name; raises `InputError` when it does not match."""
    match = pattern.fullmatch(path.name)
    if match is None:
        raise InputError(f"{path}: is not named like such a product")
    return sorted(by_name(path.parent.iterdir(), pattern)[path.parent, match[1]])


def without_none(**fields: Any) -> Entry:
    """The fields that are stated."""
    return {name: value for name, value in fields.items() if value is not None}


def number(value: Any) -> float | None:
    """A number written as text, or None for what is none, is missing, or is not finite."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def percent(value: Any) -> float | None:
    """A percentage, or None: providers write -1 or -999 for "not computed"."""
    found = number(value)
    return found if found is not None and 0 <= found <= 100 else None


def azimuth(value: Any) -> float | None:
    """An azimuth from 0 to 360 degrees; providers also write -180 to 180."""
    found = number(value)
    return None if found is None else found % 360


def elevation(zenith: Any) -> float | None:
    """The angle above the horizon of a zenith angle, degrees."""
    found = number(zenith)
    return None if found is None else 90 - found


def mean_azimuth(values: Sequence[float]) -> float | None:
    """The mean direction of azimuths, degrees: that of 350 and 10 is 0."""
    if not values:
        return None
    east, north = (sum(f(math.radians(v)) for v in values) for f in (math.sin, math.cos))
    return math.degrees(math.atan2(east, north)) % 360


def read_xml(path: pathlib.Path) -> ElementTree.Element:
    """The root of an XML file; raises `InputError` when it is missing or broken."""
    try:
        return ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise InputError(f"{path}: does not exist; the product is incomplete, fetch it again") from None
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: not valid XML ({error}); fetch it again") from None


def xml_text(root: ElementTree.Element, tag: str) -> str | None:
    """The text of the first element of a name, in any namespace, or None."""
    found = root.find(f".//{{*}}{tag}")
    return None if found is None or found.text is None else found.text.strip()


def needed(root: ElementTree.Element, tag: str, path: pathlib.Path) -> str:
    """The same; raises `InputError` when it is missing."""
    text = xml_text(root, tag)
    if not text:
        raise InputError(f"{path}: has no {tag}; is it the product's own metadata, complete?")
    return text

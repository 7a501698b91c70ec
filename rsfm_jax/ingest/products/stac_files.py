"""STAC files on disk: what they hold, what they link to, and the items reached from one. Nothing is fetched."""

from collections.abc import Callable, Iterator
import json
import pathlib
from typing import Any

import pystac
from pystac.stac_io import DefaultStacIO

from rsfm_jax.errors import InputError


class _LocalFiles(DefaultStacIO):
    """Reads files of this machine alone."""

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        href = (source.get_absolute_href() or "") if isinstance(source, pystac.Link) else str(source)
        if "://" in href:
            raise InputError(f"{href}: a STAC file behind a URL is not fetched; download the catalogue's JSON files")
        try:
            return pathlib.Path(href).read_text()
        except OSError as error:
            raise InputError(
                f"{href}: cannot be read ({error.strerror}), and a STAC link leads to it; fetch it, or take the link out"
            ) from None


def stac_content(path: pathlib.Path) -> dict[str, Any]:
    """What a JSON file holds if that is STAC, else nothing."""
    try:
        content = json.loads(path.read_text())
    except (ValueError, OSError):
        return {}
    features = content.get("features") if isinstance(content, dict) else None
    if isinstance(content, dict) and ("stac_version" in content or (features and "stac_version" in features[0])):
        return content
    return {}


def files_of(path: pathlib.Path) -> frozenset[pathlib.Path]:
    """The STAC files that are reached from one and the assets they name, as written from the same folder as ``path``."""
    found, waiting = {path}, [path]
    while waiting:
        file = waiting.pop()
        content = stac_content(file)
        hrefs = [link.get("href", "") for link in content.get("links", []) if link.get("rel") in ("item", "child")]
        for feature in content.get("features", [content]):
            assets = [asset.get("href", "") for asset in feature.get("assets", {}).values() if isinstance(asset, dict)]
            found |= {_beside(file, href) for href in assets if "://" not in href}
        linked = {_beside(file, href) for href in hrefs if "://" not in href} - found
        waiting += sorted(linked)
        found |= linked
    return frozenset(found)


def _beside(file: pathlib.Path, href: str) -> pathlib.Path:
    """The file that a relative reference names."""
    parts: list[str] = []
    for part in (file.parent / href).parts:
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return pathlib.Path(*parts)


def items_of(path: pathlib.Path, content: dict[str, Any]) -> Iterator[pystac.Item | InputError]:
    """The items of a STAC file.

    Args:
      path: JSON of an item, of a collection of items, of a collection or of a catalogue.
      content: What it holds.

    Yields:
      The items, references of their assets relative to the file they stand in; in the place of one that is wrong, what is wrong with it:
      no time, an asset without a reference, a link to a URL or to nothing.

    Raises:
      InputError: a catalogue that cannot be read, or links to one.
    """
    if content.get("type") == "FeatureCollection":
        for feature in content["features"]:
            yield _item(path, feature, lambda feature=feature: _beside_file(pystac.Item.from_dict(feature, migrate=True), path))
    elif content.get("type") == "Feature":
        yield _item(path, content, lambda: pystac.Item.from_file(str(path), stac_io=_LocalFiles()))
    else:
        kind = pystac.Collection if content.get("type") == "Collection" else pystac.Catalog
        try:
            for root, _, _ in kind.from_file(str(path), stac_io=_LocalFiles()).walk():
                for link in root.get_item_links():
                    file = pathlib.Path(link.get_absolute_href() or "")
                    yield _item(file, stac_content(file), lambda link=link, root=root: _resolved(link, root))
        except _STAC_ERRORS as error:
            raise _said(path, error) from None


_STAC_ERRORS = (pystac.STACError, pystac.STACTypeError, KeyError, ValueError)


def _said(path: pathlib.Path, error: Exception) -> InputError:
    """What is wrong, in our words where they are in what pystac wraps them in."""
    own = next((e for e in (error, error.__cause__) if isinstance(e, InputError)), None)
    return own or InputError(f"{path}: not valid STAC ({type(error).__name__}: {error})")


def _item(path: pathlib.Path, content: dict[str, Any], make: Callable[[], pystac.Item]) -> pystac.Item | InputError:
    try:
        if content:
            _check(path, content)
        return make()
    except _STAC_ERRORS as error:
        return _said(path, error)


def _beside_file(item: pystac.Item, path: pathlib.Path) -> pystac.Item:
    item.set_self_href(str(path.absolute()))  # assets are relative to this file
    return item


def _resolved(link: pystac.Link, root: pystac.Catalog) -> pystac.Item:
    item = link.resolve_stac_object(root=root.get_root()).target
    assert isinstance(item, pystac.Item)
    return item


def _check(path: pathlib.Path, item: dict[str, Any]) -> None:
    """Refuses what pystac would refuse without a word on where it stands."""
    where = f"{path}: item {item.get('id')!r}"
    properties = item.get("properties") or {}
    if not properties.get("datetime") and not (properties.get("start_datetime") and properties.get("end_datetime")):
        raise InputError(f"{where}: has no 'datetime', nor 'start_datetime' and 'end_datetime'; add the acquisition time in UTC")
    for key, asset in (item.get("assets") or {}).items():
        if not isinstance(asset, dict) or not asset.get("href"):
            raise InputError(f"{where}, asset {key!r}: has no 'href'; name its file, or take the asset out")

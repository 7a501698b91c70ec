"""Drafts a `scenes.yaml`: what is recognised is written out, and what only the user can know stands there as a question.

A question is a ``?``; a description with one is refused by ingest, with the field's name.
"""

import datetime
import os
import pathlib
import re
from typing import Any

import yaml

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.describe import RASTERS, READERS, survey
from rsfm_jax.ingest.fields import OPEN
from rsfm_jax.ingest.products.product import Entry
from rsfm_jax.ingest.raster import reading

_BAND = re.compile(r"(.+?)[_\-. ](B\d{1,2}|B8A|VV|VH|HH|HV|red|green|blue|nir)", re.IGNORECASE)
_MASK = re.compile(r"(.+?)[_\-. ](fmask|cfmask|scl|qa|qa_pixel|pixel_qa|cloud_?mask|mask)", re.IGNORECASE)
_LANDSAT_ID = re.compile(r"L([TEC])(\d)\d{6}(\d{7})[A-Z]{3}\d\d.*")  # scene ids before the collections: path, row, year and day
_DAY = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])(?!\d)")


def draft(folder: pathlib.Path) -> tuple[str, list[str]]:
    """Drafts the `scenes.yaml` of a folder.

    Args:
      folder: The folder, without a `scenes.yaml` of its own.

    Returns:
      The text, and one line for each thing that the user must say or do.

    Raises:
      InputError: no folder, one that has a `scenes.yaml`, or no raster in it.
    """
    if not folder.is_dir():
        raise InputError(f"--scenes={folder}: no such folder")
    if (folder / "scenes.yaml").exists():
        raise InputError(f"{folder / 'scenes.yaml'} is there already; a draft would replace it: move it away first")
    found = survey(folder)
    blocks, needs = [], []
    for kind, product in found.products:
        try:
            entries = READERS[kind].read(product.path)
        except InputError as error:
            needs.append(str(error))
            blocks.append(f"# {kind}, not described: {error}\n")
            continue
        blocks += [_block([f"{kind}: {os.path.relpath(product.path, folder)}"], _relative(entry, folder)) for entry in entries]
    rasters = [file for file in found.left if file.suffix.lower() in RASTERS and "described otherwise" not in found.left[file]]
    below_description = [file for file in rasters if any(d.parent in file.parents for d in found.descriptions)]
    for name, files in _grouped([file for file in rasters if file not in below_description]).items():
        comments, entry = _questions(name[1], files)
        blocks.append(_block(comments, _relative(entry, folder)))
        needs.append(f"{folder / 'scenes.yaml'}: scene {entry['id']!r}: {'; '.join(_open_fields(entry))}")
    needs += [f"{file}: {why}" for file, why in found.left.items() if "archive" in why]
    if not any("\n  - " in block for block in blocks):
        raise InputError(f"--scenes={folder}: there is no raster that a scene could be drafted from ({'; '.join(needs) or 'no file'})")
    header = f"# A draft. Every {OPEN} is yours to replace: docs/data.md has the fields, rsfm_jax/sensors.py the sensors and their bands.\n"
    return header + "scenes:\n" + "\n".join(blocks), needs


def write_draft(folder: pathlib.Path) -> list[str]:
    """Writes the draft as ``scenes.yaml`` into the folder; returns what the user must say or do. Raises `InputError` as `draft` does."""
    text, needs = draft(folder)
    (folder / "scenes.yaml").write_text(text)
    return needs


def _block(comments: list[str], entry: Entry) -> str:
    written = yaml.safe_dump([entry], sort_keys=False, width=1000, default_flow_style=None)
    return "".join(f"  # {comment}\n" for comment in comments) + "".join(f"  {line}\n" for line in written.splitlines())


def _relative(entry: Entry, folder: pathlib.Path) -> Entry:
    """An entry whose local files are named from the folder."""

    def shown(described: Any) -> Any:
        if not isinstance(described, dict) or "file" not in described:
            return described
        file = described["file"]
        return described | {"file": file if "://" in file or file.startswith("/vsi") else os.path.relpath(file, folder)}

    bands = {name: shown(band) for name, band in entry["bands"].items()}
    return entry | {"bands": bands} | ({"mask": shown(entry["mask"])} if "mask" in entry else {})


def _grouped(files: list[pathlib.Path]) -> dict[tuple[pathlib.Path, str], list[pathlib.Path]]:
    """Rasters that are called alike but for a band or a mask at the end of the name."""
    groups: dict[tuple[pathlib.Path, str], list[pathlib.Path]] = {}
    for file in files:
        match = _BAND.fullmatch(file.stem) or _MASK.fullmatch(file.stem)
        groups.setdefault((file.parent, match[1] if match else file.stem), []).append(file)
    return groups


def _questions(name: str, files: list[pathlib.Path]) -> tuple[list[str], Entry]:
    """Comments and entry of rasters of no known product: what their names and tags say, and the rest as questions."""
    comments = []
    bands: dict[str, Entry] = {}
    mask = None
    for file in files:
        with reading(file, str(file)) as dataset:
            count, crs = dataset.count, dataset.crs
            called = [text for text in dataset.descriptions if text]
            grid = f"{dataset.width} x {dataset.height}, {crs.to_string()[:20] if crs else 'NO COORDINATE SYSTEM'}"
            said = f"{count} band(s) of {dataset.dtypes[0]}, {grid}, nodata {dataset.nodata}"
        comments.append(f"{file.name}: {said}" + (f", called {', '.join(called)}" if called else ""))
        if match := _BAND.fullmatch(file.stem):
            bands[match[2].upper()] = {"file": str(file), "index": 1}
        elif _MASK.fullmatch(file.stem):
            mask = {"file": str(file), "invalid": OPEN}
        else:
            bands |= {f"{OPEN} {file.stem if count == 1 else i}": {"file": str(file), "index": i} for i in range(1, count + 1)}
    entry: Entry = {"id": name, "sensor": OPEN, "acquired_utc": OPEN, "bands": bands}
    if match := _LANDSAT_ID.fullmatch(name):
        entry["acquired_utc"] = datetime.datetime.strptime(match[3], "%Y%j").date().isoformat()
        comments.append(f"sensor: landsat{match[2]}_l1 or landsat{match[2]}_l2; scale and offset as your processor wrote them")
    elif match := _DAY.search(name):
        comments.append(f"acquired_utc: is it {'-'.join(match.groups())}, as in the name?")
    else:
        comments.append("acquired_utc: YYYY-MM-DD, YYYY-MM-DDTHH:MM:SSZ, or unknown")
    if any(re.fullmatch(r"B\d\d|B8A", band) for band in bands):
        comments.append(
            'if it is sentinel2_l1c or sentinel2_l2a, also write processing_baseline: "NN.NN" or baseline_offset_dn: 0 or -1000'
        )
    if mask:
        entry["mask"] = mask
        comments.append("mask: the values in 'invalid' (or bits in 'bits') that mean no valid observation; or take the mask out")
    return comments, entry


def _open_fields(entry: Entry) -> list[str]:
    fields = [field for field in ("sensor", "acquired_utc") if entry[field] == OPEN]
    fields += ["the names of its bands"] if any(name.startswith(OPEN) for name in entry["bands"]) else []
    return fields + (["mask: invalid"] if "mask" in entry else [])

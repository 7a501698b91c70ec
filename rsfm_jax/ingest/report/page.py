"""The page about a dataset: what is in it, where, when, and what it looks like, in one HTML file.

Memory does not grow with the dataset: the manifest is read line by line, and records, footprints and named scenes are drawn by seed. The
page says of each how many were drawn of how many.
"""

import dataclasses
import datetime
import json
import pathlib
from typing import Any

from rsfm_jax.data.dataset import Dataset, open_dataset
from rsfm_jax.errors import InputError
from rsfm_jax.ingest.report.census import Census, check_counts, take_census
from rsfm_jax.ingest.report.looks import image_sets, value_section
from rsfm_jax.ingest.report.sampling import BandValues, Drawn, draw
from rsfm_jax.ingest.report.sections import about, contents, how_made, map_section, time_section
from rsfm_jax.pages import STYLE, page, write_whole

PAGE = "report.html"
_MARK = "<!-- report of rsfm_jax.ingest -->"
_NEEDED = ("written_by", "ingest", "layouts", "sets", "rejected", "unused_bands", "statistics", "digest")

_STYLE = (
    STYLE
    + """
h1{margin-bottom:.2rem}h2{border-top:1px solid #ddd;padding-top:1.2rem}h4{margin:1.4rem 0 .3rem;font-weight:600;overflow-wrap:anywhere}
nav a{margin-right:1rem}.wide{overflow-x:auto}.wide table{white-space:nowrap}
.row{display:flex;flex-wrap:wrap;gap:.8rem}figure{margin:0;flex:0 1 16rem;min-width:9.5rem}figure.chart{flex-basis:21rem}
figure img{width:100%;image-rendering:pixelated;display:block}figure.chart img{image-rendering:auto}
figcaption{font-size:12px;color:#555;overflow-wrap:anywhere}figcaption b{color:#222;display:block}
.key{display:inline-block;width:.9em;height:.9em;vertical-align:-.1em;border:1px solid #999}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem}dt{color:#666}dd{margin:0;overflow-wrap:anywhere}
pre{overflow-x:auto;background:#f6f6f6;padding:.6rem}
@media(max-width:40rem){dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}figure{flex-basis:9.5rem;flex-grow:1}figure.chart{flex-basis:100%}}"""
)


@dataclasses.dataclass(frozen=True)
class Knobs:
    """How much the page shows.

    Attributes:
      seed: Of everything that is drawn.
      sets_shown: Sets of each layout that are pictured.
      records_read: Records of each layout that are drawn for values and dates; the pictured sets are among them.
      footprints_drawn: Footprints on the map of each split, and of the rejected sets.
    """

    seed: int = 0
    sets_shown: int = 6
    records_read: int = 200
    footprints_drawn: int = 3000

    def __post_init__(self) -> None:
        """Raises `InputError` for a count that shows nothing."""
        for name in ("sets_shown", "records_read", "footprints_drawn"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: must be at least 1")


def write_report(dataset: pathlib.Path, out: pathlib.Path | None = None, knobs: Knobs | None = None) -> pathlib.Path:
    """Writes the page about a dataset folder.

    Args:
      dataset: Folder that ``python -m rsfm_jax.ingest`` wrote.
      out: The HTML file, ``report.html`` in the dataset folder unless told; a report of before is replaced.
      knobs: How much the page shows.

    Returns:
      The file.

    Raises:
      InputError: no dataset there, a damaged one, or a file that cannot be written or is no report; nothing is written then.
    """
    out, knobs = out or dataset / PAGE, knobs or Knobs()
    if not (dataset / "dataset.json").is_file():
        raise InputError(f"--report={dataset}: no dataset.json there; give a folder that python -m rsfm_jax.ingest --out=... wrote")
    _check_out(out)
    opened = open_dataset(str(dataset))
    summary = json.loads((dataset / "dataset.json").read_text())
    missing = [name for name in _NEEDED if name not in summary]
    if missing:
        raise InputError(f"{dataset / 'dataset.json'}: is not whole (has no {', '.join(missing)}); ingest again")
    manifest = dataset / "manifest.jsonl"
    census = take_census(manifest, knobs.footprints_drawn, knobs.seed)
    check_counts(census, summary, manifest)
    values: dict[tuple[str, str], BandValues] = {}
    drawn = [draw(opened, layout, values, knobs.records_read, knobs.seed) for layout in opened.layouts]
    written = datetime.datetime.fromtimestamp((dataset / "dataset.json").stat().st_mtime, datetime.UTC)
    parts = _parts(dataset, opened, summary, census, drawn, values, written, knobs)
    try:
        write_whole(out, page(f"{dataset.resolve().name}: a dataset of image sets", [_MARK, *parts], _STYLE))
    except OSError as error:
        raise InputError(f"--out={out}: cannot be written ({error.strerror}); give another file") from None
    return out


def _parts(
    folder: pathlib.Path,
    dataset: Dataset,
    summary: dict[str, Any],
    census: Census,
    drawn: list[Drawn],
    values: dict[tuple[str, str], BandValues],
    written: datetime.datetime,
    knobs: Knobs,
) -> list[str]:
    return [
        about(folder.resolve().name, summary, census, written),
        contents(summary, census),
        map_section(census),
        *(image_sets(dataset, of_layout, values, knobs.sets_shown, knobs.seed) for of_layout in drawn),
        value_section(summary["statistics"], values, drawn, dataset.sets),
        time_section(census),
        how_made(summary),
    ]


def _check_out(out: pathlib.Path) -> None:
    """Raises `InputError` when there is something at ``out`` that is no report, or no folder to write it into."""
    if not out.parent.is_dir():
        raise InputError(f"--out={out}: there is no folder {out.parent}; make it first")
    if out.is_dir():
        raise InputError(f"--out={out}: is a folder; give the HTML file to write, for instance --out={out / PAGE}")
    if out.exists():
        with out.open("rb") as file:
            if _MARK.encode() not in file.read(10_000):
                raise InputError(f"--out={out}: already holds something that is no report; choose another file")

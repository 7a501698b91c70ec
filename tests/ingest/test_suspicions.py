"""Collars that nobody declared are asked about, and what is an observation is not."""

import shutil

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
import rasterio.shutil

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.chips import ChipReader
from rsfm_jax.ingest.describe import find_scenes
from rsfm_jax.ingest.raster import open_scene
from rsfm_jax.ingest.suspicions import border_connected, check_values
from tests.helpers import ingest, manifest, one_slot, open_one, records, scene, valid_pixels, write_geotiff, write_scenes_yaml

RGB = {name: {"file": "rgb.tif", "index": i} for i, name in enumerate("RGB", 1)}


def _values(dtype, shape=(3, 96, 96), seed=0):
    return np.random.default_rng(seed).integers(20, 120, shape).astype(dtype)


def _collar(values, value, kind="corner"):
    """Puts a value on the triangle of a turned footprint (780 of 9216 pixels), on a strip (3 of 96 rows), or into the middle."""
    rows, columns = np.mgrid[: values.shape[-2], : values.shape[-1]] / values.shape[-1]
    where = {"corner": rows + columns < 0.4, "strip": rows < 3 / 96, "middle": (abs(rows - 0.5) < 0.2) & (abs(columns - 0.5) < 0.2)}[kind]
    values[..., where] = value
    return values


def _check(scene_):
    with ChipReader() as reader:
        check_values([scene_], reader)


@pytest.mark.parametrize(
    ("sensor", "bands", "dtype", "value", "kind", "share"),
    [
        ("naip", "RGB", "uint8", 0, "corner", "8.46"),
        ("naip", "RGB", "uint8", 255, "strip", "3.12"),
        ("naip", "R", "uint8", 0, "corner", "8.46"),
        ("dem", "elevation", "int16", -9999, "corner", "8.46"),
        ("dem", "elevation", "int16", -32768, "strip", "3.12"),
        ("dem", "elevation", "float32", -3.4028234663852886e38, "strip", "3.12"),
        ("dem", "elevation", "uint16", 65535, "strip", "3.12"),
        ("sentinel1_grd", "VV", "float32", -99, "corner", "8.46"),
        ("sentinel1_grd", "VV", "float32", 0, "corner", "8.46"),
    ],
)
def test_a_collar_that_nobody_states_is_refused(tmp_path, sensor, bands, dtype, value, kind, share):
    folder = tmp_path / "scenes"
    names = list(bands) if sensor == "naip" else [bands]
    values = _values(dtype, (len(names), 96, 96))
    if sensor == "sentinel1_grd":
        values = values / 10 - np.float32(20.03)
    write_geotiff(folder / "x.tif", _collar(values, value, kind))
    write_scenes_yaml(folder, scene(sensor=sensor, bands={name: {"file": "x.tif", "index": i} for i, name in enumerate(names, 1)}))
    said = ", ".join(map(repr, names))
    message = (
        rf"scenes\.yaml: scene 'one', bands? {said}: \S*x\.tif has {share} % pixels of value {value:.10g} in border-connected regions, "
        rf"and nobody states nodata; add nodata: {value:.10g} to scenes\.yaml, or nodata: none if they are observations"
    )
    with pytest.raises(InputError, match=message.replace("+", r"\+")):
        ingest(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scenes"]


def test_what_the_message_asks_for_settles_it(tmp_path):
    folder = tmp_path / "scenes"
    write_geotiff(folder / "rgb.tif", _collar(_values(np.uint8), 0))
    expected = {0: 1 - (_collar(_values(np.uint8), 0) == 0).mean(), "none": 1.0}
    for i, (nodata, share) in enumerate(expected.items()):
        write_scenes_yaml(folder, scene(sensor="naip", bands=RGB, nodata=nodata))
        layout = one_slot("naip", ("R", "G", "B"), pixels=96)
        shutil.rmtree(tmp_path / "scenes-dataset", ignore_errors=True)
        dataset, _ = ingest(folder, layout)
        (record,) = records(dataset, "naip")
        assert valid_pixels(record, 0).mean() == pytest.approx(share)
        (row,) = manifest(dataset, "scene")
        assert {(band["nodata"], band["nodata_from"]) for band in row["bands"].values()} == {(None if i else 0.0, "scenes.yaml")}


def test_none_overrides_the_tag_of_the_file(tmp_path):
    values = _collar(_values(np.int16, (1, 96, 96)), -9)
    write_geotiff(tmp_path / "dem.tif", values, nodata=-9)
    for nodata, valid in ((None, values[0] != -9), ("none", np.ones((96, 96), bool))):
        with ChipReader() as reader:
            dn_HWC, valid_HWC = reader.read_window(open_one(tmp_path, nodata=nodata), ("elevation",), 0, 0, 96)
        assert np.array_equal(valid_HWC[..., 0], valid)
        assert np.array_equal(dn_HWC[..., 0], np.where(valid, values[0], 0))


def test_a_band_s_own_nodata_comes_before_the_scene_s_none(tmp_path):
    write_geotiff(tmp_path / "rgb.tif", _values(np.uint8))
    found = open_one(tmp_path, sensor="naip", bands=RGB | {"R": RGB["R"] | {"nodata": 7}}, nodata="none").bands
    assert [(found[name].nodata, found[name].nodata_from) for name in "RG"] == [(7, "scenes.yaml"), (None, "scenes.yaml")]


@pytest.mark.parametrize("nodata", ["None", "nil", "", []])
def test_another_word_is_no_nodata(tmp_path, nodata):
    write_geotiff(tmp_path / "dem.tif", _values(np.int16))
    with pytest.raises(InputError, match=r"field 'nodata' is .*, it must be a number, or none"):
        open_one(tmp_path, nodata=nodata)


def _one_dark_band(values):
    values[2] = np.where(np.mgrid[:96, :96][0] < 40, 0, values[2])  # deep water in one band of three
    return values


@pytest.mark.parametrize(
    ("sensor", "values", "more"),
    [
        ("naip", _collar(_values(np.uint8), 0, "middle"), {}),  # a hole may be a roof
        ("naip", _one_dark_band(_values(np.uint8)), {}),
        ("naip", _collar(_values(np.uint8), 77), {}),  # no value that stands for nothing
        ("naip", _collar(_values(np.uint8), 0), {"nodata": 0}),
        ("dem", _collar(_values(np.float32), 0), {}),  # the sea
        ("dem", _collar(_values(np.float32), np.nan), {}),
        ("landsat7_l1", _collar(_values(np.uint8), 0), {}),  # the sensor states it
    ],
    ids=["hole", "one band", "any value", "stated in the file", "sea", "nan", "sensor"],
)
def test_observations_are_not_asked_about(tmp_path, sensor, values, more):
    write_geotiff(tmp_path / "x.tif", values, **more)
    names = {"naip": "RGB", "dem": ("elevation",), "landsat7_l1": ("B1", "B2", "B3")}[sensor]
    _check(open_one(tmp_path, sensor=sensor, bands={name: {"file": "x.tif", "index": i} for i, name in enumerate(names, 1)}))


def test_one_band_alone_is_asked_about_where_no_measurement_can_be(tmp_path):
    values = _values(np.int16)
    values[1, :4] = -9999
    write_geotiff(tmp_path / "rgb.tif", values)
    with pytest.raises(InputError, match=r"scene 'one', band 'G': \S*rgb\.tif has 4\.17 % pixels of value -9999"):
        _check(open_one(tmp_path, sensor="naip", bands=RGB))


def test_a_tag_that_no_pixel_can_have_states_nothing(tmp_path):
    write_geotiff(tmp_path / "rgb.tif", _collar(_values(np.uint8), 0))
    vrt = (tmp_path / "rgb.vrt").as_posix()
    with rasterio.open(tmp_path / "rgb.tif") as source:
        rasterio.shutil.copy(source, vrt, driver="VRT")
    text = (tmp_path / "rgb.vrt").read_text().replace("<ColorInterp>", "<NoDataValue>-9999</NoDataValue><ColorInterp>")
    (tmp_path / "rgb.vrt").write_text(text)
    bands = {name: {"file": "rgb.vrt", "index": i} for i, name in enumerate("RGB", 1)}
    opened = open_one(tmp_path, sensor="naip", bands=bands)
    assert opened.bands["R"].nodata_from == "nobody"
    with pytest.raises(InputError, match="pixels of value 0 in border-connected regions"):
        _check(opened)


def test_a_quality_raster_that_leaves_the_collar_out_settles_it(tmp_path):
    values = _collar(_values(np.uint8), 0)
    write_geotiff(tmp_path / "rgb.tif", values)
    write_geotiff(tmp_path / "fill.tif", (values[0] == 0).astype(np.uint8))
    _check(open_one(tmp_path, sensor="naip", bands=RGB, mask={"file": "fill.tif", "invalid": [1]}))
    with pytest.raises(InputError, match="border-connected"):
        _check(open_one(tmp_path, sensor="naip", bands=RGB, mask={"file": "fill.tif", "invalid": [2]}))


class _Counting(ChipReader):
    """Counts the pixels asked for."""

    asked = 0

    def read_window(self, scene, bands, column, row, pixels):
        self.asked += pixels**2
        return super().read_window(scene, bands, column, row, pixels)


@pytest.mark.parametrize("overviews", [False, True])
def test_a_large_raster_is_looked_at_in_few_places(tmp_path, overviews):
    for name, value in (("sound", None), ("collar", 0)):
        values = _values(np.uint8, (3, 2048, 2048))
        values = values if value is None else _collar(values, value)
        write_geotiff(tmp_path / name / "rgb.tif", values, tiled=True, blockxsize=256, blockysize=256)
        if overviews:
            with rasterio.open(tmp_path / name / "rgb.tif", "r+") as dataset:
                dataset.build_overviews([4, 8], Resampling.average)
    with _Counting() as reader:
        check_values([open_one(tmp_path / "sound", sensor="naip", bands=RGB)], reader)
        assert reader.asked <= 20 * 16**2
        with pytest.raises(InputError, match=r"has (7\.9\d|8\.0\d) % pixels of value 0"):
            check_values([open_one(tmp_path / "collar", sensor="naip", bands=RGB)], reader)


def test_connected_to_the_border_means_over_neighbours():
    mask = np.array([[0, 0, 0, 0, 1], [0, 1, 1, 0, 0], [0, 1, 0, 0, 1], [0, 1, 0, 1, 1], [0, 1, 0, 0, 0]], bool)
    expected = mask.copy()
    assert np.array_equal(border_connected(mask), expected)  # the hook reaches the lower edge, the block the right one
    mask[4, 1], expected[:, 1:3] = False, False
    assert np.array_equal(border_connected(mask), expected)


def test_no_real_delivery_is_asked_about(repo, shared_data, tmp_path):
    """Every file of the shared folder and of the examples that is not a class map, under a sensor that states no nodata."""
    files = [
        p for root in (shared_data, repo / "examples" / "scenes") for p in sorted(root.rglob("*")) if p.suffix.lower() in (".tif", ".jp2")
    ]
    files = [p for p in files if not any(word in p.name.lower() for word in ("fmask", "strata", "bqa"))]
    entries = []
    for number, path in enumerate(files):
        with rasterio.open(path) as dataset:
            bands = [{"file": str(path), "index": i} for i in range(1, dataset.count + 1)]
            radar, elevation = "mli_geo" in path.name, "dem" in path.name.lower()
        if radar or elevation:
            entries.append(
                scene(id=str(number), sensor="sentinel1_grd" if radar else "dem", bands={"VV" if radar else "elevation": bands[0]})
            )
        else:
            for first in range(0, len(bands), 4):
                some = dict(zip("RGBN", bands[first : first + 4], strict=False))
                entries.append(scene(id=f"{number}-{first}", sensor="naip", bands=some))
    assert len(entries) > 90
    opened = [open_scene(found) for found in find_scenes(write_scenes_yaml(tmp_path, *entries))]
    with ChipReader() as reader:
        check_values(opened, reader)

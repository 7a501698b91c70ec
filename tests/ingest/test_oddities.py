"""Odd types, masks and files: what is right is read right, and the rest is refused with what to do."""

import math

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.warp import transform_bounds

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.chips import ChipReader
from tests.helpers import ingest, manifest, one_slot, open_one, records, scene, valid_pixels, write_geotiff, write_scenes_yaml

GRID = {"crs": "EPSG:32631", "transform": rasterio.Affine(10, 0, 500_000, 0, -10, 4_800_000)}


def _noise(shape=(32, 32), dtype="uint8", seed=0):
    return np.random.default_rng(seed).integers(1, 120, shape).astype(dtype)


def _window(opened, bands=("elevation",), pixels=32):
    with ChipReader() as reader:
        return reader.read_window(opened, bands, 0, 0, pixels)


def _in_one_file(names, file="x.tif"):
    return {name: {"file": file, "index": i} for i, name in enumerate(names, 1)}


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_types_too_wide_for_training_are_refused(tmp_path, dtype):
    write_geotiff(tmp_path / "dem.tif", _noise(dtype=dtype))
    with pytest.raises(InputError, match=rf"dem\.tif holds {dtype} values; convert them to one of uint8, int8, .*float64"):
        open_one(tmp_path)


def test_wide_integers_keep_every_digit(tmp_path):
    folder = tmp_path / "scenes"
    values = np.random.default_rng(0).integers(4_000_000_000, 2**32 - 2, (16, 16)).astype(np.uint32)  # float32 would round them
    write_geotiff(folder / "dem.tif", values)
    write_scenes_yaml(folder, scene(scale=1e-6, offset=0, nodata="none"))
    dataset, summary = ingest(folder, one_slot(pixels=16))
    (record,) = records(dataset, "dem")
    assert record["pixels_0"].dtype == np.uint32
    assert np.array_equal(record["pixels_0"][..., 0], values)
    assert summary["statistics"]["dem"]["elevation"]["mean"] == pytest.approx(values.astype(np.float64).mean() * 1e-6, rel=1e-12)


def test_signed_bytes_and_unsigned_words_share_a_record(tmp_path):
    signed, wide = _noise(dtype="int8") - np.int8(100), _noise(dtype="uint32", seed=1) + np.uint32(2**31)
    write_geotiff(tmp_path / "a.tif", signed)
    write_geotiff(tmp_path / "b.tif", wide)
    dn_HWC, valid_HWC = _window(open_one(tmp_path, sensor="naip", bands={"R": "a.tif", "G": "b.tif"}), ("R", "G"))
    assert dn_HWC.dtype == np.int64
    assert valid_HWC.all()
    assert np.array_equal(dn_HWC, np.stack([signed, wide], axis=-1))


def test_what_float32_cannot_hold_is_not_valid(tmp_path):
    values = _noise(dtype="float64")
    values[0, :4] = 1e300, -1e39, math.inf, math.nan
    values[1, 0] = 3.4e38
    write_geotiff(tmp_path / "dem.tif", values)
    _, valid_HWC = _window(open_one(tmp_path))
    assert np.argwhere(~valid_HWC[..., 0]).tolist() == [[0, 0], [0, 1], [0, 2], [0, 3]]


def test_a_colour_table_is_no_measurement(tmp_path):
    write_geotiff(tmp_path / "dem.tif", _noise())
    with rasterio.open(tmp_path / "dem.tif", "r+") as dataset:
        dataset.write_colormap(1, {1: (255, 0, 0), 2: (0, 255, 0)})
    with pytest.raises(InputError, match=r"band 1 of \S*dem\.tif holds the numbers of a colour table.*gdal_translate -colorinterp gray"):
        open_one(tmp_path)


def test_a_mask_may_have_a_colour_table(tmp_path):
    write_geotiff(tmp_path / "dem.tif", _noise())
    quality = _noise() % 3
    write_geotiff(tmp_path / "scl.tif", quality)
    with rasterio.open(tmp_path / "scl.tif", "r+") as dataset:
        dataset.write_colormap(1, {1: (255, 0, 0), 2: (0, 255, 0)})
    _, valid_HWC = _window(open_one(tmp_path, mask={"file": "scl.tif", "invalid": [2]}))
    assert np.array_equal(valid_HWC[..., 0], quality != 2)


def _rgba(path, values):
    kinds = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    with rasterio.open(path, "w", driver="GTiff", count=4, height=32, width=32, dtype="uint8", alpha="yes", **GRID) as dataset:
        dataset.write(values)
        dataset.colorinterp = kinds


def test_transparent_pixels_are_not_valid(tmp_path):
    values = _noise((4, 32, 32))
    values[3] = 255 * (np.arange(32) > 5)
    _rgba(tmp_path / "x.tif", values)
    dn_HWC, valid_HWC = _window(open_one(tmp_path, sensor="neon_rgb", bands=_in_one_file("RGB")), ("B", "R", "G"))
    assert np.array_equal(valid_HWC, np.broadcast_to((values[3] > 0)[..., None], (32, 32, 3)))
    assert np.array_equal(dn_HWC, np.where(valid_HWC, values[[2, 0, 1]].transpose(1, 2, 0), 0))


def test_a_band_that_is_marked_as_transparency_and_named_as_a_band_is_a_band(tmp_path, shared_data):
    """As NAIP files mark their near infrared; dark water is no hole."""
    values = _noise((4, 32, 32))
    values[3, 4:9] = 0
    _rgba(tmp_path / "x.tif", values)
    dn_HWC, valid_HWC = _window(open_one(tmp_path, sensor="naip", bands=_in_one_file("RGBN")), tuple("RGBN"))
    assert valid_HWC.all()
    assert np.array_equal(dn_HWC, values.transpose(1, 2, 0))
    with rasterio.open(shared_data / "naip_arizona" / "m_3211605_ne_11_060_20200415.tif") as real:
        assert real.colorinterp[3] == ColorInterp.alpha


def test_a_mask_file_beside_the_raster_counts(tmp_path):
    write_geotiff(tmp_path / "x.tif", _noise((3, 32, 32)))
    mask = np.random.default_rng(5).random((32, 32)) > 0.3
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(tmp_path / "x.tif", "r+") as dataset:
        dataset.write_mask(mask)
    assert (tmp_path / "x.tif.msk").exists()
    opened = open_one(tmp_path, sensor="neon_rgb", bands=_in_one_file("RGB"), nodata=7)
    dn_HWC, valid_HWC = _window(opened, ("R", "G", "B"))
    values = _noise((3, 32, 32)).transpose(1, 2, 0)
    assert np.array_equal(valid_HWC, mask[..., None] & (values != 7))
    assert (dn_HWC[~valid_HWC] == 0).all()


def test_nodata_may_differ_from_band_to_band(tmp_path):
    """In a virtual raster, whose bands have tags of their own, and in scenes.yaml, which comes first."""
    values = _noise((3, 32, 32), "int16")
    write_geotiff(tmp_path / "x.tif", values)
    import rasterio.shutil as copies

    with rasterio.open(tmp_path / "x.tif") as source:
        copies.copy(source, (tmp_path / "x.vrt").as_posix(), driver="VRT")
    parts = (tmp_path / "x.vrt").read_text().split("</VRTRasterBand>")
    parts[0] += "<NoDataValue>7</NoDataValue>"
    parts[1] += "<NoDataValue>9</NoDataValue>"
    (tmp_path / "x.vrt").write_text("</VRTRasterBand>".join(parts))
    bands = _in_one_file("RGB", "x.vrt")
    bands["B"]["nodata"] = 11
    opened = open_one(tmp_path, sensor="neon_rgb", bands=bands)
    assert [(opened.bands[n].nodata, opened.bands[n].nodata_from) for n in "RGB"] == [(7, "file"), (9, "file"), (11, "scenes.yaml")]
    _, valid_HWC = _window(opened, ("R", "G", "B"))
    assert np.array_equal(valid_HWC, values.transpose(1, 2, 0) != (7, 9, 11))
    _, valid_HWC = _window(opened, ("B", "R"))
    assert np.array_equal(valid_HWC, values[[2, 0]].transpose(1, 2, 0) != (11, 7))


@pytest.mark.parametrize(("gsd", "left"), [(20.0, 500_000.0), (20.0, 499_990.0), (2.5, 500_000.0), (5.0, 499_985.0)])
def test_a_mask_of_any_grid_is_asked_at_pixel_centres(tmp_path, gsd, left):
    """Against rasterio's own sampling of the mask at the centres of the bands' pixels."""
    write_geotiff(tmp_path / "dem.tif", _noise())
    size = math.ceil(400 / gsd)
    write_geotiff(tmp_path / "scl.tif", _noise((size, size)) % 5, gsd=gsd, left=left, top=4_800_010)
    opened = open_one(tmp_path, mask={"file": "scl.tif", "invalid": [1, 3]})
    _, valid_HWC = _window(opened)
    centres = [(500_005 + 10 * c, 4_799_995 - 10 * r) for r in range(32) for c in range(32)]
    with rasterio.open(tmp_path / "scl.tif") as mask:
        expected = np.array([value[0] for value in mask.sample(centres)]).reshape(32, 32)
    assert np.array_equal(valid_HWC[..., 0], ~np.isin(expected, [1, 3]))


def test_a_mask_of_one_bit(tmp_path):
    write_geotiff(tmp_path / "dem.tif", _noise())
    cloud = _noise() % 2
    write_geotiff(tmp_path / "cloud.tif", cloud, nbits=1)
    _, valid_HWC = _window(open_one(tmp_path, mask={"file": "cloud.tif", "invalid": [1]}))
    assert np.array_equal(valid_HWC[..., 0], cloud == 0)


def _mask_elsewhere(path):
    bounds = transform_bounds("EPSG:32631", "EPSG:32632", 500_000, 4_799_680, 500_320, 4_800_000)
    write_geotiff(path, np.zeros((64, 64), np.uint8), crs="EPSG:32632", left=bounds[0] - 100, top=bounds[3] + 100)


TURNED = rasterio.Affine.translation(499_900, 4_800_100) @ rasterio.Affine.rotation(3) @ rasterio.Affine.scale(10, -10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_mask_elsewhere, r"mask: \S*m\.tif is in another coordinate system than the bands, EPSG:32632 and not EPSG:32631; warp it"),
        (lambda p: write_geotiff(p, np.zeros((64, 64), np.uint8), crs=None), r"mask: \S*m\.tif has no coordinate reference system"),
        (lambda p: write_geotiff(p, np.zeros((64, 64), np.uint8), transform=TURNED), r"lies on a grid turned against that of \S*dem\.tif"),
        (lambda p: write_geotiff(p, np.zeros((64, 64), np.complex64)), r"mask: \S*m\.tif holds complex64 values"),
    ],
    ids=["other", "none", "turned", "complex"],
)
def test_a_mask_that_cannot_be_laid_over_the_bands_is_refused(tmp_path, make, message):
    write_geotiff(tmp_path / "dem.tif", _noise())
    make(tmp_path / "m.tif")
    with pytest.raises(InputError, match=message):
        open_one(tmp_path, mask={"file": "m.tif", "invalid": [1]})


@pytest.mark.parametrize(
    ("sensor", "band", "more"),
    [
        ("sentinel2_l2a", "B04", {"baseline_offset_dn": 0}),
        ("landsat8_l2", "B4", {}),
        ("landsat8_l2", "ST_B10", {}),
        ("landsat5_l2", "B3", {}),
    ],
)
def test_eight_bits_of_reflectance_need_a_stated_scale(tmp_path, sensor, band, more):
    write_geotiff(tmp_path / "tci.tif", _noise())
    fields = {"sensor": sensor, "bands": {band: "tci.tif"}} | more
    message = (
        r"band '\w+': \S*tci\.tif holds 8-bit numbers, not \w+; an 8-bit visual product \(TCI\)\? statistics will be wrong: .*state scale"
    )
    with pytest.raises(InputError, match=message):
        open_one(tmp_path, **fields)
    raster = open_one(tmp_path, **fields, scale=0.004, offset=0).bands[band]
    assert (raster.scale, raster.offset) == (0.004, 0.0)


def test_eight_bits_are_the_right_type_of_digital_numbers(tmp_path):
    write_geotiff(tmp_path / "b4.tif", _noise())
    assert open_one(tmp_path, sensor="landsat7_l1", bands={"B4": "b4.tif"}).bands["B4"].dtype == "uint8"


@pytest.mark.parametrize(
    ("in_file", "fields", "whose"),
    [
        ((0.0, 5.0), {}, r"\S*dem\.tif"),
        (None, {"scale": 0}, r"scenes\.yaml"),
        (None, {"scale": math.nan}, r"scenes\.yaml"),
        (None, {"offset": math.inf, "scale": 1}, r"scenes\.yaml"),
    ],
)
def test_a_scale_that_makes_no_measurement_is_refused(tmp_path, in_file, fields, whose):
    write_geotiff(tmp_path / "dem.tif", _noise(), scale_offset=in_file)
    with pytest.raises(InputError, match=rf"the scale of {whose}, make no measurement of a digital number; state the product's scale"):
        open_one(tmp_path, **fields)


LAYOUTS = [
    {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "pixel"},
    {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "band"},
    {"blockysize": 1, "interleave": "pixel"},
    {"blockysize": 37, "interleave": "band"},
    {"driver": "COG", "blocksize": 128},
]


@pytest.mark.parametrize("compress", ["none", "deflate", "lzw"])
@pytest.mark.parametrize("profile", LAYOUTS, ids=lambda p: "-".join(str(v) for v in p.values()))
def test_files_of_any_arrangement_read_the_same_and_say_when_they_are_cut(tmp_path, profile, compress):
    values = _noise((3, 200, 150))
    whole = tmp_path / "whole.tif"
    if profile.get("driver") == "COG":
        import rasterio.shutil as copies

        write_geotiff(tmp_path / "plain.tif", values)
        copies.copy((tmp_path / "plain.tif").as_posix(), whole.as_posix(), compress=compress, **profile)
    else:
        write_geotiff(whole, values, compress=compress, **profile)
    opened = open_one(tmp_path, sensor="neon_rgb", bands=_in_one_file("RGB", "whole.tif"))
    with ChipReader() as reader:
        dn_HWC, _ = reader.read_window(opened, ("B", "R"), 90, 61, 60)
    assert np.array_equal(dn_HWC, values[[2, 0], 61:121, 90:150].transpose(1, 2, 0))
    content = whole.read_bytes()
    for share in (0.05, 0.6, 0.98):
        (tmp_path / "cut.tif").write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match=r"band '[RGB]': \S*cut\.tif cannot be read as an image .*truncated"):
            open_one(tmp_path, sensor="neon_rgb", bands=_in_one_file("RGB", "cut.tif"))


def test_bands_of_one_file_in_any_order_and_beside_others(tmp_path):
    """Channels of a file that do not lie at equal steps, at the raster's edge, with two nodata values."""
    values = _noise((5, 40, 40), "int16")
    write_geotiff(tmp_path / "x.tif", values, nodata=7)
    write_geotiff(tmp_path / "y.tif", values[0] + 1000, nodata=1009)
    names = ("B1", "B2", "B3", "B4", "B5")
    bands = {name: {"file": "x.tif", "index": i} for i, name in enumerate(names, 1)} | {"B7": "y.tif"}
    opened = open_one(tmp_path, sensor="landsat7_l1", bands=bands)
    asked = ("B5", "B1", "B7", "B3", "B2")
    with ChipReader() as reader:
        dn_HWC, valid_HWC = reader.read_window(opened, asked, -4, 30, 20)
    planes = np.stack([values[4], values[0], values[0] + 1000, values[2], values[1]], axis=-1)
    seen = np.pad(planes, ((0, 10), (4, 0), (0, 0)), constant_values=7)[30:50, :20]
    expected = seen != (7, 7, 1009, 7, 7)
    expected[10:], expected[:, :4] = False, False
    assert np.array_equal(valid_HWC, expected)
    assert np.array_equal(dn_HWC, np.where(expected, seen, 0))


def test_the_manifest_says_what_was_understood(tmp_path):
    folder = tmp_path / "scenes"
    write_geotiff(folder / "x.tif", _noise((3, 32, 32)))
    write_scenes_yaml(folder, scene(sensor="neon_rgb", bands=_in_one_file("RGB"), nodata="none"))
    dataset, _ = ingest(folder, one_slot("neon_rgb", ("R", "G", "B"), pixels=32))
    (row,) = manifest(dataset, "scene")
    expected = {
        "dtype": "uint8",
        "gsd_m": 10.0,
        "scale": 1.0,
        "offset": 0.0,
        "nodata": None,
        "nodata_from": "scenes.yaml",
        "conversion": None,
    }
    assert {name: band | expected for name, band in row["bands"].items()} == row["bands"]
    (record,) = records(dataset, "neon_rgb")
    assert valid_pixels(record, 0).all()

"""Coordinate systems and grids as deliveries have them: put on the ground right, or refused with what to do."""

import math
import pathlib

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.rpc import RPC
from rasterio.vrt import WarpedVRT
from rasterio.warp import Resampling, transform

from rsfm_jax.errors import InputError
from rsfm_jax.geo import Rect
from rsfm_jax.ingest.chips import ChipReader
from rsfm_jax.ingest.coordinates import horizontal
from rsfm_jax.layouts import Layout, Slot
from tests.helpers import ingest, manifest, one_slot, open_one, records, scene, write_geotiff, write_scenes_yaml

UTM = CRS.from_epsg(32631)
LAEA = "+proj=laea +lat_0=43 +lon_0=3 +datum=WGS84 +units=m +no_defs"  # has no code
ESRI_UTM = (
    'PROJCS["WGS_1984_UTM_Zone_31N",GEOGCS["GCS_WGS_1984",DATUM["D_WGS_1984",SPHEROID["WGS_1984",6378137.0,298.257223563]],'
    'PRIMEM["Greenwich",0.0],UNIT["Degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],PARAMETER["False_Easting",500000.0],'
    'PARAMETER["False_Northing",0.0],PARAMETER["Central_Meridian",3.0],PARAMETER["Scale_Factor",0.9996],'
    'PARAMETER["Latitude_Of_Origin",0.0],UNIT["Meter",1.0]]'
)
SITE = 'LOCAL_CS["site",UNIT["metre",1]]'


def _noise(size=64, seed=0):
    return np.random.default_rng(seed).integers(100, 9000, (size, size)).astype(np.int16)


def _smooth(size=64):
    """Waves of some twenty pixels, which interpolation follows closely."""
    rows, columns = np.mgrid[:size, :size]
    return (1000 + 300 * np.sin(columns / 4) + 200 * np.cos(rows / 3)).astype(np.float32)


def test_a_coordinate_system_without_a_code_is_kept_as_its_definition(tmp_path):
    folder = tmp_path / "scenes"
    write_geotiff(folder / "dem.tif", _noise(), crs=LAEA, left=-300, top=300)
    dataset, _ = ingest(write_scenes_yaml(folder, scene()), one_slot(pixels=16))
    (row,) = manifest(dataset, "scene")
    assert "Lambert_Azimuthal_Equal_Area" in row["crs"]
    for record in records(dataset, "dem"):
        (lon,), (lat,) = transform(LAEA, "EPSG:4326", *record["centre_m"][:, None])
        assert CRS.from_string(record["crs"].decode()) == CRS.from_string(LAEA)
        assert (lon, lat) == pytest.approx(tuple(record["lonlat_deg"].mean(axis=0)), abs=1e-6)
        assert math.hypot(lon - 3, lat - 43) < 0.01


def test_a_system_written_by_esri_shares_ground_with_the_same_one_by_its_code(tmp_path):
    """In an ENVI file whose header holds the ESRI definition, beside a GeoTIFF that has the code."""
    folder = tmp_path / "scenes"
    write_geotiff(folder / "red.tif", _noise().astype(np.uint16))
    write_geotiff(folder / "plain.tif", _noise(), crs=None)
    (folder / "dem.bil").write_bytes(_noise(seed=1).astype("<i2").tobytes())
    (folder / "dem.hdr").write_text(
        "ENVI\nsamples = 64\nlines = 64\nbands = 1\nheader offset = 0\nfile type = ENVI Standard\ndata type = 2\ninterleave = bil\n"
        "byte order = 0\nmap info = {UTM, 1, 1, 500000, 4800000, 10, 10, 31, North, WGS-84}\n"
        f"coordinate system string = {{{ESRI_UTM}}}\n"
    )
    write_scenes_yaml(folder, scene(bands={"elevation": "dem.bil"}), scene(id="r", sensor="landsat7_l1", bands={"B3": "red.tif"}))
    slots = (Slot("landsat7_l1", ("B3",), 10.0, 16, 4), Slot("dem", ("elevation",), 10.0, 16, 4))
    dataset, summary = ingest(folder, Layout("pair", slots))
    assert summary["sets"]["pair"]["train"] == 49  # none of the two is resampled
    assert {row["crs"] for row in manifest(dataset, "scene")} == {"EPSG:32631"}


def test_a_vertical_part_does_not_keep_members_apart(tmp_path):
    folder = tmp_path / "scenes"
    write_geotiff(folder / "red.tif", _noise().astype(np.uint16))
    write_geotiff(folder / "dem.tif", _noise(seed=1), crs="EPSG:32631+5773")
    write_scenes_yaml(folder, scene(), scene(id="r", sensor="landsat7_l1", bands={"B3": "red.tif"}))
    slots = (Slot("landsat7_l1", ("B3",), 10.0, 16, 4), Slot("dem", ("elevation",), 10.0, 16, 4))
    dataset, summary = ingest(folder, Layout("pair", slots))
    assert summary["sets"]["pair"]["train"] == 49
    assert "EGM96" in {row["id"]: row["crs"] for row in manifest(dataset, "scene")}["one"]


def test_the_horizontal_part_of_rome_s_compound_system(shared_data):
    with rasterio.open(shared_data / "sarsen_rome_dem30m.tif") as dataset:
        assert dataset.crs.to_epsg() == 9707
        assert horizontal(dataset.crs).to_epsg() == 4326
    assert horizontal(UTM) == UTM


def _gcps(path):
    corners = ((0, 0, 3.0, 43.0), (0, 64, 3.01, 43.0), (64, 0, 3.0, 42.99), (64, 64, 3.01, 42.99))
    points = [GroundControlPoint(row=row, col=column, x=x, y=y) for row, column, x, y in corners]
    write_geotiff(path, _noise(), crs=None, transform=rasterio.Affine.identity())
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = (points, CRS.from_epsg(4326))


def _rpcs(path):
    write_geotiff(path, _noise(), crs=None, transform=rasterio.Affine.identity())
    one = [1.0] + [0.0] * 19
    offsets = {"height_off": 0, "lat_off": 43, "line_off": 32, "long_off": 3, "samp_off": 32}
    scales = {"height_scale": 500, "lat_scale": 0.01, "line_scale": 32, "long_scale": 0.01, "samp_scale": 32}
    coefficients = {"line_num_coeff": one, "line_den_coeff": one, "samp_num_coeff": one, "samp_den_coeff": one}
    with rasterio.open(path, "r+") as dataset:
        dataset.rpcs = RPC(**offsets, **scales, **coefficients)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: write_geotiff(path, _noise(), crs=None), r"dem\.tif has no coordinate reference system; .*gdal_edit\.py -a_srs"),
        (lambda path: write_geotiff(path, _noise(), crs=SITE), r"is in LOCAL_CS\[.site.*a local or geocentric system.*-a_srs"),
        (lambda path: write_geotiff(path, _noise(), crs="EPSG:4978"), r"local or geocentric system"),
        (_gcps, r"dem\.tif is placed by ground control points alone; warp it first, as with gdalwarp -tps"),
        (_rpcs, r"dem\.tif is placed by RPCs alone; orthorectify it first, as with gdalwarp -rpc"),
        (
            lambda path: write_geotiff(path, _noise(), transform=rasterio.Affine.identity()),
            r"dem\.tif has no usable geotransform; .*-a_ullr LEFT TOP RIGHT BOTTOM",
        ),
    ],
    ids=["none", "local", "geocentric", "gcps", "rpcs", "no transform"],
)
def test_a_file_that_cannot_be_placed_is_refused(tmp_path, make, message):
    folder = tmp_path / "scenes"
    folder.mkdir()
    make(folder / "dem.tif")
    with pytest.raises(InputError, match=rf"scenes\.yaml: scene 'one', band 'elevation': .*{message}"):
        ingest(write_scenes_yaml(folder, scene()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scenes"]


TURNED = rasterio.Affine.translation(500_320, 4_800_000) @ rasterio.Affine.rotation(30) @ rasterio.Affine.scale(10, -10)
SOUTH_UP = rasterio.Affine(10, 0, 500_000, 0, 10, 4_799_360)
WEST = rasterio.Affine(-10, 0, 500_640, 0, -10, 4_800_000)
SHEARED = rasterio.Affine(10, 2, 500_000, 1, -12, 4_800_000)


@pytest.mark.parametrize("grid", [TURNED, SOUTH_UP, WEST, SHEARED], ids=["turned", "south-up", "east to west", "sheared"])
def test_other_grids_are_resampled_to_where_they_are(tmp_path, grid):
    """Against values that are interpolated by hand between the four pixel centres around each point."""
    folder = tmp_path / "scenes"
    values = _smooth()
    write_geotiff(folder / "dem.tif", values, transform=grid)
    dataset, _ = ingest(write_scenes_yaml(folder, scene()), one_slot(pixels=16, resample="bilinear"))
    checked = 0
    for record in records(dataset, "dem"):
        left, top, width, height = record["grid_m_0"]
        east, north = np.meshgrid(
            record["centre_m"][0] + left + width * (np.arange(16) + 0.5), record["centre_m"][1] + top - height * (np.arange(16) + 0.5)
        )
        columns, rows = (position - 0.5 for position in ~grid @ (east, north))
        inside = (columns > 0) & (columns < 62) & (rows > 0) & (rows < 62)
        c, r = (np.clip(np.floor(position), 0, 62).astype(int) for position in (columns, rows))
        u, v = columns - c, rows - r
        upper = (1 - u) * values[r, c] + u * values[r, c + 1]
        lower = (1 - u) * values[r + 1, c] + u * values[r + 1, c + 1]
        expected = (1 - v) * upper + v * lower
        assert abs(record["pixels_0"][..., 0] - expected)[inside].max() < 20  # a shift by half a pixel would be over 40
        checked += inside.sum()
    assert checked > 1000


def test_a_warp_by_gdal_s_own_virtual_raster_agrees(tmp_path):
    values = _smooth(128)
    write_geotiff(tmp_path / "dem.tif", values, transform=TURNED, crs="EPSG:32632")
    opened = open_one(tmp_path)
    x, y = opened.bands["elevation"].rect.centre
    (east,), (north,) = transform("EPSG:32632", "EPSG:32631", [x], [y])
    rect = Rect(east - 200, north - 200, east + 200, north + 200)
    with ChipReader() as reader:
        dn_HWC, valid_HWC = reader.read_resampled(opened, ("elevation",), UTM, rect, 50, "bilinear")
    assert valid_HWC.all()
    grid = rasterio.Affine(8, 0, rect.left, 0, -8, rect.top)
    vrt = {"crs": UTM, "transform": grid, "width": 50, "height": 50, "resampling": Resampling.bilinear}
    with rasterio.open(tmp_path / "dem.tif") as source, WarpedVRT(source, **vrt) as warped:
        expected = warped.read(1)
    assert abs(dn_HWC[..., 0] - expected).max() < 15


@pytest.mark.parametrize("grid", [TURNED, SOUTH_UP], ids=["turned", "south-up"])
def test_other_grids_are_not_read_without_resampling(tmp_path, grid):
    folder = tmp_path / "scenes"
    write_geotiff(folder / "dem.tif", _noise(), transform=grid)
    with pytest.raises(InputError, match=r"no image set could be built: .*rotated grid and the slot does not resample"):
        ingest(write_scenes_yaml(folder, scene()), one_slot(pixels=16))
    _, summary = ingest(folder)  # the drafted layout resamples
    assert [slot["resample"] for slot in summary["layouts"][0]["slots"]] == ["bilinear"]


@pytest.mark.parametrize(("off_m", "same"), [(1e-4, True), (0.05, True), (0.2, False), (3.0, False), (10.0, False)])
def test_bands_off_by_a_fraction_of_a_pixel_are_on_different_grids(tmp_path, off_m, same):
    folder = tmp_path / "scenes"
    write_geotiff(folder / "red.tif", _noise().astype(np.uint16))
    write_geotiff(folder / "green.tif", _noise(seed=1).astype(np.uint16), left=500_000 + off_m)
    write_scenes_yaml(folder, scene(sensor="landsat7_l1", bands={"B3": "red.tif", "B2": "green.tif"}))
    layout = one_slot("landsat7_l1", ("B3", "B2"), pixels=16)
    if same:
        assert ingest(folder, layout)[1]["sets"]["landsat7_l1"]["train"] == 49
        return
    with pytest.raises(InputError, match="has bands B3, B2 on different grids and the slot does not resample"):
        ingest(folder, layout)
    _, summary = ingest(folder)  # each grid is a slot of its own
    assert [slot["bands"] for slot in summary["layouts"][0]["slots"]] == [["B2"], ["B3"]]


@pytest.mark.parametrize("off_m", [0.0, 3.0, 25.0])
def test_bands_of_several_resolutions_meet_in_a_resampling_slot(tmp_path, off_m):
    """A field that is linear on the ground comes out the same of a fine grid and of a coarse one that begins elsewhere."""

    def plane(left, top, gsd, size):
        columns, rows = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
        return ((left + gsd * columns - 500_000) / 10 + (4_800_000 - top + gsd * rows) / 5 + 1000).astype(np.float32)

    folder = tmp_path / "scenes"
    write_geotiff(folder / "fine.tif", plane(500_000, 4_800_000, 10, 96))
    write_geotiff(folder / "coarse.tif", plane(500_000 - 60 + off_m, 4_800_000 + 60, 20, 56), gsd=20, left=499_940 + off_m, top=4_800_060)
    write_scenes_yaml(folder, scene(sensor="landsat7_l1", bands={"B3": "fine.tif", "B4": "coarse.tif"}))
    layout = one_slot("landsat7_l1", ("B3", "B4"), gsd_m=15.0, pixels=16, resample="bilinear")
    dataset, _ = ingest(folder, layout)
    found = np.concatenate([record["pixels_0"][2:-2, 2:-2].reshape(-1, 2) for record in records(dataset, "landsat7_l1")])
    assert len(found) > 1000
    assert abs(found[:, 0] - found[:, 1]).max() < 0.15  # a shift by half a pixel of 10 m would be 0.5 or 1


def test_degrees_are_laid_out_in_the_utm_zone_of_the_scene(tmp_path):
    folder = tmp_path / "scenes"
    write_geotiff(folder / "dem.tif", _smooth(128), crs="EPSG:4326", left=2.99, top=-33.0, gsd=1e-4)
    dataset, summary = ingest(write_scenes_yaml(folder, scene()))
    assert {record["crs"].decode() for record in records(dataset, summary["layouts"][0]["name"])} == {"EPSG:32731"}
    (row,) = manifest(dataset, "scene")
    assert (row["crs"], row["bands"]["elevation"]["gsd_m"]) == ("EPSG:4326", None)
    assert pathlib.Path(row["bands"]["elevation"]["file"]).name == "dem.tif"

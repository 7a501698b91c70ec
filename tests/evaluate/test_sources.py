"""Samples from every source: values, targets and places compared with the arrays that the files were written from."""

import pathlib

import geopandas
import numpy as np
import pytest
import shapely

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")
pytest.importorskip("sklearn", reason="the extra that evaluates is not installed")

from rasterio import warp

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.samples.samples import NO_LABEL, Samples
from rsfm_jax.evaluate.samples.sources import read_samples
from rsfm_jax.evaluate.tasks.task import read_task
from tests.evaluate.small_scene import (
    CLASSES,
    FIELD,
    GSD_M,
    LEFT,
    NODATA_ROWS,
    SIDE,
    TOP,
    image,
    points,
    write_labels,
    write_scene,
    write_task,
)
from tests.helpers import write_geotiff

KEYS = list(CLASSES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    made = tmp_path_factory.mktemp("scene")
    write_labels(made, write_scene(made))
    return made


@pytest.fixture
def read(folder, tmp_path):
    return lambda **changes: read_samples(read_task(write_task(tmp_path, **changes)), folder, tmp_path / "task.yaml")


def rows_columns(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    ground = samples.chips.ground
    assert ground is not None
    return ((TOP - ground.y_m) / GSD_M - 0.5).round().astype(int), ((ground.x_m - LEFT) / GSD_M - 0.5).round().astype(int)


def assert_chips_are_the_file(samples: Samples, folder: pathlib.Path, side: int, name: str = "image") -> None:
    """Every chip equals the file's digital numbers times 1e-4, around the place it is said to be of."""
    import rasterio

    with rasterio.open(folder / f"{name}.tif") as dataset:
        dn = dataset.read()
    before, chips = samples.chips.before, samples.chips
    for i, (row, column) in enumerate(zip(*rows_columns(samples), strict=True)):
        window = dn[:, row - before : row - before + side, column - before : column - before + side]
        np.testing.assert_allclose(chips.values[i], window * 1e-4, atol=1e-6)
        np.testing.assert_array_equal(chips.valid[i], window != 0)


def test_pixels_of_polygons(read, folder):
    samples = read()
    assert_chips_are_the_file(samples, folder, 8)
    rows, columns = rows_columns(samples)
    fields = write_scene_map(folder)
    np.testing.assert_array_equal(np.array(KEYS)[samples.targets], fields[rows, columns])
    assert samples.names == tuple(CLASSES.values())
    polygon = rows // FIELD * (SIDE // FIELD) + columns // FIELD
    inside = [(rows % FIELD >= 2) & (rows % FIELD < 10), (columns % FIELD >= 2) & (columns % FIELD < 10)]
    assert np.all(inside)  # the polygons have a margin of 2 pixels
    assert len(np.unique(np.stack([polygon, samples.groups]), axis=1).T) == len(np.unique(polygon))  # one group a polygon
    assert np.bincount(samples.groups).max() == 6
    dropped = samples.dropped
    assert dropped["not drawn"] == 64 * (64 - 6)
    assert dropped["nodata at the pixel"] > 0
    assert sum(dropped.values()) + len(samples) == 64 * 64


def write_scene_map(folder: pathlib.Path) -> np.ndarray:
    import rasterio

    with rasterio.open(folder / "labels.tif") as dataset:
        return dataset.read(1)


def test_pixels_of_a_raster_and_what_the_encoder_is_told(read, folder):
    samples = read(source={"labels": [{"kind": "raster", "file": "labels.tif"}], "most_per_shape": None, "most": 50, "draw_seed": 3})
    assert len(samples) + samples.dropped["nodata at the pixel"] == 50
    rows, columns = rows_columns(samples)
    np.testing.assert_array_equal(np.array(KEYS)[samples.targets], write_scene_map(folder)[rows, columns])
    again = read(source={"labels": [{"kind": "raster", "file": "labels.tif"}], "most_per_shape": None, "most": 50, "draw_seed": 4})
    assert not np.array_equal(rows_columns(again)[0], rows)
    ground, chips = samples.chips.ground, samples.chips
    assert ground is not None
    west, north = LEFT + GSD_M * (columns[0] - 5), TOP - GSD_M * (rows[0] - 5)
    xs, ys = warp.transform("EPSG:32631", "EPSG:4326", [west, west + 80, west + 80, west], [north, north, north - 80, north - 80])[:2]
    np.testing.assert_allclose(ground.footprint_deg[0], np.stack([xs, ys], axis=1), atol=1e-9)
    np.testing.assert_array_equal(chips.time[0], [1, 2020, 152])
    assert (chips.inputs[0].sensor, chips.inputs[0].gsd_m) == ("sentinel2_l2a", 10.0)
    blocks = (rows // 8) * 100 + columns // 8  # the grid of blocks starts at multiples of 80 m, as the image does
    assert len(np.unique(np.stack([blocks, samples.groups]), axis=1).T) == len(np.unique(blocks)) == len(np.unique(samples.groups))


def test_points_of_a_shapefile_and_of_a_table_agree(read, folder):
    labels = [{"kind": "vector", "file": "points.shp", "attribute": "crop"}]
    shapes = read(source={"labels": labels, "at": "points", "most_per_shape": None})
    assert_chips_are_the_file(shapes, folder, 8)
    for source in (points(before_px=5), points(before_px=5, x="x", y="y", crs="EPSG:32631")):
        table = read(source=source | {"groups": ["half"]})
        np.testing.assert_array_equal(table.targets, shapes.targets)
        np.testing.assert_array_equal(table.chips.values, shapes.chips.values)
        _, columns = rows_columns(table)
        np.testing.assert_array_equal(table.columns["half"], np.where(columns < SIDE // 2, "west", "east"))
    assert len(shapes) + sum(shapes.dropped.values()) == 64


def test_quantities_and_labels_of_a_table(read):
    heights = read(kind="regression", classes=None, source=points(target=["height"]))
    classes = read(source=points())
    np.testing.assert_allclose(heights.targets, np.array(KEYS)[classes.targets] * 1.5)
    several = read(kind="multilabel", classes=None, source=points(target=["wheat", "water"]))
    np.testing.assert_array_equal(several.targets, np.stack([classes.targets == 0, classes.targets == 1], axis=1))
    assert several.names == ("wheat", "water")


def test_a_lattice_of_label_maps(read, folder):
    source = {"labels": [{"kind": "raster", "file": "labels.tif"}], "most_per_shape": None, "at": "grid", "stride_px": 8, "before_px": None}
    samples = read(kind="segmentation", source=source)
    assert_chips_are_the_file(samples, folder, 8)
    fields, (rows, columns) = write_scene_map(folder), rows_columns(samples)
    assert len(samples) == (SIDE // 8 - 1) * (SIDE // 8)  # the row of chips without an observation is left out
    assert samples.dropped["less than 50% observed"] == SIDE // 8
    for i, (row, column) in enumerate(zip(rows, columns, strict=True)):
        window = fields[row - 4 : row + 4, column - 4 : column + 4]
        np.testing.assert_array_equal(np.array(KEYS)[samples.targets[i]], window)


def test_shapes_as_label_maps(read, folder, tmp_path):
    labels = [{"kind": "vector", "file": "polygons.gpkg", "value": "crop", "background": "none"}]
    source = {"labels": labels, "most_per_shape": None, "at": "grid", "stride_px": 12, "window_px": 12, "before_px": None}
    samples = read(kind="segmentation", classes={"none": "background", "crop": "crop"}, source=source)
    inside = np.zeros((12, 12), np.int64)
    inside[2:10, 2:10] = 1
    rows, _ = rows_columns(samples)
    for i, row in enumerate(rows):
        seen = np.arange(row - 6, row + 6)[:, None] >= NODATA_ROWS
        np.testing.assert_array_equal(samples.targets[i], np.where(seen, inside, NO_LABEL))
    (folder / "boxes.csv").write_text("image_path,xmin,ymin,xmax,ymax\nimage.tif,14,14,22,22\nother.tif,0,0,9,9\n")
    boxes = [labels[0] | {"kind": "boxes", "file": "boxes.csv"}]
    sampled = read(kind="segmentation", classes={"none": "background", "crop": "crop"}, source=source | {"labels": boxes})
    assert sampled.counts()["crop"] == 64


def test_bands_on_another_grid_are_resampled_only_if_stated(read, folder):
    coarse = np.arange(48 * 48, dtype=np.uint16).reshape(48, 48) + 1
    write_geotiff(folder / "b11.tif", coarse, crs="EPSG:32631", left=LEFT, top=TOP, gsd=20.0)
    entry = image(bands={"B08": {"file": "image.tif", "index": 4}, "B11": "b11.tif"})
    source = points(images=[entry])
    with pytest.raises(InputError, match="bands B11 are on another grid than the first; leave them out, or state resample: bilinear"):
        read(source=source)
    samples = read(source=source | {"resample": "nearest"})
    rows, columns = rows_columns(samples)
    np.testing.assert_allclose(samples.chips.values[:, 1, 4, 4], coarse[rows // 2, columns // 2] * 1e-4, atol=1e-6)


def test_several_images_have_columns(folder, tmp_path):
    write_labels(tmp_path, write_scene(tmp_path, "summer"))
    write_scene(tmp_path, "winter", brighter=-1)
    columns = {"season": {"summer": "summer", "winter": "winter"}}
    source = points(images=[image("summer"), image("winter")], columns=columns)
    samples = read_samples(read_task(write_task(tmp_path, source=source)), tmp_path, tmp_path / "task.yaml")
    assert sorted(np.unique(samples.columns["season"])) == ["summer", "winter"]
    np.testing.assert_array_equal(samples.columns["season"], samples.columns["scene"])
    half = len(samples) // 2
    np.testing.assert_array_equal(samples.targets[:half], samples.targets[half:])  # each point is in both
    bad = source | {"columns": {"season": {"summer": 1, "wintr": 2}}}
    with pytest.raises(InputError, match="columns: season: there is no image 'wintr'; did you mean 'winter'"):
        read_samples(read_task(write_task(tmp_path, source=bad)), tmp_path, tmp_path / "task.yaml")


def test_a_label_file_in_another_system_must_be_accounted_for(read, folder):
    frame = geopandas.read_file(folder / "polygons.gpkg")
    frame.set_crs("EPSG:32632", allow_override=True).to_file(folder / "wrong_tag.gpkg")
    frame.to_crs("EPSG:4326").to_file(folder / "degrees.gpkg")
    right = read()

    def labelled(**fields) -> Samples:
        return read(source={"labels": [{"kind": "vector", "attribute": "crop"} | fields]})

    for name in ("wrong_tag", "degrees"):
        with pytest.raises(
            InputError, match=rf"{name}\.gpkg is in EPSG:\d+ and the image 'image' in EPSG:32631; state crs: .* or reproject"
        ):
            labelled(file=f"{name}.gpkg")
    for samples in (labelled(file="wrong_tag.gpkg", crs="EPSG:32631"), labelled(file="degrees.gpkg", reproject=True)):
        np.testing.assert_array_equal(samples.targets, right.targets)
        np.testing.assert_array_equal(samples.chips.values, right.chips.values)
    with pytest.raises(InputError, match="no sample is left"):
        labelled(file="wrong_tag.gpkg", reproject=True)  # takes the wrong tag for right: six degrees east
    write_geotiff(folder / "tagged.tif", write_scene_map(folder), crs="EPSG:32632", left=LEFT, top=TOP, gsd=GSD_M)
    raster = {"kind": "raster", "file": "tagged.tif"}
    with pytest.raises(InputError, match="state crs"):
        read(source={"labels": [raster], "most_per_shape": None})
    assert len(read(source={"labels": [raster | {"crs": "EPSG:32631"}], "most_per_shape": None, "most": 20})) > 0
    with pytest.raises(InputError, match="is not on the grid of image 'image'; warp it there"):
        read(source={"labels": [raster | {"reproject": True}], "most_per_shape": None})


WRONG = {
    "unit": ({"source": points(images=[image(scale=1.0, offset=0.0)])}, "are outside \\[-0.2, 2\\] reflectance"),
    "missing band": ({"source": points(images=[image(bands={"B99": "image.tif"})])}, "has no band 'B99'.*did you mean"),
    "band number": ({"source": points(images=[image(bands={"B08": {"file": "image.tif", "index": 9}})])}, "index 9 does not exist"),
    "sensor": ({"source": points(images=[image(sensor="sentinel2_l2b")])}, "sensor 'sentinel2_l2b' is not in the registry"),
    "scene field": ({"source": points(images=[image(aquired=1)])}, "unknown field 'aquired'"),
    "no offset": ({"source": points(images=[image(baseline_offset_dn=None)])}, "must state its baseline offset"),
    "image twice": ({"source": points(images=[image(), image()])}, "id 'image' is used twice"),
    "folder": ({"source": points(images="nowhere")}, "is no folder with a scenes.yaml in it"),
    "label file": ({"source": points(file="pionts.csv")}, "pionts.csv does not exist; did you mean 'points.csv'.*--data_root"),
    "column": ({"source": points(target=["corp"])}, "has no column 'corp'.*did you mean 'crop'"),
    "degrees": ({"source": points(x="x", y="y")}, "expected degrees, or state their crs"),
    "system": ({"source": points(crs="EPSG:0")}, "crs 'EPSG:0' is no coordinate system"),
    "attribute": (
        {"source": {"labels": [{"kind": "vector", "file": "polygons.gpkg", "attribute": "corp"}]}},
        "has no attribute 'corp'; .*did you mean 'crop'",
    ),
    "no class": ({"classes": {1: "wheat", 2: "water"}}, "has the value 5, which is neither in classes \\(1, 2\\) nor in ignore"),
    "empty class": ({"classes": CLASSES | {9: "snow"}}, "no sample is of class snow; leave it out of classes"),
    "two entries": (
        {"source": {"labels": 2 * [{"kind": "raster", "file": "labels.tif"}]}},
        "2 entries are for image 'image'; expected one",
    ),
    "no polygons": ({"source": {"labels": [{"kind": "vector", "file": "points.shp", "attribute": "crop"}]}}, "shapes are no polygons"),
    "text": ({"kind": "regression", "classes": None, "source": points(target=["half"])}, "targets are no numbers"),
    "not 0 or 1": ({"kind": "multilabel", "classes": None, "source": points(target=["crop", "wheat"])}, "expected 0 or 1"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_bad_input_is_named(read, changes, message):
    with pytest.raises(InputError, match=message):
        read(**changes)


def test_ignored_values_and_degrees(read, folder):
    samples = read(classes={1: "wheat", 2: "water"}, ignore=[5])
    assert samples.dropped["no label"] == 0  # of pixels, only labelled ones are asked for
    assert samples.counts().keys() == {"wheat", "water"}
    table = read(classes={1: "wheat", 2: "water"}, ignore=[5], source=points())
    assert table.dropped["no label"] == int((write_scene_map(folder)[::FIELD, ::FIELD] == 5).sum())
    write_geotiff(folder / "geographic.tif", np.ones((32, 32), np.uint16), crs="EPSG:4326", left=3.0, top=43.0, gsd=1e-4)
    entry = image(bands={"B08": "geographic.tif"})
    with pytest.raises(InputError, match=r"not in metres.*warp it to a projection such as UTM"):
        read(source=points(images=[entry]))


def test_a_polygon_between_pixels_is_counted(read, folder):
    frame = geopandas.read_file(folder / "polygons.gpkg")
    sliver = geopandas.GeoDataFrame({"crop": [1]}, geometry=[shapely.box(LEFT + 1, TOP - 802, LEFT + 3, TOP - 801)], crs=frame.crs)
    geopandas.GeoDataFrame({"crop": [*frame["crop"], 1]}, geometry=[*frame.geometry, *sliver.geometry], crs=frame.crs).to_file(
        folder / "sliver.gpkg"
    )
    samples = read(source={"labels": [{"kind": "vector", "file": "sliver.gpkg", "attribute": "crop"}]})
    assert samples.dropped["shapes that hold no pixel of the image"] == 1

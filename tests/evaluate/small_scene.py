"""A small georeferenced scene with labels of every kind, a model that knows its sensor, and task files over them."""

import copy
import datetime
import pathlib
from typing import Any

import geopandas
import numpy as np
import shapely
import yaml

from tests.helpers import write_geotiff
from tests.torch_side.small_encoder import RGBN, small_encoder

SIDE, FIELD, LEFT, TOP, GSD_M, CRS = 96, 12, 500_000.0, 4_800_000.0, 10.0, "EPSG:32631"
NODATA_ROWS = 8  # at the top
CLASSES = {1: "wheat", 2: "water", 5: "wood"}


def field_map(seed: int = 0) -> np.ndarray:
    """Values of `CLASSES`, uint8 (96, 96), in square fields of 12 pixels; every class is in every row of fields and in both halves."""
    rng = np.random.default_rng(seed)
    rows = [np.concatenate([rng.permutation([1, 2, 5, 1]), rng.permutation([1, 2, 5, 2])]) for _ in range(SIDE // FIELD)]
    return np.kron(np.array(rows), np.ones((FIELD, FIELD))).astype(np.uint8)


def write_scene(folder: pathlib.Path, name: str = "image", seed: int = 0, brighter: float = 1.0, **more: Any) -> np.ndarray:
    """Writes NAME.tif, digital numbers of Sentinel-2 whose near infrared tells the classes, with noise; returns the map."""
    fields = field_map(seed)
    rng = np.random.default_rng(seed + 100)
    dn = 2000 + rng.normal(0, 200, (4, SIDE, SIDE))
    dn[3] += np.select([fields == 1, fields == 2], [0, -1200], 1200) * brighter
    dn[0] += np.select([fields == 1, fields == 2], [800, 0], 0)
    dn[:, :NODATA_ROWS] = 0
    write_geotiff(folder / f"{name}.tif", dn.round().astype(np.uint16), crs=CRS, left=LEFT, top=TOP, gsd=GSD_M, **more)
    return fields


def write_labels(folder: pathlib.Path, fields: np.ndarray, crs: str = CRS) -> None:
    """Writes labels.tif, polygons.gpkg (a polygon of 8 pixels a side in each field), points.shp and points.csv (near their centres)."""
    write_geotiff(folder / "labels.tif", fields, crs=crs, left=LEFT, top=TOP, gsd=GSD_M)
    at = np.array([(r, c) for r in range(0, SIDE, FIELD) for c in range(0, SIDE, FIELD)])
    values = fields[at[:, 0], at[:, 1]]
    west, north = LEFT + GSD_M * (at[:, 1] + 2), TOP - GSD_M * (at[:, 0] + 2)
    boxes = [shapely.box(x, y - 80, x + 80, y) for x, y in zip(west, north, strict=True)]
    geopandas.GeoDataFrame({"crop": values}, geometry=boxes, crs=crs).to_file(folder / "polygons.gpkg")
    points = geopandas.GeoDataFrame(
        {"crop": values}, geometry=[shapely.Point(x + 43, y - 37) for x, y in zip(west, north, strict=True)], crs=crs
    )
    points.to_file(folder / "points.shp")
    degrees = points.to_crs("EPSG:4326")
    table = degrees.drop(columns="geometry").assign(
        lon=degrees.geometry.x, lat=degrees.geometry.y, x=points.geometry.x, y=points.geometry.y
    )
    table = table.assign(height=values * 1.5, half=np.where(at[:, 1] < SIDE // 2, "west", "east"))
    for value, name in CLASSES.items():
        table[name] = (values == value).astype(int)
    table.to_csv(folder / "points.csv", index=False)


def image(name: str = "image", **fields: Any) -> dict[str, Any]:
    """An entry of `images`."""
    bands = {band: {"file": f"{name}.tif", "index": i + 1} for i, band in enumerate(RGBN)}
    return {
        "id": name,
        "sensor": "sentinel2_l2a",
        "acquired_utc": datetime.date(2020, 6, 1),
        "baseline_offset_dn": 0,
        "bands": bands,
    } | fields


TASK: dict[str, Any] = {
    "name": "fields",
    "kind": "classification",
    "classes": CLASSES,
    "source": {
        "kind": "rasters",
        "images": [image()],
        "labels": [{"kind": "vector", "file": "polygons.gpkg", "attribute": "crop"}],
        "window_px": 8,
        "before_px": 5,
        "at": "pixels",
        "most_per_shape": 6,
    },
    "split": {"kind": "spatial", "axis": "x", "gap_m": 80},
    "probes": ["linear"],
    "seeds": [0, 1],
}


def task(**changes: Any) -> dict[str, Any]:
    """`TASK` with other entries; those of a mapping are merged, and None takes an entry out."""
    made = copy.deepcopy(TASK)
    for key, value in changes.items():
        if key == "source" and isinstance(value, dict) and "kind" not in value:
            value = {name: entry for name, entry in (made[key] | value).items() if entry is not None}
        made[key] = value
    return {key: value for key, value in made.items() if value is not None}


def write_task(folder: pathlib.Path, **changes: Any) -> pathlib.Path:
    """Writes task.yaml and returns it."""
    file = folder / "task.yaml"
    file.write_text(yaml.safe_dump(task(**changes), sort_keys=False))
    return file


def points(**fields: Any) -> dict[str, Any]:
    """A source of kind points."""
    return {"kind": "points", "images": [image()], "file": "points.csv", "target": ["crop"], "window_px": 8} | fields


def write_model(folder: pathlib.Path) -> pathlib.Path:
    """The small encoder as an exported folder."""
    small_encoder().save_folder(folder)
    return folder

"""A scene written to disk and an encoder's folder, for the tests of whole-scene outputs."""

import pathlib

import numpy as np

from benchmarks.embed import write_model
from rsfm_jax.evaluate.scenes.reading import SceneInput
from tests.helpers import write_geotiff

SENSOR, BANDS, PATCH, WIDTH = "sentinel2_l3a", ("B02", "B03", "B04", "B08"), 4, 16
LEFT, TOP, GSD = 300_000.0, 4_200_000.0, 10.0
NODATA = -10_000


def make_model(folder: pathlib.Path, pixels: int = 16) -> pathlib.Path:
    """A small encoder's folder."""
    return write_model(folder, SENSOR, BANDS, WIDTH, 2, PATCH, pixels)


def digital_numbers(height: int, width: int, border: int = 0) -> np.ndarray:
    """int16 (4, height, width), smooth with noise; a border of nodata on the left, and a hole in one band."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    bands = [1500 + 600 * np.sin(y / (9 + b)) + 400 * np.cos(x / (7 + b)) + 100 * rng.standard_normal((height, width)) for b in range(4)]
    dn = np.stack(bands).astype(np.int16)
    dn[:, :, :border] = NODATA
    dn[0, height // 2 : height // 2 + 6, width // 2 : width // 2 + 6] = NODATA
    return dn


def make_scene(folder: pathlib.Path, height: int, width: int, border: int = 0, **more) -> SceneInput:
    """A scene of one file in EPSG:32618."""
    dn = digital_numbers(height, width, border)
    path = write_geotiff(folder / "scene.tif", dn, crs="EPSG:32618", left=LEFT, top=TOP, gsd=GSD, nodata=NODATA)
    return SceneInput(SENSOR, {name: (path, i) for i, name in enumerate(BANDS, start=1)}, **more)


def physical(dn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reflectance float32, zero where not valid, and valid: the sensor's scale, by hand."""
    valid = dn != NODATA
    return np.where(valid, dn * 1e-4, 0).astype(np.float32), valid

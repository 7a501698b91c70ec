"""Image sets a second through the input pipeline on one core, against reading and decompressing the same records alone.

    python benchmarks/data_pipeline.py
    python benchmarks/data_pipeline.py --data=FOLDER       # s2_B02.tif, s2_B03.tif, s2_B04.tif and s2_B08.tif of one scene, 10 m, uint16

The dataset is made here by rsfm_jax.ingest: sets of 3 x 224 x 224 x 4 uint16, chips of a real Sentinel-2 scene (--data, or the crop in
examples/scenes/virginia) with overlap. The three dates are the scene, the scene mirrored and the scene upside down, so a set repeats
nothing and its records compress as real ones do: each record is compressed alone.

One process on one core. Each round reads the same records in the same order twice: alone, through array_record's own data source, and
as `rsfm_jax.data.stream.BatchStream` does, with one thread. Both are taken in seconds of the core, which other work on the machine
lengthens little, and files are in the page cache. A stream's round begins and ends with its prefetched batches ready, so all of its work
is in it. The last line is JSON; the exit code is 3 below --least of the raw rate.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordReader
import numpy as np
import rasterio
import yaml

from rsfm_jax.config import DataConfig, IngestConfig
from rsfm_jax.data.dataset import Dataset, open_dataset
from rsfm_jax.data.stream import BatchStream
from rsfm_jax.errors import InputError, exit_code
from rsfm_jax.ingest.pipeline import run_ingest
from rsfm_jax.layouts import Layout, Slot

BANDS = ("B02", "B03", "B04", "B08")
MEMBERS = 3
CHIP = 224
EXIT_TOO_SLOW = 3
EXAMPLE = pathlib.Path(__file__).resolve().parents[1] / "examples" / "scenes" / "virginia"


def make_dataset(bands: pathlib.Path, folder: pathlib.Path, pixels: int, sets: int) -> Dataset:
    """Ingests a scene and its two mirror images as three dates.

    Args:
      bands: Folder with ``s2_BAND.tif`` of each band.
      folder: An empty folder to work in.
      pixels: Height and width of the chips.
      sets: About how many sets to make.

    Returns:
      The dataset.
    """
    images, place = [], {}
    for band in BANDS:
        if not (bands / f"s2_{band}.tif").is_file():
            raise InputError(f"--data={bands}: no s2_{band}.tif there")
        with rasterio.open(bands / f"s2_{band}.tif") as file:
            images.append(file.read(1))
            place = {"crs": file.crs, "transform": file.transform}
    scene_CHW = np.stack(images)
    _, height, width = scene_CHW.shape
    scenes = []
    for number, date_CHW in enumerate((scene_CHW, scene_CHW[:, :, ::-1], scene_CHW[:, ::-1])):
        shape = {"count": len(BANDS), "height": height, "width": width, "dtype": scene_CHW.dtype}
        with rasterio.open(folder / f"{number}.tif", "w", driver="GTiff", **shape, **place) as file:
            file.write(date_CHW)
        files = {band: {"file": f"{number}.tif", "index": i + 1} for i, band in enumerate(BANDS)}
        date = {"id": f"date{number}", "sensor": "sentinel2_l1c", "acquired_utc": f"2020-0{number + 1}-01", "baseline_offset_dn": 0}
        scenes.append(date | {"bands": files})
    (folder / "scenes.yaml").write_text(yaml.safe_dump({"scenes": scenes}))
    gsd_m = float(place["transform"].a)
    steps = max(int(sets**0.5) - 1, 1)
    stride_m = gsd_m * max((min(height, width) - pixels) // steps, 1)
    slots = tuple(Slot("sentinel2_l1c", BANDS, gsd_m, pixels=pixels, patch=pixels // 4) for _ in range(MEMBERS))
    run_ingest(folder, folder / "dataset", IngestConfig(layouts=(Layout("three", slots, stride_m=stride_m),)))
    return open_dataset(str(folder / "dataset"))


def _settle() -> None:
    """Waits until the reading threads have nothing left to do."""
    quiet = 0
    while quiet < 3:
        before = time.process_time()
        time.sleep(0.02)
        quiet = quiet + 1 if time.process_time() - before < 1e-3 else 0


def measure(dataset: Dataset, batch: int, batches: int, rounds: int) -> dict[str, Any]:
    """Times both in turn.

    Args:
      dataset: The dataset.
      batch: Sets in a batch.
      batches: Batches of a round.
      rounds: Rounds that count, after one that does not.

    Returns:
      Sets a second of a core of both, their ratio, and the spread of the rounds' ratios.
    """
    layout = dataset.layouts[0]
    files = sorted(pathlib.Path(dataset.path).glob("records/*/*/*/*train*array_record*"))
    alone = ArrayRecordDataSource([str(file) for file in files])
    seconds: dict[str, list[float]] = {"alone": [], "pipeline": []}
    with BatchStream(dataset, DataConfig(global_batch_size=batch, read_threads=1, prefetch_batches=1), 0, 0, 1) as stream:
        for number in range(rounds + 1):
            first = number * batches
            indices = range(first * batch, (first + batches) * batch)
            order = [stream.record_number(layout.name, index) for index in indices]
            begin = time.process_time()
            for record in order:
                alone[record]
            spent = {"alone": time.process_time() - begin}
            _settle()
            begin = time.process_time()
            for step in range(first, first + batches):
                stream.next(step)
            _settle()
            spent["pipeline"] = time.process_time() - begin
            if number:
                for name, value in spent.items():
                    seconds[name].append(value)
                print(
                    f"round {number}: " + ", ".join(f"{name} {len(order) / value:.0f} sets/s" for name, value in spent.items()), flush=True
                )
    ratios = sorted(a / b for a, b in zip(seconds["alone"], seconds["pipeline"], strict=True))
    size = sum(file.stat().st_size for file in files)
    return {
        "ratio_pipeline_over_alone": statistics.median(ratios),
        "ratios": [ratios[0], ratios[-1]],
        **{f"{name}_sets_per_core_s": batch * batches / statistics.median(values) for name, values in seconds.items()},
        "set": [MEMBERS, layout.slots[0].pixels, layout.slots[0].pixels, len(BANDS)],
        "batch": batch,
        "records": len(alone),
        "mib_per_record_on_disk": size / len(alone) / 2**20,
        "writer_options": ArrayRecordReader(str(files[0])).writer_options_string(),
    }


def run(given: argparse.Namespace) -> int:
    """Makes the dataset, measures and prints."""
    if min(given.batch, given.batches, given.rounds, given.sets) < 1 or given.pixels < 4:
        raise InputError("--batch, --batches, --rounds and --sets must be at least 1, --pixels at least 4")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        found = measure(make_dataset(given.data, pathlib.Path(folder), given.pixels, given.sets), given.batch, given.batches, given.rounds)
    low, high = found["ratios"]
    print(
        f"one core: {found['pipeline_sets_per_core_s']:.0f} sets/s through the pipeline, {found['alone_sets_per_core_s']:.0f} read and "
        f"decompressed alone: {found['ratio_pipeline_over_alone']:.1%} ({low:.1%} to {high:.1%})"
    )
    print(json.dumps(found), flush=True)
    return 0 if found["ratio_pipeline_over_alone"] >= given.least else EXIT_TOO_SLOW


def main() -> int:
    """Reads the flags and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=EXAMPLE, help="folder with s2_B02.tif and the other bands")
    parser.add_argument("--pixels", type=int, default=CHIP, help="height and width of a chip")
    parser.add_argument("--sets", type=int, default=256, help="about how many image sets to make")
    parser.add_argument("--batch", type=int, default=32, help="image sets in a batch")
    parser.add_argument("--batches", type=int, default=6, help="batches of a round")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count")
    parser.add_argument("--least", type=float, default=0.6, help="share of the raw rate below which the exit code is 3")
    given = parser.parse_args()
    return exit_code(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())

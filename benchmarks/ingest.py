"""Ingest against the bare reading of the same windows: chips a second on one core and on two, and memory over ten times the scenes.

    python benchmarks/ingest.py --work=runs/ingest [--scenes 8] [--rounds 3]

The scenes are made of the Sentinel-2 crop of examples/scenes: 1,792 x 1,792 pixels at 10 m, each shifted its own way, four bands in
files of their own, in tiles of 512: GeoTIFF, deflate with predictor 2, or with --format=jp2 lossless JPEG 2000, as ESA delivers them.
A set is one chip of 224 pixels and four bands, without overlap. "bare" opens each file once and reads the windows with rasterio, in the
order ingest reads them, and does nothing with them. Ingest makes the whole dataset: it opens and plans, reads, masks, measures, digests,
compresses and writes. Each run is a process of its own; the time is that of the work, without imports. "bare" and one worker are held to
one core. In a round every kind runs once, so that all share what else the machine does. The last line is JSON.
"""

import argparse
from collections.abc import Sequence
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import rasterio
import yaml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.front_doors import ROOT
from rsfm_jax.config import IngestConfig
from rsfm_jax.errors import InputError, exit_code
from rsfm_jax.ingest.pipeline import How, run_ingest
from rsfm_jax.ingest.raster import pixels_window
from rsfm_jax.ingest.tasks import beam_arguments
from rsfm_jax.layouts import Layout, Slot

BANDS, SIDE, CHIP, GSD_M = ("B02", "B03", "B04", "B08"), 1792, 224, 10.0
TIMES = 10  # as many scenes, for the memory
RUNS = {"bare": 0, "one worker": 1, "two workers": 2}
FORMATS: dict[str, dict[str, Any]] = {
    "tif": {"driver": "GTiff", "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "predictor": 2},
    "jp2": {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES", "BLOCKXSIZE": 512, "BLOCKYSIZE": 512},
}


def write_scenes(folder: pathlib.Path, count: int, kind: str) -> pathlib.Path:
    """Writes scenes side by side and their scenes.yaml, where they are not there yet."""
    if (folder / "scenes.yaml").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    planes = []
    for name in BANDS:
        with rasterio.open(ROOT / "examples" / "scenes" / "virginia" / f"s2_{name}.tif") as dataset:
            planes.append(dataset.read(1))
    crop = np.pad(np.stack(planes), ((0, 0), (0, 600), (0, 600)), "symmetric")
    crop = np.tile(crop, (1, 2, 2))[:, :SIDE, :SIDE]
    described = []
    for i in range(count):
        image = np.roll(crop, (37 * i, 53 * i), axis=(1, 2))
        grid = rasterio.Affine(GSD_M, 0, 300_000 + SIDE * GSD_M * (i % 20), 0, -GSD_M, 4_200_000 - SIDE * GSD_M * (i // 20))
        profile: dict[str, Any] = {"count": 1, "height": SIDE, "width": SIDE, "dtype": "uint16", "crs": "EPSG:32618", "transform": grid}
        for name, plane in zip(BANDS, image, strict=True):
            with rasterio.open(folder / f"s{i:04d}_{name}.{kind}", "w", **profile, **FORMATS[kind]) as dataset:
                dataset.write(plane, 1)
        entry = {"id": f"s{i:04d}", "sensor": "sentinel2_l1c", "acquired_utc": "2020-06-01", "baseline_offset_dn": 0}
        described.append(entry | {"bands": {name: f"s{i:04d}_{name}.{kind}" for name in BANDS}})
    (folder / "scenes.yaml").write_text(yaml.safe_dump({"scenes": described}, sort_keys=False))
    return folder


def read_bare(folder: pathlib.Path) -> int:
    """Reads every window of every band; returns the number of chips."""
    chips = 0
    for entry in yaml.safe_load((folder / "scenes.yaml").read_text())["scenes"]:
        datasets = [rasterio.open(folder / file) for file in entry["bands"].values()]
        for row in range(0, SIDE - CHIP + 1, CHIP):
            for column in range(0, SIDE - CHIP + 1, CHIP):
                for dataset in datasets:
                    dataset.read(1, window=pixels_window(column, row, CHIP, CHIP))
                chips += 1
        for dataset in datasets:
            dataset.close()
    return chips


def run_once(folder: pathlib.Path, workers: int, out: pathlib.Path) -> None:
    """One run; prints chips and seconds as JSON."""
    if workers < 2:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    started = time.perf_counter()
    if workers:
        slot = Slot("sentinel2_l1c", BANDS, GSD_M, CHIP, 16)
        config = IngestConfig(layouts=(Layout("chips", (slot,), stride_m=CHIP * GSD_M),), shard_mib=64)
        summary = run_ingest(folder, out, config, How(beam_args=beam_arguments(workers, [])))
        chips = summary["sets"]["chips"]["train"]
    else:
        chips = read_bare(folder)
    print(json.dumps({"chips": chips, "seconds": time.perf_counter() - started}))


def measured(folder: pathlib.Path, workers: int, out: pathlib.Path) -> dict[str, Any]:
    """Runs this file as a process of its own: ``chips``, ``seconds`` and ``peak_mb``, resident memory of that process alone."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, __file__, "--run", str(folder), str(workers), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise InputError(f"{' '.join(command)}: ended with {process.returncode}")
    return json.loads(printed) | {"peak_mb": usage.ru_maxrss / 1024}


def report(work: pathlib.Path, scenes: int, rounds: int, kind: str) -> None:
    """Writes the scenes, runs the rounds, prints the tables."""
    few, many = (write_scenes(work / f"{kind}_{count}", count, kind) for count in (scenes, TIMES * scenes))
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in RUNS}
    for _ in range(rounds):
        for name, workers in RUNS.items():
            runs[name].append(measured(many, workers, work / "out"))
    chips = {run["chips"] for of_kind in runs.values() for run in of_kind}
    if chips != {TIMES * scenes * (SIDE // CHIP) ** 2}:
        raise InputError(f"the runs made {sorted(chips)} chips")
    rates = {name: [run["chips"] / run["seconds"] for run in of_kind] for name, of_kind in runs.items()}
    ratios = {
        "one worker / bare": [one / bare for one, bare in zip(rates["one worker"], rates["bare"], strict=True)],
        "two workers / one": [two / one for two, one in zip(rates["two workers"], rates["one worker"], strict=True)],
    }
    peaks = {count: measured(folder, 1, work / "out")["peak_mb"] for count, folder in ((scenes, few), (TIMES * scenes, many))}
    shutil.rmtree(work / "out")
    print(f"{'':<20} {'median':>8} {'lowest':>8} {'highest':>8}")
    for name, values in (rates | ratios).items():
        print(f"{name:<20} {statistics.median(values):>8.2f} {min(values):>8.2f} {max(values):>8.2f}")
    print("rates are chips a second; " + ", ".join(f"{count} scenes: {peak:,.0f} MB" for count, peak in peaks.items()))
    medians = {name: statistics.median(values) for name, values in (rates | ratios).items()}
    print(json.dumps({"chips": chips.pop(), "medians": medians, "rounds": rates | ratios, "peak_mb": peaks}))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "runs" / "ingest", help="folder for scenes and outputs")
    parser.add_argument("--scenes", type=int, default=8, help="scenes of the smaller set")
    parser.add_argument("--rounds", type=int, default=3, help="of all kinds of runs")
    parser.add_argument("--format", choices=sorted(FORMATS), default="tif", help="of the scenes' files")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.run:
        folder, workers, out = given.run
        return exit_code(lambda: run_once(pathlib.Path(folder), int(workers), pathlib.Path(out)))
    return exit_code(lambda: report(given.work.resolve(), given.scenes, given.rounds, given.format))


if __name__ == "__main__":
    sys.exit(main())

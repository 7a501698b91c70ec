"""Time and memory of the join of footprints in space and time, and of planning, from ten thousand footprints to a million.

    python -m benchmarks.join
    python -m benchmarks.join --sizes=10000,100000 --plan

Footprints of 5.12 km lie at random in UTM zones, eight over a point, a fifth of them at a zone's border where those of the next zone are
looked at too, at random times of six years; more footprints are more zones, up to all sixty. Every footprint asks which others meet its
ground within 30 days. With ``--plan`` the same footprints are open scenes of one band and `rsfm_jax.ingest.sets.plan_sets` makes every
image set of two dates within 30 days, split included. Each size runs in a process of its own, which reports its peak resident memory;
``cpu_s`` is what it worked, ``seconds`` what it took beside the machine's other load. The last line is JSON.
"""

import datetime
import json
import math
import os
import pathlib
import resource
import subprocess
import sys
import time

from absl import app, flags
import numpy as np
import rasterio
from rasterio.crs import CRS

from rsfm_jax.config import IngestConfig
from rsfm_jax.ingest.footprints import Footprints, Systems
from rsfm_jax.ingest.join import Join, Queries
from rsfm_jax.ingest.raster import BandRaster, OpenScene
from rsfm_jax.ingest.scenes import BandSource, Scene
from rsfm_jax.ingest.sets import plan_sets
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.sensors import get_sensor

_SIZES = flags.DEFINE_list("sizes", ["10000", "100000", "1000000"], "numbers of footprints")
_PLAN = flags.DEFINE_bool("plan", False, "plan image sets of open scenes too, not only join")
_ONE = flags.DEFINE_string("one", "", "join or plan: measure one size in this process")

SIDE_M = 5120.0
DEPTH = 8.0  # footprints over a point, on average
DAYS = 30.0
SPAN_DAYS = 6 * 365
DAY_US = 86_400_000_000
MOST_IN_ZONE = 17_000


def made_footprints(count: int, seed: int = 0) -> tuple[Footprints, np.ndarray]:
    """Random footprints and their times in microseconds, int64 (count,)."""
    rng = np.random.default_rng(seed)
    systems = Systems()
    zones = min(60, max(2, count // MOST_IN_ZONE))
    for number in range(zones):
        systems.number(CRS.from_epsg(32601 + number))
    zone = rng.integers(0, zones, count)
    height_m = count / zones * SIDE_M**2 / DEPTH / 300_000.0  # of the strip of each zone, 300 km wide at 60 degrees
    left = np.where(rng.random(count) < 0.2, rng.uniform(640_000, 680_000, count), rng.uniform(340_000, 640_000, count))
    bottom = 6_650_000.0 - height_m / 2 + rng.uniform(0, height_m, count)
    bounds = np.round(np.column_stack([left, bottom, left, bottom]) / 10) * 10 + [0, 0, SIDE_M, SIDE_M]
    return Footprints(systems, zone, bounds), (rng.uniform(0, SPAN_DAYS, count) * DAY_US).astype(np.int64)


def measure_join(count: int) -> dict[str, float]:
    """Joins and counts."""
    prints, times_us = made_footprints(count)
    started, cpu_s = time.perf_counter(), time.process_time()
    reach_us = round(DAYS * DAY_US)
    queries = Queries(prints, prints.system, prints.bounds, np.column_stack([times_us - reach_us, times_us + reach_us]))
    join = Join(prints, queries, edge_m=10.0, across=True, times_us=times_us)
    built = time.perf_counter()
    pairs = sum(len(found) for found in join) - count
    return {"pairs": pairs, "build_s": built - started, "seconds": time.perf_counter() - started, "cpu_s": time.process_time() - cpu_s}


def made_scenes(count: int) -> list[OpenScene]:
    """The footprints as open scenes of one band of 10 m."""
    prints, times_us = made_footprints(count)
    sensor = get_sensor("sentinel2_l2a")
    source = BandSource(sensor.band("B04"), "none.tif", 1, None, None, None)
    pixels = round(SIDE_M / 10)
    scenes = []
    for i, (system, (left, _, _, top)) in enumerate(zip(prints.system.tolist(), prints.bounds.tolist(), strict=True)):
        date = times_us[i].astype("datetime64[us]").item().replace(tzinfo=datetime.UTC)
        scene = Scene(f"s{i}", sensor, date, {"B04": source}, None, 0.0, pathlib.Path(source.path))
        grid = rasterio.Affine(10, 0, left, 0, -10, top)
        band = BandRaster(source, 1, "uint16", pixels, pixels, grid, 1e-4, 0.0, 0.0, "sensor")
        scenes.append(OpenScene(scene, prints.systems.known[system], {"B04": band}, True, prints.systems.known[system]))
    return scenes


def measure_plan(count: int) -> dict[str, float]:
    """Plans and counts."""
    scenes = made_scenes(count)
    made_gb = _peak_gb()
    started, cpu_s = time.perf_counter(), time.process_time()
    date = Slot("sentinel2_l2a", ("B04",), 10.0, 256, 16, resample="bilinear")
    plans = plan_sets(Layout("pairs", (date, date), max_days=DAYS, stride_m=SIDE_M / 2), scenes, IngestConfig(val_share=0.1))
    sets = sum(1 for _ in plans)
    return {"sets": sets, "scenes_gb": made_gb, "seconds": time.perf_counter() - started, "cpu_s": time.process_time() - cpu_s}


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main(argv: list[str]) -> None:
    """Measures each size in a process of its own and prints a line for each."""
    del argv
    if _ONE.value:
        measure = {"join": measure_join, "plan": measure_plan}[_ONE.value]
        (count,) = map(int, _SIZES.value)
        row = {"what": _ONE.value, "footprints": count} | measure(count)
        print(json.dumps(row | {"peak_gb": _peak_gb(), "load": os.getloadavg()[0]}))
        return
    rows = []
    for what in ("join", "plan") if _PLAN.value else ("join",):
        for size in _SIZES.value:
            words = [sys.executable, "-m", "benchmarks.join", f"--one={what}", f"--sizes={size}"]
            done = subprocess.run(words, check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print("  ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in rows[-1].items()))
    growth = {}
    for what in {row["what"] for row in rows}:
        of = [row for row in rows if row["what"] == what]
        if len(of) > 1:
            factor = math.log(of[-1]["footprints"] / of[0]["footprints"])
            growth[what] = round(math.log(of[-1]["cpu_s"] / of[0]["cpu_s"]) / factor, 3)
            print(f"{what}: processor seconds go with the footprints to the power of {growth[what]}")
    print(json.dumps({"rows": rows, "growth": growth}))


if __name__ == "__main__":
    app.run(main)

"""A scene of 10,000 x 10,000 pixels and ten bands through a small encoder: peak memory, time, and what a kill in the middle costs.

    python benchmarks/embed.py --work=runs/embed [--side 10000] [--width 64] [--kinds embedding chips map]

The scene is the Sentinel-2 crop of examples/scenes laid side by side; the encoder is small and untrained. Each run is a process of its own.
The embedding is killed (SIGKILL) when half its rows of windows are done and started again; then the upper rows of the scene, a file of
their own, go through without interruption, and the rows that both have in common must be equal bit by bit. Exit code 1 where they are not.

The last line is JSON.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window
from safetensors.torch import save_file
import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from benchmarks.front_doors import ROOT
from rsfm_jax.errors import InputError, exit_code
from rsfm_jax.evaluate.scenes.embed import embed_chips, embed_scene, map_scene
from rsfm_jax.evaluate.scenes.reading import SceneInput
from rsfm_jax.evaluate.scenes.windows import WindowPlan
from rsfm_jax.sensors import get_sensor
from rsfm_jax.torch.modeling_rsfm import FORMAT_VERSION, RSFMEncoder

SENSOR = "sentinel2_l1c"
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
EXAMPLE = ROOT / "examples" / "scenes" / "virginia"
PATCH, CLASSES, BLOCK = 16, 8, 512
KINDS = ("embedding", "chips", "map")


def write_model(folder: pathlib.Path, sensor: str, bands: Sequence[str], width: int, depth: int, patch: int, pixels: int) -> pathlib.Path:
    """Writes an encoder with random weights as an exported folder, the same at every call.

    Args:
      folder: The folder to write.
      sensor: The only sensor it knows.
      bands: Its bands, with mean 0.15 and standard deviation 0.1.
      width: Width, a multiple of 4.
      depth: Blocks.
      patch: Patch side in pixels.
      pixels: Side of its chips in pixels.

    Returns:
      The folder.
    """
    described = [get_sensor(sensor).band(name) for name in bands]
    statistics = {"mean": 0.15, "std": 0.1}
    known = [dataclasses.asdict(band) | {"dn_scale": band.scale, "dn_offset": band.offset} | statistics for band in described]
    slot = {"key": "only", "number": 0, "sensor": sensor, "gsd_m": 10.0, "patch": patch, "pixels": pixels, "bands": known}
    date = {"kind": "season", "features": 20, "epoch_year": 2018, "year_features": 16, "season_harmonics": 2, "days_per_year": 365.25}
    encodings = {"positions": "metres", "position_unit_m": 10.0, "learned_grid": 14, "geo": "a2mae", "identity": "slot", "time": date}
    config: dict[str, Any] = {"format_version": FORMAT_VERSION, "architecture": "rsfm_encoder", "width": width, "depth": depth, "heads": 4}
    config |= {"mlp_hidden": 4 * width, "layer_norm_epsilon": 1e-6, "cls_token": False, "joint": True, "slots": [slot]}
    config |= {"encodings": encodings | {"gsd": {"features": 32, "per_octave": 8.0}}}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = {name: tensor + 0.1 * torch.randn(tensor.shape) for name, tensor in RSFMEncoder(config).state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "config.json").write_text(json.dumps(config | {"sha256": {"model.safetensors": digest}}, indent=1))
    return folder


def write_scene(path: pathlib.Path, height: int, width: int) -> pathlib.Path:
    """Writes the example's ten bands at 10 m side by side until the raster is full; uint16, tiled, compressed; kept if it is there."""
    if path.exists():
        return path
    planes = []
    for name in BANDS:
        with rasterio.open(EXAMPLE / f"s2_{name}.tif") as dataset:
            plane = dataset.read(1)
        planes.append(np.kron(plane, np.ones((600 // len(plane), 600 // len(plane)), np.uint16)))  # 20 m bands: each pixel four times
    tile = np.stack(planes)
    grid = rasterio.Affine(10, 0, 300_000, 0, -10, 4_200_000)
    profile: dict[str, Any] = {"driver": "GTiff", "count": len(BANDS), "height": height, "width": width, "dtype": "uint16"}
    profile |= {"crs": "EPSG:32618", "transform": grid, "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate"}
    unfinished = path.with_suffix(".unfinished")
    with rasterio.open(unfinished, "w", **profile, zlevel=1, interleave="pixel") as dataset:
        columns = np.arange(width) % 600
        for row in range(0, height, BLOCK):
            rows = np.arange(row, min(row + BLOCK, height)) % 600
            dataset.write(tile[:, rows][:, :, columns], window=Window(0, row, width, len(rows)))  # pyright: ignore[reportCallIssue]
    unfinished.rename(path)
    return path


def run_once(kind: str, scene: pathlib.Path, model: pathlib.Path, out: pathlib.Path, window_px: int) -> None:
    """One output of the scene; prints its summary as JSON."""
    bands = {name: (scene, index) for index, name in enumerate(BANDS, start=1)}
    described = SceneInput(SENSOR, bands, baseline_offset_dn=0)
    if kind == "embedding":
        summary = embed_scene(model, described, out, window_px=window_px)
    elif kind == "chips":
        summary = embed_chips(model, described, out)
    else:
        torch.manual_seed(0)
        width = json.loads((model / "config.json").read_text())["width"]
        head = torch.nn.Sequential(torch.nn.Conv2d(width, CLASSES * PATCH**2, 1), torch.nn.PixelShuffle(PATCH))
        summary = map_scene(model, head, [f"class {k}" for k in range(CLASSES)], described, out, window_px=window_px)
    print(json.dumps(summary))


def measured(words: Sequence[str], progress: pathlib.Path | None = None, kill_at: int = 0) -> dict[str, Any]:
    """Runs this file as a process of its own.

    Args:
      words: Its command line.
      progress: The output's progress file.
      kill_at: Kill the process when so many pieces are done; 0: let it end.

    Returns:
      ``wall_s``, ``peak_mb`` (resident memory), ``done`` (pieces at the kill), and the summary of a run that ended.

    Raises:
      InputError: the process ended otherwise than it should.
    """
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True)
    done = 0
    while kill_at and process.returncode is None and done < kill_at:
        assert progress is not None
        time.sleep(0.05)
        done = json.loads(progress.read_text())["done"] if progress.exists() else 0
        if done >= kill_at:
            process.send_signal(signal.SIGKILL)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != (-signal.SIGKILL if kill_at else 0):
        raise InputError(f"{' '.join(words)}: ended with {process.returncode}")
    seconds, peak_mb = time.perf_counter() - started, usage.ru_maxrss / 1024
    return {"wall_s": round(seconds, 1), "peak_mb": round(peak_mb), "done": done} | (json.loads(printed) if printed else {})


def compare(whole: pathlib.Path, upper: pathlib.Path, rows: int) -> bool:
    """Whether the first rows of two GeoTIFFs are equal bit by bit."""
    with rasterio.open(whole) as first, rasterio.open(upper) as second:
        window = Window(0, 0, first.width, rows)  # pyright: ignore[reportCallIssue]
        return all(np.array_equal(*(d.read(b, window=window).view("i4") for d in (first, second))) for b in range(1, first.count + 1))


def report(given: argparse.Namespace) -> int:
    """Makes what is needed, runs, prints the table."""
    work: pathlib.Path = given.work
    work.mkdir(parents=True, exist_ok=True)
    scene = write_scene(work / f"scene_{given.side}.tif", given.side, given.side)
    model = write_model(work / f"model_{given.width}", SENSOR, BANDS, given.width, 2, PATCH, 224)
    plan = WindowPlan(given.side, given.side, PATCH, given.window, given.window // 4 // PATCH * PATCH)

    def words(kind: str, image: pathlib.Path, out: pathlib.Path) -> list[str]:
        return ["--run", kind, str(image), str(model), str(out), f"--window={given.window}", f"--work={work}"]

    results: dict[str, Any] = {"side_px": given.side, "bands": len(BANDS), "width": given.width, "window_px": given.window, "runs": {}}
    for kind in given.kinds:
        out = work / f"{kind}.{'parquet' if kind == 'chips' else 'tif'}"
        out.unlink(missing_ok=True)
        if kind == "embedding":
            kill_at = max(1, len(plan.row_starts) // 2)
            results["runs"]["killed"] = measured(words(kind, scene, out), out.parent / f".{out.name}-unfinished" / "progress.json", kill_at)
        results["runs"][kind] = measured(words(kind, scene, out)) | {"out_mb": round(out.stat().st_size / 1e6)}
    if "embedding" in given.kinds:
        last = min(3, len(plan.row_starts) - 2)
        upper = write_scene(work / f"upper_{given.side}_{given.window}.tif", plan.row_starts[last] + plan.side, given.side)
        out = work / "upper_embedding.tif"
        out.unlink(missing_ok=True)
        results["runs"]["upper"] = measured(words("embedding", upper, out))
        rows = plan.finished_after(last) // PATCH
        results |= {"rows_compared": rows, "equal": compare(work / "embedding.tif", out, rows)}
    print(f"{'run':<10} {'wall, s':>8} {'peak, MB':>9} {'resumed at':>10}")
    for name, run in results["runs"].items():
        print(f"{name:<10} {run['wall_s']:>8} {run['peak_mb']:>9} {run.get('resumed_at', '-'):>10}")
    print(json.dumps(results))
    return 0 if results.get("equal", True) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for scene, model and outputs")
    parser.add_argument("--side", type=int, default=10_000, help="pixels along the scene")
    parser.add_argument("--width", type=int, default=64, help="width of the encoder")
    parser.add_argument("--window", type=int, default=448, help="window side in pixels")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--run", nargs=4, metavar=("KIND", "SCENE", "MODEL", "OUT"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.run:
        kind, scene, model, out = given.run
        return exit_code(lambda: run_once(kind, pathlib.Path(scene), pathlib.Path(model), pathlib.Path(out), given.window))
    return exit_code(lambda: report(given))


if __name__ == "__main__":
    sys.exit(main())

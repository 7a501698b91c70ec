"""Small scenes written to disk, and front doors run as a user runs them."""

from collections.abc import Sequence
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import rasterio
import tensorflow_datasets as tfds
import yaml

from rsfm_jax.config import Config, DataConfig, IngestConfig, ParallelConfig
from rsfm_jax.data.dataset import Dataset
from rsfm_jax.data.decode import Decoder
from rsfm_jax.data.stream import BatchStream
from rsfm_jax.ingest.describe import find_scenes
from rsfm_jax.ingest.pipeline import run_ingest
from rsfm_jax.ingest.raster import OpenScene, open_scene
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.train.program import make_program
from rsfm_jax.train.state import init_state

REPO = pathlib.Path(__file__).resolve().parent.parent


def write_geotiff(
    path: pathlib.Path,
    values: np.ndarray,
    *,
    crs: str | None = "EPSG:32631",
    left: float = 500_000.0,
    top: float = 4_800_000.0,
    gsd: float = 10.0,
    nodata: float | None = None,
    transform: rasterio.Affine | None = None,
    scale_offset: tuple[float, float] | None = None,
    **profile: Any,
) -> pathlib.Path:
    """Writes a GeoTIFF of (H, W) or (C, H, W) values."""
    bands = values if values.ndim == 3 else values[None]
    grid = transform or rasterio.Affine(gsd, 0, left, 0, -gsd, top)
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"count": bands.shape[0], "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    with rasterio.open(path, "w", driver="GTiff", crs=crs, transform=grid, nodata=nodata, **shape, **profile) as dataset:
        dataset.write(bands)
        if scale_offset:
            dataset.scales, dataset.offsets = ([value] * len(bands) for value in scale_offset)
    return path


def scene(**fields: Any) -> dict[str, Any]:
    """An entry of scenes.yaml: a digital elevation model unless told otherwise. A field set to None is left out."""
    entry = {"id": "one", "sensor": "dem", "acquired_utc": "2020-06-01", "bands": {"elevation": "dem.tif"}} | fields
    return {field: value for field, value in entry.items() if value is not None}


def write_scenes_yaml(folder: pathlib.Path, *scenes: dict[str, Any]) -> pathlib.Path:
    """Writes scenes.yaml into a folder and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scenes.yaml").write_text(yaml.safe_dump({"scenes": list(scenes)}, sort_keys=False))
    return folder


def open_one(folder: pathlib.Path, **fields: Any) -> OpenScene:
    """Describes one scene, reads the description back and opens it."""
    (found,) = find_scenes(write_scenes_yaml(folder, scene(**fields)))
    return open_scene(found)


def one_slot(sensor: str = "dem", bands: Sequence[str] = ("elevation",), gsd_m: float = 10.0, pixels: int = 8, **more: Any) -> Layout:
    """A layout of one slot, named like the sensor."""
    fields = {name: more.pop(name) for name in ("stride_m", "sets_per_place") if name in more}
    return Layout(sensor, (Slot(sensor, tuple(bands), gsd_m, pixels, patch=4, **more),), **fields)


def ingest(folder: pathlib.Path, *layouts: Layout, **knobs: Any) -> tuple[pathlib.Path, dict[str, Any]]:
    """Ingests a folder of scenes; returns the dataset folder beside it and its summary."""
    out = folder.parent / f"{folder.name}-dataset"
    return out, run_ingest(folder, out, IngestConfig(layouts=layouts, **knobs))


def records(dataset: pathlib.Path, layout: str, split: str = "train") -> list[dict[str, Any]]:
    """All records of a layout, decoded."""
    return list(tfds.builder_from_directory(dataset / "records" / "image_sets" / layout / "1.0.0").as_data_source(split))


def valid_pixels(record: dict[str, Any], slot: int) -> np.ndarray:
    """The valid mask (H, W, C) of one member."""
    shape = record[f"pixels_{slot}"].shape
    return np.unpackbits(record[f"valid_{slot}"], count=int(np.prod(shape))).reshape(shape).astype(bool)


def manifest(dataset: pathlib.Path, kind: str) -> list[dict[str, Any]]:
    """Rows of one kind, "scene" or "set", of a dataset's manifest."""
    rows = [json.loads(line) for line in (dataset / "manifest.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def run_door(module: str, *args: str | pathlib.Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Runs ``python -m module`` from the repository's root."""
    command = [sys.executable, "-m", module, *map(str, args)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Asserts exit code 2 and one "error:" line that holds all words."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.strip())
    assert line.startswith("error: ")
    missing = [word for word in words if word not in line]
    assert not missing, f"{missing} not in {line!r}"


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a `rsfm_jax.train.loop.Trainer` builds, on a mesh of any number of devices."""

    mesh: Any
    model: Any
    optimizer: Any
    abstract: Any
    steps: dict[str, Any]
    state: Any


def parts(config: Config, dataset: Dataset, data: int, fsdp: int) -> Parts:
    """The jitted steps and the initial state of an experiment on the first data x fsdp devices."""
    config = dataclasses.replace(config, parallel=ParallelConfig(data, fsdp))
    made = make_program(config, dataset.layouts, jax.devices()[: data * fsdp])
    steps = {layout.name: made.step(layout) for layout in dataset.layouts}
    state = init_state(made.spec, made.optimizer, made.abstract, config.train.seed)
    return Parts(made.mesh, made.model, made.optimizer, made.abstract, steps, state)


def first_batches(dataset: Dataset, batch: int, steps: int) -> list[tuple[Layout, dict[str, Any]]]:
    """The batches of the first steps, seed 0."""
    with BatchStream(dataset, DataConfig(global_batch_size=batch), 0, 0, 1) as stream:
        return [stream.next(step) for step in range(steps)]


def batch_of(dataset: Dataset, layout: Layout, size: int = 4) -> dict[str, Any]:
    """A batch of the first records of a layout."""
    decode = Decoder(dataset, layout)
    source = dataset.source(layout, "train")
    examples = [decode(source[i]) for i in range(size)]
    return {"global_index": np.arange(size, dtype=np.uint32)} | jax.tree.map(lambda *leaves: np.stack(leaves), *examples)


TINY_CONFIG = REPO / "tests" / "tiny_config.py"


def on_device(tree: Any) -> Any:
    """Arrays as the jitted step sees them."""
    return jax.tree.map(jnp.asarray, tree)


def train_words(dataset: pathlib.Path, workdir: pathlib.Path, *more: str) -> list[str]:
    """The words after ``python -m rsfm_jax.train`` for the tiny experiment."""
    return [f"--config={TINY_CONFIG}", f"--config.data.path={dataset}", f"--workdir={workdir}", *more]

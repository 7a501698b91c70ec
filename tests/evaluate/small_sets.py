"""Scenes of one ground to restore: coarse bands whose pattern only the fine ones tell, and dates of which one follows from another."""

import datetime
import pathlib
from typing import Any

import numpy as np
import yaml

from tests.evaluate.small_scene import CRS, LEFT, TOP
from tests.helpers import write_geotiff

SIDE, WINDOW = 128, 16  # of the coarse scene and the dates; chips
HIDDEN_DN = 1000  # amplitude of the pattern that area means take away


def coarse_and_fine(folder: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Writes coarse.tif (B04, B08 at 20 m) and fine.tif (B02, B03 at 10 m, a pixel further west); returns both, uint16 (C, H, W).

    In squares of 4 coarse pixels B08 has a chequerboard of either sign, which B02 tells; the pixel in the upper left corner is missing.
    """
    rng = np.random.default_rng(0)
    sign = np.kron(rng.choice([-1, 1], (SIDE // 4, SIDE // 4)), np.ones((4, 4)))
    stripe = np.tile([1.0, -1, -1, 1], SIDE // 4)  # the same from both sides, as chips are mirrored in training
    chequers = np.outer(stripe, stripe)
    return _write_coarse_and_fine(folder, rng, sign * chequers, sign)


def noise_told_by_fine_bands(folder: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """As `coarse_and_fine`, but B08 has a sign drawn for every coarse pixel, which B02 tells: a patch holds many independent ones."""
    rng = np.random.default_rng(2)
    sign = rng.choice([-1.0, 1.0], (SIDE, SIDE))
    return _write_coarse_and_fine(folder, rng, sign, sign)


def _write_coarse_and_fine(
    folder: pathlib.Path, rng: np.random.Generator, pattern: np.ndarray, told: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The scenes, with a pattern in B08 and what is told in B02, both (SIDE, SIDE) of -1 and 1."""
    coarse = np.stack([np.full((SIDE, SIDE), 2000.0), 3000 + HIDDEN_DN * pattern]) + rng.normal(0, 50, (2, SIDE, SIDE))
    told = np.pad(np.kron(2500 + 1000 * told, np.ones((2, 2))), ((0, 0), (1, 0)))
    fine = np.stack([told, np.full_like(told, 2000)]) + rng.normal(0, 50, (2, *told.shape))
    coarse, fine = (np.maximum(image, 1).round().astype(np.uint16) for image in (coarse, fine))
    coarse[:, 0, 0] = 0
    write_geotiff(folder / "coarse.tif", coarse, crs=CRS, left=LEFT, top=TOP, gsd=20.0)
    write_geotiff(folder / "fine.tif", fine, crs=CRS, left=LEFT - 10, top=TOP, gsd=10.0)
    return coarse, fine


def dates(folder: pathlib.Path) -> np.ndarray:
    """Writes date0.tif to date2.tif (B04, B08 at 20 m), one ground in growing brightness; returns them, uint16 (3, C, H, W)."""
    rng = np.random.default_rng(1)
    ground = 2000 + 500 * np.sin(np.arange(SIDE) / 5)[:, None] * np.cos(np.arange(SIDE) / 7)[None]
    made = [ground + 400 * t + rng.normal(0, 30, (2, SIDE, SIDE)) for t in range(3)]
    images = np.stack(made).round().astype(np.uint16)
    for t, image in enumerate(images):
        write_geotiff(folder / f"date{t}.tif", image, crs=CRS, left=LEFT, top=TOP, gsd=20.0)
    return images


def scene(name: str, *bands: str, **fields: Any) -> dict[str, Any]:
    """An entry of `images`."""
    entry = {"id": name, "sensor": "sentinel2_l2a", "acquired_utc": datetime.date(2020, 6, 1), "baseline_offset_dn": 0}
    return entry | {"bands": {band: {"file": f"{name}.tif", "index": i + 1} for i, band in enumerate(bands)}} | fields


SHARPEN: dict[str, Any] = {
    "name": "sharpen",
    "kind": "restoration",
    "source": {
        "kind": "restored",
        "images": [scene("coarse", "B04", "B08"), scene("fine", "B02", "B03")],
        "sets": [{"target": "coarse", "inputs": ["coarse", "fine"]}],
        "degrade": 2,
        "window_px": WINDOW,
        "stride_px": WINDOW,
        "data_range": 1,
        "block_px": 8,
    },
    "split": {"kind": "spatial", "axis": "x", "gap_m": 320},
    "training": {"lrs": [0.01], "steps": 60, "check_every": 20, "batch_size": 8, "unet_width": 4, "validation_share": 0.3},
    "seeds": [0],
}
FILL: dict[str, Any] = SHARPEN | {
    "name": "fill",
    "source": {
        "kind": "restored",
        "images": [scene(f"date{t}", "B04", "B08") for t in range(3)],
        "sets": [{"target": "date1", "inputs": ["date1", "date0", "date2"]}, {"target": "date2", "inputs": ["date2", "date1", "date0"]}],
        "gaps": {"share": 0.25, "blob_px": 2},
        "window_px": WINDOW,
        "stride_px": WINDOW,
        "data_range": 1,
        "block_px": 8,
    },
}


def write_sets(folder: pathlib.Path, task: dict[str, Any], source: dict[str, Any] | None = None, **changes: Any) -> pathlib.Path:
    """Writes task.yaml: a task with other entries, those of the source merged; None takes one out."""
    merged = {key: value for key, value in (task["source"] | (source or {})).items() if value is not None}
    file = folder / "task.yaml"
    file.write_text(yaml.safe_dump(task | changes | {"source": merged}, sort_keys=False))
    return file

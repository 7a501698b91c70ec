"""Writes what the tests of the harness environment load: small models in every export format, and what JAX computes for real chips.

    python -m harness.make_folders --out=FOLDER

The project's ordinary environment runs it, for it needs JAX. Each folder FOLDER/NAME is an exported one; FOLDER/NAME.npz beside it holds
values      physical, float32, (B, C, H, W), of format "rsfm" (B, C, T, H, W)
normalised  the same by the bands' mean and standard deviation
tokens      JAX's after the final norm, (B, 1 + T * N, D), or without the class token's
layers      JAX's after each block, (L, B, 1 + T * N, D)
time        of format "rsfm": known, year and day of year from 0 of each date, (B, T, 3)
Only a folder: detectors-rsfm, of the imagery outside the repository that objects are labelled in (RSFM_SHARED_DATA), where it is there.

Legend: B batch, C bands, T dates, H W pixels, N patches of a date, D width, L blocks.
"""

import argparse
import dataclasses
import os
import pathlib
import tempfile

import jax
import numpy as np
import yaml

from rsfm_jax.config import IngestConfig
from rsfm_jax.data.dataset import Dataset, open_dataset
from rsfm_jax.export.baked_parity import jax_encoder, real_pixels
from rsfm_jax.export.baking import bake, one_image
from rsfm_jax.export.checkpoint import Trained
from rsfm_jax.export.folder import Order, write_folder
from rsfm_jax.ingest.pipeline import run_ingest
from rsfm_jax.layouts import Layout, Slot
from tests import tiny_config
from tests.export.untrained import SENTINEL, never_trained, with_class_token

REPO = pathlib.Path(__file__).resolve().parent.parent
SQUARE = dataclasses.replace(SENTINEL, pixels=(16, 16))
ORDERS = {  # H != W, but where a format or its library takes squares only
    "rsfm": Order(),
    "timm": Order("timm", SENTINEL),
    "transformers": Order("transformers", SENTINEL),
    "onnx": Order("onnx", SENTINEL),
}
WITH_CLASS_TOKEN = {
    "prithvi": Order("prithvi", SENTINEL),
    "prithvi-square": Order("prithvi", SQUARE),
    "mae": Order("transformers", SQUARE, decoder=True),
}
DATES = ("2018-07-08", "2019-01-31")
LABELLED = {  # sensor to file, bands and GSD of the images with objects
    "neon_rgb": ("deepforest_neon_osbs/OSBS_029.tif", ("R", "G", "B"), 0.1),
    "worldview2_pan": ("solaris_sn4_atlanta/sample_geotiff.tif", ("P",), 0.5),
}


def write_expected(trained: Trained, dataset: Dataset, order: Order, dates: tuple[str | None, ...], file: pathlib.Path) -> None:
    """Writes what JAX computes of one or several dates of the same chips, the later dates with the chips in another order."""
    baked = bake(trained, order.choice or SENTINEL)
    pixels = real_pixels(dataset, baked)
    members, planes = [], []
    for t, date in enumerate(dates):
        planes.append(np.roll(pixels, t, axis=0))
        batch = one_image(baked.slot, dataclasses.replace(baked.choice, acquired=date), planes[t], baked.columns)
        members += batch["members"]
    encode = jax_encoder(trained, Layout("harness", (baked.slot,) * len(dates)))
    with jax.default_matmul_precision("highest"):
        tokens, layers = jax.device_get(encode({"members": members, "place": batch["place"]}))
    normalised = np.stack(planes, axis=1).transpose(0, 4, 1, 2, 3)
    mean, std = (np.array([band[name] for band in baked.bands], np.float32)[:, None, None, None] for name in ("mean", "std"))
    arrays = {"normalised": normalised, "values": normalised * std + mean}
    if len(dates) == 1:
        arrays = {name: array[:, :, 0] for name, array in arrays.items()}
    time = np.stack([member["time"] for member in members], axis=1)
    np.savez(file, tokens=tokens, layers=layers, time=time, **{name: np.ascontiguousarray(array) for name, array in arrays.items()})


def write_for_detectors(imagery: pathlib.Path, out: pathlib.Path) -> None:
    """Writes a folder of format "rsfm" that knows the sensors of `LABELLED`."""
    scenes, layouts = [], []
    for sensor, (file, names, gsd_m) in LABELLED.items():
        bands = {name: {"file": str(imagery / file), "index": i} for i, name in enumerate(names, start=1)}
        scenes.append({"id": sensor, "sensor": sensor, "acquired_utc": "unknown", "bands": bands})
        layouts.append(Layout(sensor, (Slot(sensor, names, gsd_m, pixels=64, patch=8),)))
    config = tiny_config.get_config()
    config.model.depth, config.ingest = 4, IngestConfig(layouts=tuple(layouts))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "scenes.yaml").write_text(yaml.safe_dump({"scenes": scenes}))
        run_ingest(folder, folder / "dataset", config.ingest)
        dataset = open_dataset(str(folder / "dataset"))
        found = write_folder(never_trained(config, dataset), dataset, out, Order())
    print(f"{out.name}: differs from JAX by up to {found['parity_max_abs']:.1e}")


def main() -> None:
    """Writes all folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder to make; must not exist")
    out = parser.parse_args().out
    out.mkdir(parents=True)
    config = tiny_config.get_config()
    config.model.depth, config.model.mlp_ratio = 4, 3.0  # four layers to tap, and no library's default
    with tempfile.TemporaryDirectory() as data:
        run_ingest(REPO / "examples" / "scenes", pathlib.Path(data) / "dataset", config.ingest)
        config.data.path = str(pathlib.Path(data) / "dataset")
        dataset = open_dataset(config.data.path)
        models = {"cls": (with_class_token(config, dataset), ORDERS | WITH_CLASS_TOKEN), "plain": (never_trained(config, dataset), ORDERS)}
        for model, (trained, orders) in models.items():
            for name, order in orders.items():
                found = write_folder(trained, dataset, out / f"{model}-{name}", order)
                dates = DATES if name == "rsfm" else ((order.choice or SENTINEL).acquired,)
                write_expected(trained, dataset, order, dates, out / f"{model}-{name}.npz")
                print(f"{model}-{name}: differs from JAX by up to {found['parity_max_abs']:.1e}")
            write_expected(trained, dataset, Order(), DATES[:1], out / f"{model}-rsfm-one.npz")
    imagery = pathlib.Path(os.environ.get("RSFM_SHARED_DATA", REPO.parent / "shared" / "data"))
    if imagery.is_dir():
        write_for_detectors(imagery, out / "detectors-rsfm")
    else:
        print(f"detectors-rsfm is not written: no imagery at {imagery}; set RSFM_SHARED_DATA to its folder")


if __name__ == "__main__":
    main()

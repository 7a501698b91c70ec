"""The exported folder, carried elsewhere, in a process that has neither jax nor this package."""

import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

pytest.importorskip("torch", reason="no CPU wheel of PyTorch for this Python")

from rsfm_jax.data.dataset import Dataset
from rsfm_jax.export.checkpoint import read_checkpoint
from rsfm_jax.models.build import abstract_model, merge
from tests.helpers import batch_of

_STRANGER = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "jaxlib", "flax", "orbax", "grain", "rsfm_jax", "transformers"):
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Block())
sys.path.insert(0, ".")
import numpy, torch
from modeling_rsfm import RSFMEncoder

model = RSFMEncoder.from_folder(".")
given = {name: torch.from_numpy(array) for name, array in numpy.load("given.npz").items()}
members = [
    {"sensor": sensor, "bands": bands.split(), **{name: given[f"{name}_{i}"] for name in ("values", "valid", "grid_m", "time")}}
    for i, (sensor, bands) in enumerate([("landsat8_l1", "B4 B5 B6"), ("landsat8_l1", "B8"), ("landsat7_l1", "B3 B4 B5")])
]
with torch.no_grad():
    out = model(members, given["footprint_deg"])
numpy.savez("found.npz", tokens=out.tokens, pooled=out.pooled)
print(sorted(name for name in sys.modules if name in ("jax", "rsfm_jax", "transformers")))
"""


def test_features_equal_jax_s(exported: pathlib.Path, trained: pathlib.Path, tiny_dataset: Dataset, tmp_path: pathlib.Path):
    layout = tiny_dataset.layouts[1]
    rng = np.random.default_rng(0)
    batch, rows, given = batch_of(tiny_dataset, layout), list(tiny_dataset.source(layout, "train"))[:4], {}
    for i, member in enumerate(batch["members"]):
        valid = rng.random(member["valid"].shape) < 0.9
        valid[:, :4, :4] = False
        member["valid"] &= valid
        physical = np.stack([row[f"pixels_{i}"] * row[f"scale_{i}"] + row[f"offset_{i}"] for row in rows])
        given |= {f"values_{i}": physical.astype(np.float32), f"valid_{i}": member["valid"]}
        given |= {f"grid_m_{i}": member["grid_m"], f"time_{i}": member["time"]}
    given["footprint_deg"] = np.stack([row["lonlat_deg"] for row in rows])
    given = {name: x.transpose(0, 3, 1, 2) if x.ndim == 4 else x for name, x in given.items()}

    newest = read_checkpoint(trained, None)
    model = merge(abstract_model(newest.spec).graphdef, newest.params)
    with jax.default_matmul_precision("highest"):
        tokens, real = jax.jit(lambda batch: model.encoder(layout, batch))({name: batch[name] for name in ("members", "place")})
    tokens, weight = np.asarray(tokens), np.asarray(real)[..., None]
    assert 0 < weight.mean() < 1

    elsewhere = shutil.copytree(exported, tmp_path / "elsewhere")
    np.savez(elsewhere / "given.npz", **given)
    done = subprocess.run([sys.executable, "-I", "-c", _STRANGER], cwd=elsewhere, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    found = np.load(elsewhere / "found.npz")
    np.testing.assert_allclose(found["tokens"], tokens, atol=1e-4)
    np.testing.assert_allclose(found["pooled"], (tokens * weight).sum(axis=1) / weight.sum(axis=1), atol=1e-4)

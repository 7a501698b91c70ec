"""The proof that the exported folder computes what JAX computes: the same real chips through both, end to end.

The PyTorch side is loaded from the folder as a user would, and is given physical values by band name, so the normalisation is part of the
proof. Each layout is checked on its own chips, and on chips with a row of patches more (their first, repeated) and their dates and place
unknown, so that height and width differ and the learned tokens for an unknown date and an unknown place are used.
"""

import functools
import importlib.util
import pathlib
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from rsfm_jax.data.dataset import Dataset
from rsfm_jax.data.decode import Decoder
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.models.build import Params, abstract_model, merge
from rsfm_jax.models.spec import RANDOM_BANDS, ModelSpec, TokenLayout, token_layout

LIMIT = 1e-4
CHIPS = 4


class ParityError(RuntimeError):
    """The exported model does not give the features that JAX gives."""


def load_modeling(folder: pathlib.Path) -> ModuleType:
    """Imports an exported folder's modeling file."""
    spec = importlib.util.spec_from_file_location("exported_modeling_rsfm", folder / "modeling_rsfm.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_parity(folder: pathlib.Path, spec: ModelSpec, params: Params, dataset: Dataset) -> list[dict[str, Any]]:
    """Compares tokens after every block and after the norm, and pooled features.

    Args:
      folder: The exported folder.
      spec: The model's spec, with compute_dtype float32.
      params: The whole model's parameters.
      dataset: Where the chips come from.

    Returns:
      A row for each layout and shape: ``input`` (the layout), ``chips``, ``tokens_max_abs``, ``pooled_max_abs``, ``layers_max_abs`` and
      ``layers``, their number.

    Raises:
      ParityError: a difference above 1e-4.
    """
    model = load_modeling(folder).RSFMEncoder.from_folder(folder)
    graphdef = abstract_model(spec).graphdef

    @functools.partial(jax.jit, static_argnums=0)
    def encode(layout_name: str, batch: dict[str, Any]) -> tuple[jax.Array, jax.Array, jax.Array]:
        layout = token_layout(next(layout for layout in dataset.layouts if layout.name == layout_name), spec.tokenizer).layout
        encoder = merge(graphdef, params).encoder
        tokens, real = encoder(layout, batch)
        first = int(spec.config.cls_token)
        weight = real[:, first:, None].astype(jnp.float32)
        pooled = (tokens[:, first:] * weight).sum(axis=1) / jnp.maximum(weight.sum(axis=1), 1.0)
        return tokens, pooled, encoder.layers(layout, batch)

    rows = []
    for layout in dataset.layouts:
        records = dataset.source(layout, "train")
        records = [records[i] for i in range(min(CHIPS, len(records)))]
        parts = _parts(token_layout(layout, spec.tokenizer), layout)
        for taller, variant in enumerate(("", " (taller, no dates, no place)")):
            with jax.default_matmul_precision("highest"):
                expected = jax.device_get(encode(layout.name, _jax_batch(dataset, layout, parts, records, taller)))
            with torch.no_grad():
                footprint_deg = None if taller else torch.from_numpy(np.stack([record["lonlat_deg"] for record in records]))
                try:
                    encoded = model(_torch_members(layout, parts, records, taller), footprint_deg, return_layers=True)
                except ValueError as error:
                    raise ParityError(f"layout {layout.name}: the PyTorch model refuses the dataset's own chips: {error}") from None
            rows.append(
                {
                    "input": layout.name + variant,
                    "chips": len(records),
                    "tokens_max_abs": float(np.abs(expected[0] - encoded.tokens.numpy()).max()),
                    "pooled_max_abs": float(np.abs(expected[1] - encoded.pooled.numpy()).max()),
                    "layers_max_abs": max(float(np.abs(a - b.numpy()).max()) for a, b in zip(expected[2], encoded.layers, strict=True)),
                    "layers": len(encoded.layers),
                }
            )
    for row in rows:
        require_parity(row)
    return rows


def require_parity(row: dict[str, Any]) -> None:
    """Raises `ParityError` where a difference in a row is above the limit, or not a number."""
    worst = max(value if value == value else np.inf for name, value in row.items() if name.endswith("_max_abs"))
    if worst > LIMIT:
        raise ParityError(f"{row['input']}: PyTorch and JAX features differ by {worst:.2e}, the limit is {LIMIT:g}")


def _parts(tokens: TokenLayout, layout: Layout) -> list[tuple[int, tuple[int, ...]]]:
    """For each token slot the member and its bands; where they are drawn in training, the first ones."""
    parts = []
    for member, columns in zip(tokens.members, tokens.columns, strict=True):
        bands = len(layout.slots[member].bands)
        parts.append((member, tuple(i % bands for i in range(RANDOM_BANDS)) if columns is None else columns))
    return parts


def _jax_batch(
    dataset: Dataset, layout: Layout, parts: list[tuple[int, tuple[int, ...]]], records: list[dict[str, Any]], taller: int
) -> dict[str, Any]:
    decode = Decoder(dataset, layout)
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *[decode(record) for record in records])
    batch["place"]["lonlat_deg"] *= 1 - taller
    members = []
    for i, columns in parts:
        slot, member = layout.slots[i], batch["members"][i]
        planes = {name: member[name][:, _rows(slot, taller)][..., list(columns)] for name in ("pixels", "valid")}
        members.append(member | planes | {"time": member["time"] * (1 - taller)})
    return {"members": members, "place": batch["place"]}


def _torch_members(
    layout: Layout, parts: list[tuple[int, tuple[int, ...]]], records: list[dict[str, Any]], taller: int
) -> list[dict[str, Any]]:
    members = []
    for i, columns in parts:
        slot = layout.slots[i]
        dn = np.stack([record[f"pixels_{i}"] for record in records])
        scale, offset = (np.stack([record[f"{name}_{i}"] for record in records])[:, None, None] for name in ("scale", "offset"))
        valid = np.stack([np.unpackbits(record[f"valid_{i}"], count=dn[0].size).reshape(dn[0].shape) for record in records])
        planes = {"values": (dn * scale + offset).astype(np.float32), "valid": valid.astype(bool)}
        planes = {
            name: np.ascontiguousarray(x[:, _rows(slot, taller)][..., list(columns)].transpose(0, 3, 1, 2)) for name, x in planes.items()
        }
        member = {
            "sensor": slot.sensor,
            "bands": tuple(slot.bands[c] for c in columns),
            "patch": slot.patch,
            "grid_m": torch.from_numpy(np.stack([record[f"grid_m_{i}"] for record in records])),
            "acquisition": slot.acquisition or f"member {i}",
            **{name: torch.from_numpy(x) for name, x in planes.items()},
        }
        dates = {} if taller else {"time": torch.from_numpy(np.stack([record[f"time_{i}"] for record in records]))}
        members.append(member | dates)
    return members


def _rows(slot: Slot, taller: int) -> np.ndarray:
    """Rows of pixels: all, and with ``taller`` the first row of patches again below them."""
    return np.arange(slot.pixels + taller * slot.patch) % slot.pixels

"""Pooled embeddings of a scene's chips as GeoParquet, one row for each chip.

Chips lie edge to edge from the raster's upper left corner. Each row of chips is a piece, and a row group of the file.

Legend: N chips, D width.
"""

from collections.abc import Iterable
import json
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet
import shapely
import torch

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.scenes.pieces import Arrays, Pieces
from rsfm_jax.evaluate.scenes.reading import WindowReader
from rsfm_jax.evaluate.scenes.streaming import Encode, batched

_BOUNDS = ("left", "bottom", "right", "top")


def stream_chips(
    reader: WindowReader, encode: Encode, width: int, chip_px: int, min_valid_share: float, pieces: Pieces, batch: int
) -> None:
    """Encodes a scene's chips and commits one piece for each row of them that is not done yet.

    A chip that reaches beyond the raster counts the missing part as not valid. ``pieces.counts`` gains ``chips``, all there are, and
    ``dropped``, those below ``min_valid_share``.

    Args:
      reader: The scene.
      encode: From windows to (N, D).
      width: D.
      chip_px: Chip side, pixels.
      min_valid_share: Least share of the chip's values, over pixels and bands, that must be valid.
      pieces: Where they go: ``embedding`` float32 (N, D), ``valid_share`` (N,), ``row`` and ``column`` (N,) of the first pixel.
      batch: Chips encoded at a time, at most.

    Raises:
      InputError: the encoder refuses a chip's values.
    """
    counts = {"chips": 0, "dropped": 0} | pieces.counts
    for row in range(pieces.done * chip_px, reader.height, chip_px):
        kept: list[Arrays] = [_table_columns(np.zeros((0, width), np.float32), np.zeros(0), np.zeros((0, 2), int))]
        for starts in batched([(row, column) for column in range(0, reader.width, chip_px)], batch):
            windows = reader.read(starts, chip_px)
            shares = windows.valid.double().mean(dim=(1, 2, 3))
            chosen = shares >= min_valid_share
            counts["chips"] += len(starts)
            counts["dropped"] += len(starts) - int(chosen.sum())
            if not chosen.any():
                continue
            places = np.array(starts)[chosen.numpy()]
            tensors = (windows.values, windows.valid, windows.grid_m, windows.footprint_deg, windows.time)
            try:
                with torch.inference_mode():
                    embedding = encode(*(tensor[chosen] for tensor in tensors)).float().cpu().numpy()
            except ValueError as error:
                raise InputError(f"scene {reader.name!r}, chips of {chip_px} pixels at (row, column) {places.tolist()}: {error}") from error
            if embedding.shape != (len(places), width) or not np.isfinite(embedding).all():
                raise ValueError(f"the encoder returned {embedding.shape} for {len(places)} chips; expected finite values of width {width}")
            kept.append(_table_columns(embedding, shares[chosen].numpy(), places))
        pieces.commit({name: np.concatenate([part[name] for part in kept]) for name in kept[0]}, {}, counts)


def _table_columns(embedding: np.ndarray, valid_share: np.ndarray, places: np.ndarray) -> Arrays:
    return {"embedding": embedding, "valid_share": valid_share, "row": places[:, 0], "column": places[:, 1]}


def write_chip_table(path: pathlib.Path, pieces: Iterable[Arrays], reader: WindowReader, width: int, chip_px: int, digest: str) -> int:
    """Writes GeoParquet 1.0.0, a row group at a time.

    Columns: ``geometry`` (WKB polygon of the chip's ground inside the raster, in the scene's coordinate system), ``scene``, ``row`` and
    ``column`` (first pixel), ``left``, ``bottom``, ``right``, ``top`` (bounds of the polygon), ``valid_share``, ``embedding`` (fixed-size
    list of D float32).

    Args:
      path: The file to write.
      pieces: As `stream_chips` committed them.
      reader: The scene.
      width: D.
      chip_px: Chip side, pixels.
      digest: The model's, for the file's metadata.

    Returns:
      How many rows there are.

    Source: GeoParquet specification 1.0.0.
    """
    geometry: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Polygon"], "crs": reader.scene.crs.to_dict(projjson=True)}
    geo = {"version": "1.0.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    fields = [("geometry", pa.binary()), ("scene", pa.string()), ("row", pa.int64()), ("column", pa.int64())]
    fields += [(name, pa.float64()) for name in (*_BOUNDS, "valid_share")] + [("embedding", pa.list_(pa.float32(), width))]
    schema = pa.schema(fields, metadata={"geo": json.dumps(geo), "model_digest": digest, "chip_px": str(chip_px)})
    rows = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for piece in pieces:
            count = len(piece["row"])
            if count == 0:
                continue
            bounds = np.array([_bounds(reader, row, column, chip_px) for row, column in zip(piece["row"], piece["column"], strict=True)])
            embedding = pa.FixedSizeListArray.from_arrays(pa.array(piece["embedding"].ravel()), width)
            columns: list[Any] = [shapely.to_wkb(shapely.box(*bounds.T)), [reader.name] * count, piece["row"], piece["column"]]
            columns += [*bounds.T, piece["valid_share"], embedding]
            writer.write_table(pa.table(columns, schema=schema))
            rows += count
    return rows


def _bounds(reader: WindowReader, row: int, column: int, chip_px: int) -> tuple[float, float, float, float]:
    height, width = min(chip_px, reader.height - row), min(chip_px, reader.width - column)
    rect = reader.rect(int(row), int(column), int(height), int(width))
    return rect.left, rect.bottom, rect.right, rect.top

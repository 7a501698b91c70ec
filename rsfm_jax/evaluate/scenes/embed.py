"""Embeddings and maps of whole scenes from an exported encoder: a GeoTIFF of patches, a table of chips, a map of classes.

Each output appears whole or not at all. A run that was killed goes on when it is started again with the same arguments, and ends with
the values of an uninterrupted run. What decides over the values is compared first: model, scene files, windows, and PyTorch's version.

Legend: B windows, K classes, D width, h w patches, H W pixels.
"""

from collections.abc import Callable, Sequence
import hashlib
import json
import pathlib
from typing import Any

import numpy as np
import torch

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.scenes.chip_table import stream_chips, write_chip_table
from rsfm_jax.evaluate.scenes.cog import Grid, class_colours, write_cog
from rsfm_jax.evaluate.scenes.pieces import open_pieces
from rsfm_jax.evaluate.scenes.prepared import Prepared, prepare
from rsfm_jax.evaluate.scenes.reading import SceneInput
from rsfm_jax.evaluate.scenes.streaming import Cells, Encode, stream_scene
from rsfm_jax.ingest.scenes import Scene

MAP_NODATA = 255
Path = str | pathlib.Path


def embed_scene(
    model_folder: Path,
    scene: SceneInput | Scene,
    out: Path,
    *,
    window_px: int | None = None,
    overlap_px: int | None = None,
    patch: int | None = None,
    dtype: str = "float32",
    batch: int = 4,
    device: str = "cpu",
) -> dict[str, Any]:
    """Embeds every patch of a scene into a cloud-optimised GeoTIFF of D bands, one cell a patch, NaN where a patch has no valid pixel.

    Args:
      model_folder: An exported encoder.
      scene: The scene; its bands are what the encoder is given.
      out: The GeoTIFF to write.
      window_px: Window side; a multiple of the patch; None: the side of the chips that the model was trained on.
      overlap_px: What neighbouring windows share; a multiple of the patch; None: a quarter of the window, rounded down.
      patch: Patch side, where the model has several for the sensor.
      dtype: ``"float32"`` or ``"float16"``.
      batch: Windows encoded at a time.
      device: PyTorch device.

    Returns:
      JSON: ``windows``, ``empty_windows`` (nothing to encode in them), ``resumed_at`` (rows of windows found done), ``seconds`` of this
      call, ``peak_rss_mb`` of this process so far, sizes, and the scene's and the training's GSD in metres.

    Raises:
      InputError: wrong arguments or files, values the model refuses, or an unfinished output of other arguments.
    """
    if dtype not in ("float32", "float16"):
        raise InputError(f"dtype={dtype!r}: must be 'float32' or 'float16'")
    with prepare(model_folder, scene, window_px, overlap_px, patch, device) as run:
        cells = Cells(run.plan.patch, run.width, lambda blended: _narrowed(blended, dtype))
        encode = run.encoder(lambda encoded: encoded.grids[0])
        return _stream_to_cog(run, encode, cells, out, {"kind": "embedding", "dtype": dtype, "batch": batch}, run.width, np.nan)


def map_scene(
    model_folder: Path,
    head: Callable[[torch.Tensor], torch.Tensor],
    classes: Sequence[str],
    scene: SceneInput | Scene,
    out: Path,
    *,
    head_digest: str | None = None,
    window_px: int | None = None,
    overlap_px: int | None = None,
    patch: int | None = None,
    batch: int = 2,
    device: str = "cpu",
    location: bool = True,
    date: bool = True,
) -> dict[str, Any]:
    """Maps the classes of a scene's pixels into a cloud-optimised GeoTIFF of uint8; class probabilities are blended between windows.

    Holds ``window_px`` rows of float32 probabilities of the scene's whole width.

    Args:
      model_folder: An exported encoder.
      head: From the grid of embeddings (B, D, h, w) to logits (B, K, H, W), H = h * patch; a module is put on the device, in evaluation
        mode.
      classes: Names of the K classes, in the order of the logits; at most 255.
      scene: As `embed_scene` takes it.
      out: The GeoTIFF to write; 255 where no band is valid.
      head_digest: What tells this head from another one, for restarts; None: a digest of a module's parameters, buffers and structure.
      window_px: As `embed_scene` takes it, like all that follow.
      overlap_px: See there.
      patch: See there.
      batch: See there.
      device: See there.
      location: Whether the encoder is told where a window lies.
      date: Whether it is told when it was seen, where that is known.

    Returns:
      JSON, as `embed_scene` returns it.

    Raises:
      InputError: as `embed_scene`; or a head that is no module without a digest.
    """
    if not 1 <= len(classes) <= MAP_NODATA:
        raise InputError(f"{len(classes)} classes: a map holds 1 to {MAP_NODATA}, {MAP_NODATA} itself is nodata")
    if isinstance(head, torch.nn.Module):
        head = head.to(device).eval()
    head_digest = head_digest or digest_of_head(head)
    with prepare(model_folder, scene, window_px, overlap_px, patch, device) as run:
        encode = run.encoder(lambda encoded: head(encoded.grids[0]).float().softmax(dim=1), location, date)
        more = {"kind": "map", "head": head_digest, "classes": list(classes), "batch": batch, "location": location, "date": date}
        return _stream_to_cog(run, encode, Cells(1, len(classes), _most_likely), out, more, 1, MAP_NODATA)


def embed_chips(
    model_folder: Path,
    scene: SceneInput | Scene,
    out: Path,
    *,
    chip_px: int | None = None,
    min_valid_share: float = 0.5,
    patch: int | None = None,
    batch: int = 8,
    device: str = "cpu",
) -> dict[str, Any]:
    """Embeds a scene's chips, edge to edge, into a GeoParquet table of pooled embeddings.

    Args:
      model_folder: An exported encoder.
      scene: As `embed_scene` takes it.
      out: The table to write; `rsfm_jax.evaluate.scenes.chip_table.write_chip_table` lists its columns.
      chip_px: Chip side; a multiple of the patch; None: the side of the chips that the model was trained on.
      min_valid_share: Chips with a smaller share of valid values are dropped and counted; greater than 0.
      patch: As `embed_scene` takes it.
      batch: Chips encoded at a time.
      device: PyTorch device.

    Returns:
      JSON: ``chips``, ``dropped``, ``rows``, and the rest as `embed_scene`; ``resumed_at`` counts rows of chips.

    Raises:
      InputError: as `embed_scene`.
    """
    if not 0 < min_valid_share <= 1:
        raise InputError(f"min_valid_share={min_valid_share:g}: must be greater than 0 and at most 1")
    with prepare(model_folder, scene, chip_px, 0, patch, device) as run:
        arguments, side = run.arguments({"kind": "chips", "min_valid_share": min_valid_share, "batch": batch}), run.plan.side
        with open_pieces(pathlib.Path(out), arguments) as pieces:
            resumed_at, encode = pieces.done, run.encoder(lambda encoded: encoded.pooled)
            stream_chips(run.reader, encode, run.width, side, min_valid_share, pieces, batch)
            whole, parts = pieces.folder / "whole.parquet", map(pieces.read, range(pieces.done))
            rows = write_chip_table(whole, parts, run.reader, run.width, side, run.digest)
            pieces.finish(whole)
            return run.summary(pieces, resumed_at) | {"rows": rows, "chip_px": side, "width": run.width}


def _stream_to_cog(
    run: Prepared, encode: Encode, cells: Cells, out: Path, more: dict[str, Any], count: int, nodata: float
) -> dict[str, Any]:
    reader, plan = run.reader, run.plan
    height, width = (-(-length // cells.pixels) for length in (plan.height, plan.width))
    grid = Grid(height, width, reader.transform @ type(reader.transform).scale(cells.pixels), reader.scene.crs)
    tags = {"scene": reader.name, "model_digest": run.digest, "window_px": str(plan.side), "overlap_px": str(plan.overlap)}
    colours = None
    if "classes" in more:
        tags |= {"classes": json.dumps(more["classes"]), "head_digest": more["head"]}
        colours = class_colours(len(more["classes"]))
    with open_pieces(pathlib.Path(out), run.arguments(more)) as pieces:
        resumed_at = pieces.done
        stream_scene(reader, plan, encode, cells, pieces, more["batch"])
        values = (pieces.read(k)["values"] for k in range(pieces.done))
        pieces.finish(write_cog(pieces.folder, values, grid, count, nodata, tags, more.get("dtype") == "float16", colours))
        size = {"height": height, "width": width, "bands": count, "window_px": plan.side, "overlap_px": plan.overlap}
        return run.summary(pieces, resumed_at) | size


def digest_of_head(head: Callable[[torch.Tensor], torch.Tensor]) -> str:
    """SHA-256 of a module's structure, parameters and buffers; raises InputError for what is no module."""
    if not isinstance(head, torch.nn.Module):
        raise InputError("head_digest is missing: the head is no torch.nn.Module, so say what tells it from another one")
    digest = hashlib.sha256(repr(head).encode())
    for name, tensor in head.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _narrowed(blended: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        narrow = blended.astype(dtype, copy=False)
    if np.isinf(narrow).any():
        raise InputError(f"embeddings go up to {np.nanmax(np.abs(blended)):g}, float16 to 65504; use dtype='float32'")
    return narrow


def _most_likely(blended: np.ndarray) -> np.ndarray:
    known = np.isfinite(blended).all(axis=0)
    return np.where(known, blended.argmax(axis=0), MAP_NODATA).astype(np.uint8)[None]

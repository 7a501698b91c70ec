"""From a task to maps: its linear probe, fitted to patch tokens of the training side, says the class of every patch of whole scenes."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import pathlib
from typing import Any

import rasterio

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.networks.linear_head import LinearHead
from rsfm_jax.evaluate.probing.features import Model, encoder_features, load_model
from rsfm_jax.evaluate.probing.probe_models import BASELINE
from rsfm_jax.evaluate.probing.probes import Fitted, figures_of, fit_probe
from rsfm_jax.evaluate.probing.probes import Samples as ProbeSamples
from rsfm_jax.evaluate.report import CACHE
from rsfm_jax.evaluate.runner import inner_groups
from rsfm_jax.evaluate.samples.samples import Samples
from rsfm_jax.evaluate.samples.sides import make_splits
from rsfm_jax.evaluate.samples.sources import read_samples
from rsfm_jax.evaluate.scenes.embed import digest_of_head, map_scene
from rsfm_jax.evaluate.scenes.embed_folder import choose_scenes, write_scenes
from rsfm_jax.evaluate.tasks.task import Encoding, Task, read_task

LAST = -1  # the layer whose tokens a map is of


def map_folder(
    model_folder: pathlib.Path,
    file: pathlib.Path,
    root: pathlib.Path,
    scenes: pathlib.Path,
    out: pathlib.Path,
    names: Sequence[str] = (),
    window_px: int | None = None,
    overlap_px: int | None = None,
    device: str = "cpu",
    batch: int = 64,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Fits a task's probe and maps scenes with it, one file each, and writes summary.json.

    The probe sees the token, after the last layer and the final norm, of the patch that holds a sample's pixel, and so does every patch
    of a scene. The encoder is told place and date of the scenes as it was told those of the samples.

    Args:
      model_folder: An exported encoder.
      file: The task file; a classification of chips of one sensor, split once, whose first probe is `linear`.
      root: Folder that paths in the task are relative to.
      scenes: Folder with scenes.yaml; scenes of another sensor or without the task's bands are left out.
      out: Folder to write into; scenes that are done there already are not done again. Features are kept there too.
      names: The scenes wanted; empty: all that can be mapped.
      window_px: Window side; None: that of the task's chips, whose surroundings the probe knows.
      overlap_px: What neighbouring windows share; None: a quarter of the window.
      device: PyTorch device.
      batch: Windows, or chips, encoded at a time.
      say: Told of progress.

    Returns:
      The content of summary.json: ``scenes`` and ``left_out`` as `rsfm_jax.evaluate.scenes.embed_folder.embed_folder` has them, and
      ``probe``: what it is, and its figures on the task's test side beside ``without_features``, those of the classes' frequencies.

    Raises:
      InputError: The task is of another sort (names the key), a map of another probe is in the folder, or what the parts raise.
    """
    task = read_task(file)
    if task.kind != "classification" or task.probes[0] != "linear":
        raise InputError(f"{file}: kind is {task.kind!r} and the first of probes {task.probes[0]!r}; a map takes classification and linear")
    if not root.is_dir():
        raise InputError(f"--data_root={root}: no such folder")
    model = load_model(model_folder, "the model", device)
    if not {LAST, len(model.encoder.blocks) - 1} & set(task.encoding.layers):
        raise InputError(f"{file}: encoding.layers is {list(task.encoding.layers)}; a map is of the last layer, {LAST}")
    samples = read_samples(task, root, file)
    kind, *others = samples.chips.inputs
    if others:
        raise InputError(f"{file}: source: the samples are of {len(others) + 1} kinds of images; a map takes one sensor, bands and GSD")
    chosen, left_out = choose_scenes(model_folder, scenes, names, kind.bands, kind.sensor)
    say(f"{len(samples)} samples; left out: {samples.dropped}")
    fitted, probe = _fit(file, task, samples, model, out, device, batch)
    head = LinearHead(fitted, model.encoder.find_slot(kind.sensor, kind.bands, task.encoding.patch)["patch"])
    probe |= {"sha256": digest_of_head(head), "gsd_m": kind.gsd_m}
    _must_be_ours(out, list(chosen), probe["sha256"])
    say(f"probe on the test side: accuracy {probe['test']['accuracy']:.4f}, without features {probe['without_features']['accuracy']:.4f}")
    options = {"window_px": samples.chips.values.shape[-1] if window_px is None else window_px, "overlap_px": overlap_px}
    options |= {"patch": task.encoding.patch, "batch": batch, "device": device} | _told(task.encoding, samples)
    summary = {"model": str(model_folder), "kind": "map", "task": task.name, "classes": list(samples.names), "probe": probe}
    return write_scenes(summary, chosen, left_out, out, ".tif", functools.partial(_map, model_folder, head, samples.names, options), say)


def _map(
    model_folder: pathlib.Path, head: LinearHead, classes: Sequence[str], options: dict[str, Any], scene: Any, out: pathlib.Path
) -> dict[str, Any]:
    return map_scene(model_folder, head, classes, scene, out, **options)


def _fit(
    file: pathlib.Path, task: Task, samples: Samples, model: Model, out: pathlib.Path, device: str, batch: int
) -> tuple[Fitted, dict[str, Any]]:
    """The probe, fitted to the training side, and what is told of it."""
    splits = make_splits(task, samples)
    if len(splits) > 1:
        raise InputError(f"{file}: split of kind {task.split.kind!r} makes {len(splits)} splits; a map takes one: spatial, column")
    encoding = dataclasses.replace(task.encoding, layers=(LAST,), pooling=("token",))
    (tokens,) = encoder_features(model, samples.chips, encoding, out / CACHE, device, batch)
    everything = ProbeSamples(tokens.values, samples.targets, inner_groups(task, samples))
    train, test = everything.take(splits[0].train), everything.take(splits[0].test)
    seed, names = task.seeds[0], samples.names
    try:
        fitted = fit_probe("linear", "classification", train, seed, len(names))
        guess = fit_probe(BASELINE["classification"], "classification", train, seed, len(names))
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    figures = [figures_of("classification", test.targets, one.outputs(test.features), names) for one in (fitted, guess)]
    probe = {"name": "linear", "layer": LAST, "pooling": "token", "seed": seed, "strength": fitted.strength}
    probe |= {"strength_at_edge": fitted.at_edge, "converged": fitted.converged, "train_n": len(train.targets)}
    return fitted, probe | {"counts": samples.counts(splits[0].train), "test": figures[0], "without_features": figures[1]}


def _told(encoding: Encoding, samples: Samples) -> dict[str, bool]:
    """Whether the encoder was told where and when the samples are."""
    location = encoding.location and samples.chips.ground is not None
    return {"location": location, "date": encoding.date and bool(samples.chips.time[:, 0].any())}


def _must_be_ours(out: pathlib.Path, names: Sequence[str], digest: str) -> None:
    """Refuses a folder with finished maps of another probe."""
    for file in (out / f"{name}.tif" for name in names):
        if file.exists():
            with rasterio.open(file) as dataset:
                other = dataset.tags().get("head_digest")
            if other != digest:
                raise InputError(f"{file}: is there already and no map of this probe; choose another --out, or delete it")

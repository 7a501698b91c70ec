"""Embeddings of the scenes of a folder with a `scenes.yaml`: which of them the model can see, by which bands, where each goes."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import json
import pathlib
from typing import Any

from rsfm_jax.errors import InputError, nearest
from rsfm_jax.evaluate.scenes.embed import embed_chips, embed_scene
from rsfm_jax.ingest.describe import find_scenes
from rsfm_jax.ingest.scenes import Scene
from rsfm_jax.torch.folders import read_config

SUMMARY = "summary.json"
KINDS = {"patches": ".tif", "chips": ".parquet"}


def embed_folder(
    model_folder: pathlib.Path,
    scenes: pathlib.Path,
    out: pathlib.Path,
    kind: str,
    names: Sequence[str] = (),
    bands: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> dict[str, Any]:
    """Embeds scenes, one file each, and writes summary.json.

    Args:
      model_folder: An exported encoder.
      scenes: Folder with scenes.yaml.
      out: Folder to write into; scenes that are done there already are not done again.
      kind: ``"patches"``: a GeoTIFF of D bands, one cell a patch; ``"chips"``: a GeoParquet table of pooled embeddings.
      names: The scenes wanted; empty: all whose sensor the model knows, the others are named in the summary.
      bands: The bands given to the model; empty: those that the model's one input of the sensor and the scene have in common.
      say: Told of each scene as it is done.
      **options: Of `rsfm_jax.evaluate.scenes.embed.embed_scene` or `embed_chips`.

    Returns:
      The content of summary.json: ``scenes``, for each the summary of its embedding, and ``left_out`` with reasons.

    Raises:
      InputError: an unknown kind or scene, a scene wanted that the model can't see, or what embedding it raises; scenes done before stay.
    """
    if kind not in KINDS:
        raise InputError(f"--embed={kind}: must be one of {', '.join(KINDS)}, map")
    chosen, left_out = choose_scenes(model_folder, scenes, names, bands)
    embed = embed_scene if kind == "patches" else embed_chips
    summary = {"model": str(model_folder), "kind": kind}
    return write_scenes(summary, chosen, left_out, out, KINDS[kind], lambda scene, file: embed(model_folder, scene, file, **options), say)


def choose_scenes(
    model_folder: pathlib.Path, scenes: pathlib.Path, names: Sequence[str] = (), bands: Sequence[str] = (), sensor: str | None = None
) -> tuple[dict[str, Scene], dict[str, str]]:
    """Which scenes of a folder the model can see, and by which bands.

    Args:
      model_folder: As `embed_folder` takes it, like all that follow.
      scenes: See there.
      names: See there.
      bands: See there.
      sensor: The sensor wanted; None for any.

    Returns:
      The scenes with their bands, by id, and why others are left out, by id.

    Raises:
      InputError: As `embed_folder`.
    """
    known = {scene.id: scene for scene in find_scenes(scenes)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"--scene={unknown[0]}: not in {scenes}{nearest(unknown[0], known)}")
    slots = read_config(model_folder)["slots"]
    left_out, chosen = {}, {}
    for name in names or known:
        try:
            if sensor not in (None, known[name].sensor.name):
                raise InputError(f"scene {name!r}: is of {known[name].sensor.name}; {sensor} is wanted")
            chosen[name] = _with_bands(known[name], slots, bands)
        except InputError as error:
            if names:
                raise
            left_out[name] = str(error)
    if not chosen:
        raise InputError(f"--scenes={scenes}: the model can see none of the scenes: {'; '.join(left_out.values())}")
    return chosen, left_out


def write_scenes(
    summary: dict[str, Any],
    chosen: Mapping[str, Scene],
    left_out: Mapping[str, str],
    out: pathlib.Path,
    suffix: str,
    write: Callable[[Scene, pathlib.Path], dict[str, Any]],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Writes a file for each scene that has none yet, and summary.json.

    Args:
      summary: Its first entries.
      chosen: Scenes by id.
      left_out: Why others are not among them, by id.
      out: Folder, made where it is not there.
      suffix: Of the files.
      write: Writes one scene's file and returns its summary, with ``seconds`` and ``peak_rss_mb``.
      say: Told of each scene as it is done.

    Returns:
      The content of summary.json.
    """
    out.mkdir(parents=True, exist_ok=True)
    done, left_out = {}, dict(left_out)
    for name, scene in chosen.items():
        file = out / f"{name}{suffix}"
        if file.exists():
            left_out[name] = f"{file} is there already"
            continue
        done[name] = write(scene, file)
        say(f"{file}: {done[name]['seconds']:.0f} s, {done[name]['peak_rss_mb']} MB at most")
    summary = summary | {"scenes": done, "left_out": left_out}
    (out / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def _with_bands(scene: Scene, slots: Sequence[dict[str, Any]], bands: Sequence[str]) -> Scene:
    """The scene with the bands that the model is given, in the model's order."""
    of_sensor = [slot for slot in slots if slot["sensor"] == scene.sensor.name]
    if not of_sensor:
        raise InputError(
            f"scene {scene.id!r}: the model knows no {scene.sensor.name}; it knows {', '.join(sorted({s['sensor'] for s in slots}))}"
        )
    groups = [[band["name"] for band in slot["bands"]] for slot in of_sensor]
    wanted = list(bands)
    if not wanted:
        if len(groups) > 1:
            raise InputError(
                f"scene {scene.id!r}: choose the bands; the model's groups are {'; '.join(','.join(group) for group in groups)}"
            )
        wanted = [name for name in groups[0] if name in scene.bands]
    missing = [name for name in wanted if name not in scene.bands]
    if missing or not wanted:
        raise InputError(f"scene {scene.id!r}: has no band {', '.join(missing) or ','.join(groups[0])}; it has {', '.join(scene.bands)}")
    return dataclasses.replace(scene, bands={name: scene.bands[name] for name in wanted})

"""All scenes looked at, in tasks of many, with those that cannot be read named."""

from collections.abc import Sequence
import functools

from etils import epath

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.chips import ChipReader
from rsfm_jax.ingest.raster import OpenScene, open_scene
from rsfm_jax.ingest.scenes import Scene
from rsfm_jax.ingest.suspicions import check_values
from rsfm_jax.ingest.tasks import put, result, run_tasks

_SCENES_OF_A_TASK = 64
Broken = tuple[Scene, str]


def open_scenes(
    scenes: list[Scene], work: epath.Path, strict: bool, beam_args: Sequence[str] | None
) -> tuple[list[OpenScene], list[Broken]]:
    """Looks at the files of all scenes.

    Args:
      scenes: As described.
      work: Where tasks keep what they took and gave.
      strict: Whether the first scene that cannot be read raises.
      beam_args: Options of Apache Beam; None works in this process.

    Returns:
      The scenes that can be read, in order, and the others with what is wrong with them.

    Raises:
      InputError: A scene cannot be read, where strict.
    """
    starts = range(0, len(scenes), _SCENES_OF_A_TASK)
    names = [f"scenes-{start:07d}" for start in starts]
    for name, start in zip(names, starts, strict=True):
        put(work, name, scenes[start : start + _SCENES_OF_A_TASK])
    run_tasks(work, names, functools.partial(_open_all, strict=strict), beam_args)
    opened: list[OpenScene] = []
    broken: list[Broken] = []
    for name in names:
        of_task, broken_of_task = result(work, name)
        opened += of_task
        broken += broken_of_task
    return opened, broken


def _open_all(scenes: list[Scene], strict: bool) -> tuple[list[OpenScene], list[Broken]]:
    opened, broken = [], []
    with ChipReader() as reader:
        for scene in scenes:
            try:
                one = open_scene(scene)
                check_values([one], reader)
                opened.append(one)
            except InputError as error:
                if strict:
                    raise
                broken.append((scene, str(error)))
    return opened, broken

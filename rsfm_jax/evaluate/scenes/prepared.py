"""An exported encoder and a scene that fit each other: what every output of a scene starts from.

Legend: B windows, D width.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import pathlib
import resource
import sys
import time
from typing import Any

import torch

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.scenes.pieces import Pieces
from rsfm_jax.evaluate.scenes.reading import SceneInput, WindowReader
from rsfm_jax.evaluate.scenes.streaming import Encode
from rsfm_jax.evaluate.scenes.windows import WindowPlan
from rsfm_jax.ingest.scenes import Scene
from rsfm_jax.torch.folders import folder_digest, open_encoder
from rsfm_jax.torch.modeling_rsfm import Encoded, RSFMEncoder


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A model, a scene and its windows; made by `prepare`.

    Attributes:
      model: The encoder, on its device.
      digest: SHA-256 of its config.json, which holds that of the weights.
      reader: The scene.
      slot: The encoder's kind of input that the scene is, an entry of config.json.
      plan: The windows.
      started: `time.perf_counter` at the start.
    """

    model: RSFMEncoder
    digest: str
    reader: WindowReader
    slot: dict[str, Any]
    plan: WindowPlan
    started: float

    @property
    def width(self) -> int:
        """D."""
        return self.model.config["width"]

    def encoder(self, take: Callable[[Encoded], torch.Tensor], location: bool = True, date: bool = True) -> Encode:
        """What windows go through: the encoder, told where and when they are or not, and then ``take``."""
        device = next(self.model.parameters()).device
        fixed = {"sensor": self.slot["sensor"], "bands": self.reader.bands, "patch": self.plan.patch}

        def encode(*tensors: torch.Tensor) -> torch.Tensor:
            values, valid, grid_m, footprint_deg, time = (tensor.to(device) for tensor in tensors)
            told = fixed | {"values": values, "valid": valid, "grid_m": grid_m} | ({"time": time} if date else {})
            return take(self.model([told], footprint_deg if location else None))

        return encode

    def arguments(self, more: dict[str, Any]) -> dict[str, Any]:
        """All that decides over an output's values, as JSON, with ``more``, which is the output's own."""
        windows = dataclasses.asdict(self.plan)
        return {"model": self.digest, "scene": self.reader.fingerprint(), "windows": windows, "torch": torch.__version__} | more

    def summary(self, pieces: Pieces, resumed_at: int) -> dict[str, Any]:
        """What is told of a finished run, as JSON."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        return pieces.counts | {
            "scene": self.reader.name,
            "resumed_at": resumed_at,
            "seconds": round(time.perf_counter() - self.started, 2),
            "peak_rss_mb": round(peak),
            "gsd_m": next(iter(self.reader.scene.bands.values())).gsd_m,
            "trained_gsd_m": self.slot["gsd_m"],
            "patch": self.plan.patch,
        }


@contextlib.contextmanager
def prepare(
    model_folder: str | pathlib.Path, scene: SceneInput | Scene, side: int | None, overlap: int | None, patch: int | None, device: str
) -> Iterator[Prepared]:
    """Loads an encoder and opens a scene.

    Args:
      model_folder: An exported encoder.
      scene: The scene; its bands are what the encoder is given.
      side: Window side in pixels; None: the side of the chips that the model was trained on.
      overlap: What neighbouring windows share, pixels; None: a quarter of the side, rounded down to whole patches.
      patch: Patch side in pixels, where the model has several for the sensor.
      device: PyTorch device.

    Yields:
      Both, with the windows; the scene's files are closed afterwards.

    Raises:
      InputError: a folder that holds no intact encoder, a scene that cannot be read, or one that the encoder does not know.
    """
    started = time.perf_counter()
    model, digest = open_encoder(model_folder).to(device), folder_digest(model_folder)
    with WindowReader(scene) as reader:
        try:
            slot = model.find_slot(reader.scene.scene.sensor.name, reader.bands, patch)
        except ValueError as error:
            raise InputError(f"scene {reader.name!r}: {error}") from error
        window = int(slot["pixels"]) if side is None else side
        shared = window // 4 // slot["patch"] * slot["patch"] if overlap is None else overlap
        yield Prepared(model, digest, reader, slot, WindowPlan(reader.height, reader.width, slot["patch"], window, shared), started)

"""The part of a task file that says what is restored: images of one ground, what is predicted from which, and how inputs are spoilt."""

import dataclasses
from typing import Literal

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.figures.image_metrics import SSIM_WINDOW_PX
from rsfm_jax.evaluate.tasks.task_sources import Imagery


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images of one ground.

    Attributes:
      target: Id of the scene whose pixels are predicted.
      inputs: Ids of the scenes that the prediction is made from. The first is the image to restore, with the target's bands; it may be the
        target itself where `degrade` or `gaps` spoils it.
    """

    target: str
    inputs: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.inputs or len(set(self.inputs)) < len(self.inputs):
            raise InputError(f"inputs are {list(self.inputs)}; expected at least one, each once")


@dataclasses.dataclass(frozen=True)
class Gaps:
    """Pixels taken out of the first input, in all its bands: the smallest values of noise smoothed by a Gaussian.

    Attributes:
      share: Of the pixels of each chip.
      blob_px: Standard deviation of the Gaussian, in pixels: about the radius of a gap.
      seed: Draws them, with the set and the place.
    """

    share: float
    blob_px: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or not self.blob_px > 0 or self.seed < 0:
            raise InputError(
                f"share is {self.share:g}, blob_px {self.blob_px:g} and seed {self.seed}; expected between 0 and 1, above 0, and at least 0"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Restored(Imagery):
    """Images to restore: some of a place are given, another one, or one of them unspoilt, is predicted. `window_px` are the target's.

    Attributes:
      sets: Images of one ground each, of the same sensors and bands in the same order.
      stride_px: Of the grid of chips, in pixels of the target.
      data_range: Span of possible values in the target's unit, for PSNR and SSIM.
      degrade: Inputs are area means over so many pixels a side (Wald's protocol); None to take them as they are.
      gaps: What is taken out of the first input; None for nothing.
      block_px: Side of the blocks of Q2n.
    """

    kind: Literal["restored"]
    sets: tuple[ImageSet, ...]
    stride_px: int
    data_range: float
    degrade: int | None = None
    gaps: Gaps | None = None
    block_px: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sets or self.stride_px < 1 or not self.data_range > 0:
            raise InputError(
                f"sets, stride_px and data_range are {len(self.sets)} sets, {self.stride_px} and {self.data_range:g}; none may be 0"
            )
        if self.resample is not None:
            raise InputError("resample: a resampled image is no truth; give each GSD a scene of its own")
        if self.degrade is not None and (self.degrade < 2 or self.gaps is not None):
            raise InputError(f"degrade is {self.degrade}, gaps {self.gaps}; expected at least 2, and one of both at most")
        if self.block_px < 1 or self.window_px % self.block_px or self.window_px < SSIM_WINDOW_PX:
            raise InputError(
                f"window_px is {self.window_px} and block_px {self.block_px}; expected a multiple of the blocks of Q2n, and at least "
                f"{SSIM_WINDOW_PX} for SSIM"
            )
        counts = {len(one.inputs) for one in self.sets}
        if len(counts) > 1:
            raise InputError(f"sets: have {sorted(counts)} inputs; expected the same number in all")
        for one in self.sets:
            if (one.target in one.inputs) != (self.degrade is not None or self.gaps is not None) or one.target in one.inputs[1:]:
                raise InputError(
                    f"sets: target {one.target!r} with inputs {', '.join(one.inputs)}: expected the target as first input where degrade "
                    "or gaps spoils it, and no input else"
                )

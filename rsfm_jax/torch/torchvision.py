"""torchvision: Faster R-CNN and Mask R-CNN on an exported folder of the format "rsfm".

    from rsfm_jax.torch.folders import open_encoder
    from rsfm_jax.torch.images import ImageEncoder
    from rsfm_jax.torch.torchvision import detector
    model = detector(ImageEncoder(open_encoder("weights"), "neon_rgb", gsd_m=0.1), num_classes=2, masks=True)
    losses = model(images, targets)    # in training mode; images: a list of physical values (C, H, W), NaN where not observed
    found = model.eval()(images)       # boxes, labels, scores and masks in pixels of each image

torchvision's own transform of images would subtract ImageNet's mean, resize each image to 800 pixels, which changes its pixels' size on
the ground, and pad with zeros, which are values like any other here. `PhysicalTransform` stands in its place.

Legend: C bands, D encoder width, H W pixels, p patch side.
"""

from collections.abc import Sequence
import math
from typing import Any

import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from rsfm_jax.torch.heads.pyramid import STRIDES, PyramidBackbone, SimpleFeaturePyramid
from rsfm_jax.torch.images import ImageEncoder, Taps

_FIXED = ("image_mean", "image_std", "min_size", "max_size", "fixed_size", "size_divisible", "_skip_resize")


class PhysicalTransform(GeneralizedRCNNTransform):
    """Images as they are: physical values, their own size, in a batch padded below and to the right with NaN, which is no observation."""

    def __init__(self, size_divisible: int) -> None:
        """Fixes the padding.

        Args:
          size_divisible: Batches have multiples of it as height and width.
        """
        super().__init__(min_size=1, max_size=1, image_mean=[0.0], image_std=[1.0], size_divisible=size_divisible)

    def normalize(self, image: torch.Tensor) -> torch.Tensor:
        """The image (C, H, W) itself: the encoder normalises by the statistics of the bands."""
        return image

    def resize(self, image: torch.Tensor, target: dict[str, torch.Tensor] | None = None) -> tuple[torch.Tensor, Any]:
        """The image and its target themselves: another size would be another GSD than the encoder is told."""
        return image, target

    def batch_images(self, images: list[torch.Tensor], size_divisible: int = 32) -> torch.Tensor:
        """Images (C, H, W) of any sizes as one batch.

        Args:
          images: The images.
          size_divisible: See `__init__`.

        Returns:
          (B, C, height, width), NaN beyond each image.
        """
        height, width = (-(-max(image.shape[dim] for image in images) // size_divisible) * size_divisible for dim in (-2, -1))
        batch = images[0].new_full((len(images), images[0].shape[0], height, width), math.nan)
        for padded, image in zip(batch, images, strict=True):
            padded[:, : image.shape[-2], : image.shape[-1]] = image
        return batch


def detector(
    encoder: ImageEncoder,
    num_classes: int,
    masks: bool = False,
    channels: int = 256,
    anchors_px: Sequence[int] = (32, 64, 128, 256, 512),
    **options: Any,
) -> FasterRCNN:
    """A detector on the simple feature pyramid of an encoder.

    Freeze the encoder with `rsfm_jax.torch.tuning.prepare(encoder, "frozen")`, or fine-tune it with "lora" or "full".

    Args:
      encoder: One sensor's images; trained along.
      num_classes: Classes with the background, which is class 0.
      masks: Mask R-CNN, which also gives a mask for each box; else Faster R-CNN.
      channels: Of the pyramid's maps.
      anchors_px: Sides of the anchors at strides 4, 8, 16, 32 and 64 pixels, near the sizes of the objects.
      **options: Of torchvision's class, but those that change images.

    Returns:
      torchvision's `FasterRCNN` or `MaskRCNN`.

    Raises:
      ValueError: not one anchor for each map, or an option that would change the images.
    """
    changing = [name for name in _FIXED if name in options]
    if changing:
        raise ValueError(f"{changing[0]} is not to be given: the encoder takes physical values at its own pixel size and normalises them")
    if len(anchors_px) != len(STRIDES) + 1:
        raise ValueError(f"anchors_px has {len(anchors_px)} sizes; expected {len(STRIDES) + 1}, one for each map from p2 to p6")
    pyramid = SimpleFeaturePyramid(encoder.encoder.config["width"], encoder.patch_size, channels, p6=True)
    names = list(STRIDES)
    made = {
        "rpn_anchor_generator": AnchorGenerator(tuple((side,) for side in anchors_px), ((0.5, 1.0, 2.0),) * len(anchors_px)),
        "box_roi_pool": MultiScaleRoIAlign(names, output_size=7, sampling_ratio=2),
    }
    if masks:
        made["mask_roi_pool"] = MultiScaleRoIAlign(names, output_size=14, sampling_ratio=2)
    model = (MaskRCNN if masks else FasterRCNN)(PyramidBackbone(Taps(encoder), pyramid), num_classes, **made | options)
    model.transform = PhysicalTransform(math.lcm(max(STRIDES.values()), encoder.patch_size))
    return model

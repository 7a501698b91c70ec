"""TerraTorch: importing this file registers the backbone ``rsfm_encoder``, an exported folder of the format "rsfm".

    import rsfm_jax.torch.terratorch
    from terratorch.registry import BACKBONE_REGISTRY
    model = BACKBONE_REGISTRY.build("rsfm_encoder", ckpt_path="weights", sensor="sentinel2_l2a", bands=["B02", "B03", "B04"])

Values are physical, in the unit that config.json states for each band, and are refused otherwise: in the data module set the means to 0 and
the standard deviations to 1, and ``constant_scale`` (or ``scale`` and ``offset`` here) to what turns the files' numbers into that unit.

Legend: B batch, C bands, T dates, H W pixels, N patches of a date (h rows, w columns), D width.
"""

from collections.abc import Sequence
from typing import Any

from terratorch.registry import TERRATORCH_BACKBONE_REGISTRY
import torch

from rsfm_jax.torch.folders import open_encoder
from rsfm_jax.torch.images import ImageEncoder, known_time


class RSFMBackbone(ImageEncoder):
    """The encoder as TerraTorch's factories take it.

    Attributes:
      out_channels: Channels of each tapped layer: T * D, for the dates are stacked there.
      out_indices: Tapped blocks.
      patch_size: Patch side in pixels.
    """

    def __init__(
        self, *args: Any, num_frames: int = 1, out_indices: Sequence[int] | None = None, first_day: int = 0, **kwargs: Any
    ) -> None:
        """As `rsfm_jax.torch.images.ImageEncoder`, and what `rsfm_encoder` says."""
        super().__init__(*args, **kwargs)
        if num_frames < 1:
            raise ValueError(f"num_frames is {num_frames}; expected at least 1, the number of dates")
        if first_day not in (0, 1):
            raise ValueError(f"first_day is {first_day}; expected 0 or 1, the number of January 1 in temporal_coords")
        self.num_frames, self.first_day, self.out_indices = num_frames, first_day, self.blocks(out_indices)
        self.out_channels = [num_frames * self.encoder.config["width"]] * len(self.out_indices)
        self._grid = (0, 0)

    def forward(
        self, x: torch.Tensor, temporal_coords: torch.Tensor | None = None, location_coords: torch.Tensor | None = None, **_: Any
    ) -> list[torch.Tensor]:
        """Tokens after the tapped blocks.

        Args:
          x: Physical values, (B, C, H, W) or (B, C, T, H, W); NaN where there is no observation.
          temporal_coords: Year and day of year, (B, T, 2), NaN for an unknown date.
          location_coords: Latitude and longitude of the centre, (B, 2).
          **_: Other entries of TerraTorch's batches, unused.

        Returns:
          For each tapped block (B, 1 + T * N, D): the class token, or the mean of the tokens where the model has none, then date by date,
          row by row. The last block's are those after the final norm.

        Raises:
          ValueError: a wrong shape, another number of dates than ``num_frames``, or values that are not in the stated unit.
        """
        dates = x.shape[2] if isinstance(x, torch.Tensor) and x.ndim == 5 else 1
        if dates != self.num_frames:
            raise ValueError(f"x holds {dates} dates; this backbone was built for num_frames={self.num_frames}")
        time = None
        if temporal_coords is not None:
            if temporal_coords.shape != (len(x), dates, 2):
                raise ValueError(f"temporal_coords are {tuple(temporal_coords.shape)}; expected {(len(x), dates, 2)}: year and day of year")
            year, day = temporal_coords.float().unbind(-1)
            time = known_time(year, day - self.first_day)
        encoded = self.encode(x, time, location_coords)
        self._grid = tuple(encoded.grids[0].shape[-2:])
        tokens = self.tokens_after(encoded, self.out_indices)
        if self.encoder.cls_token is None:
            tokens = [torch.cat([layer.mean(dim=1, keepdim=True), layer], dim=1) for layer in tokens]
        return tokens

    def prepare_features_for_image_model(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Tokens of the last `forward` as maps (B, T * D, h, w) of any size; TerraTorch calls it where no neck is configured."""
        maps = [x[:, 1:].unflatten(1, (self.num_frames, *self._grid)) for x in features]
        return [x.permute(0, 1, 4, 2, 3).flatten(1, 2) for x in maps]


@TERRATORCH_BACKBONE_REGISTRY.register
def rsfm_encoder(
    pretrained: bool = True,
    ckpt_path: str | None = None,
    sensor: str | None = None,
    bands: Sequence[str] | None = None,
    gsd_m: float | None = None,
    num_frames: int = 1,
    out_indices: Sequence[int] | None = None,
    patch: int | None = None,
    scale: float = 1.0,
    offset: float = 0.0,
    first_day: int = 0,
) -> RSFMBackbone:
    """Builds the backbone.

    Args:
      pretrained: Load the weights; otherwise the encoder of the folder's config.json starts at random.
      ckpt_path: The exported folder.
      sensor: Sensor name, as config.json has it.
      bands: Band names in the images' order; None for all of the one kind of input that the sensor has.
      gsd_m: Metres per pixel; None for the training's.
      num_frames: Dates of an image, T.
      out_indices: Tapped blocks, from 0, negative ones from the end; None for all.
      patch: Patch side, where the model has several for the sensor.
      scale: Images times this, plus ``offset``, are in the unit that config.json states.
      offset: See ``scale``.
      first_day: What ``temporal_coords`` call January 1: 0 in most of TerraTorch's datasets, 1 in its burn scars and ForestNet.

    Returns:
      The backbone.

    Raises:
      ValueError: a missing argument, a wrong folder, or an input that the model was not trained on.
    """
    if ckpt_path is None or sensor is None:
        raise ValueError("rsfm_encoder needs ckpt_path, the folder of an exported encoder, also for pretrained=False, and sensor")
    encoder = open_encoder(ckpt_path, pretrained)
    choice = {"bands": bands, "gsd_m": gsd_m, "patch": patch, "scale": scale, "offset": offset}
    return RSFMBackbone(encoder, sensor, num_frames=num_frames, out_indices=out_indices, first_day=first_day, **choice)

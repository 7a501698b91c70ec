"""torchgeo-bench: an exported folder of the format "rsfm" as a model that the benchmark's probes take.

    _target_: rsfm_jax.torch.torchgeo_bench.RSFMBench
    folder: weights
    sensor: sentinel2_l2a
    names: [B04, B03, B02]          # of the benchmark's bands, in their order

The encoder takes physical values. Under ``normalization: model_native`` the benchmark brings Sentinel-2 digital numbers to reflectance; for
all else (radar, 8-bit Landsat, offsets) choose ``identity`` and give ``scale`` and ``offset``.

Legend: B batch, C bands, H W pixels, K width of the features, D width of the tokens.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torchgeo_bench.datasets.base import BandSpec
from torchgeo_bench.models._input_units import InputUnit, detect_input_unit
from torchgeo_bench.models.interface import BenchModel

from rsfm_jax.torch.folders import open_encoder
from rsfm_jax.torch.images import ImageEncoder


class RSFMBench(BenchModel):
    """The encoder behind the benchmark's interface; features are the mean of the tokens that hold an observation, K = D."""

    expected_input_unit = InputUnit.REFLECTANCE_0_1
    pretrain_mean = None  # the encoder normalises
    pretrain_std = None

    def __init__(
        self,
        bands: list[BandSpec],
        *,
        folder: str,
        sensor: str,
        names: Sequence[str] | None = None,
        gsd_m: float | None = None,
        patch: int | None = None,
        normalization: str = "model_native",
        scale: float = 1.0,
        offset: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Loads the encoder.

        Args:
          bands: The benchmark's bands; given by its runner.
          folder: The exported folder.
          sensor: Sensor name, as config.json has it.
          names: The model's names of ``bands``, in their order; None where ``source_name`` of each is such a name.
          gsd_m: Metres per pixel; None for the training's.
          patch: Patch side, where the model has several for the sensor.
          normalization: "model_native", or "identity".
          scale: With "identity": values times this, plus ``offset``, are in the unit that config.json states.
          offset: See ``scale``.
          **kwargs: Passed to `BenchModel`.

        Raises:
          ValueError: an input that the model was not trained on, or values that can't be brought into its unit.
        """
        if normalization not in ("model_native", "identity"):
            raise ValueError(
                f"normalization is {normalization!r}; the encoder takes physical values: expected 'model_native' or 'identity'"
            )
        super().__init__(bands=bands, normalization=normalization, **kwargs)
        names = [band.source_name for band in bands] if names is None else list(names)
        if len(names) != len(bands):
            raise ValueError(f"names are {', '.join(names)}; expected one for each of {', '.join(band.name for band in bands)}")
        self.images = ImageEncoder(open_encoder(folder), sensor, names, gsd_m, patch, scale, offset)
        if normalization == "model_native":
            self._check_reflectance(scale, offset)

    def _check_reflectance(self, scale: float, offset: float) -> None:
        """That what the benchmark makes of its bands' values is what the encoder calls reflectance."""
        slot = self.images.encoder.find_slot(self.images.sensor, self.images.bands, self.images.patch_size)
        units = {band["name"]: band["unit"] for band in slot["bands"]}
        other = [name for name in self.images.bands if units[name] != "reflectance"]
        if other or detect_input_unit(self.bands) is InputUnit.UINT8:
            what = f"{other[0]} is in {units[other[0]]}" if other else "the benchmark's values are of 8 bits, not reflectance"
            raise ValueError(f"normalization='model_native': {what}; choose 'identity' and give scale and offset")
        if (scale, offset) != (1.0, 0.0):
            raise ValueError("scale and offset go with normalization='identity'; 'model_native' makes reflectance of the values by itself")

    @torch.no_grad()
    def _forward_patch_features(self, images: torch.Tensor) -> torch.Tensor:
        """Pooled features (B, K) of physical values (B, C, H, W)."""
        return self.images.encode(images).pooled

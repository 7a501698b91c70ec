"""PANGAEA: an exported folder of the format "rsfm" as an encoder of the benchmark.

    _target_: rsfm_jax.torch.pangaea.RSFMPangaea
    encoder_weights: weights
    sensor: sentinel2_l2a
    input_size: 224
    input_bands: {optical: [B2, B3, B4, B8]}      # the dataset's names
    bands: [B02, B03, B04, B08]                   # the model's, in the same order
    output_layers: [5, 11, 17, 23]
    scale: 1.0e-4

Values are physical after ``scale`` and ``offset``: leave PANGAEA's NormalizeMeanStd out of the preprocessing, and BandPadding with it, for
bands that a dataset lacks are left out here, never filled with zeros.

Source: the contract is that of pangaea/encoders/base.py and pangaea/decoders/upernet.py in github.com/VMarsocci/pangaea-bench; the library
is in no package index, so it has not been run with this file.

Legend: B batch, C bands, T dates, H W pixels, h w rows and columns of patches, D width.
"""

from collections.abc import Sequence
import json
import logging
import pathlib

from pangaea.encoders.base import Encoder
import torch

from rsfm_jax.torch.folders import open_encoder
from rsfm_jax.torch.images import ImageEncoder


class RSFMPangaea(Encoder):
    """The encoder behind PANGAEA's interface; the last block's tokens are those after the final norm."""

    def __init__(
        self,
        encoder_weights: str | pathlib.Path,
        sensor: str,
        input_bands: dict[str, list[str]],
        input_size: int,
        output_layers: Sequence[int],
        bands: Sequence[str] | None = None,
        gsd_m: float | None = None,
        patch: int | None = None,
        scale: float = 1.0,
        offset: float = 0.0,
        multi_temporal: bool = False,
        model_name: str = "rsfm",
        download_url: str = "",
    ) -> None:
        """Builds the encoder with random weights; PANGAEA then calls `load_encoder_weights`.

        Args:
          encoder_weights: The exported folder.
          sensor: Sensor name, as config.json has it.
          input_bands: The dataset's names of the bands, of one modality.
          input_size: Height and width in pixels, a multiple of the patch.
          output_layers: Tapped blocks, from 0; PANGAEA's UPerNet takes four.
          bands: The model's names of the same bands, in the same order; None where they are the same.
          gsd_m: Metres per pixel; None for the training's.
          patch: Patch side, where the model has several for the sensor.
          scale: Images times this, plus ``offset``, are in the unit that config.json states.
          offset: See ``scale``.
          multi_temporal: Encode all dates of an image jointly, instead of one by one.
          model_name: Name in PANGAEA's logs.
          download_url: Must be empty.

        Raises:
          ValueError: an input that the model was not trained on.
        """
        if len(input_bands) != 1:
            raise ValueError(f"input_bands have {len(input_bands)} modalities; expected one, of the sensor {sensor!r}")
        if download_url:
            raise ValueError(f"download_url is {download_url!r}; expected none: encoder_weights is an exported folder")
        ((modality, theirs),) = input_bands.items()
        names = list(theirs if bands is None else bands)
        if len(names) != len(theirs):
            raise ValueError(f"bands are {', '.join(names)}; expected one for each of input_bands: {', '.join(theirs)}")
        images = ImageEncoder(open_encoder(encoder_weights, pretrained=False), sensor, names, gsd_m, patch, scale, offset)
        if input_size % images.patch_size:
            raise ValueError(f"input_size is {input_size}; expected a multiple of the patch, {images.patch_size}")
        width = images.encoder.config["width"]
        super().__init__(
            model_name=model_name,
            input_bands=input_bands,
            input_size=input_size,
            embed_dim=width,
            output_layers=images.blocks(output_layers),
            output_dim=width,
            multi_temporal=multi_temporal,
            multi_temporal_output=multi_temporal,
            pyramid_output=False,
            encoder_weights=encoder_weights,
            download_url=download_url,
        )
        self.images, self.modality = images, modality
        self._freeze_unused()

    def _freeze_unused(self) -> None:
        """PANGAEA trains distributed, where no trainable parameter may be unused: the known places' and what follows the last tap."""
        encoder, last = self.images.encoder, max(self.output_layers)
        for name, parameter in encoder.named_parameters():
            known_place = name.startswith("encodings.place.") and name != "encodings.place.unknown"
            later = name.startswith(tuple(f"blocks.{i}." for i in range(last + 1, len(encoder.blocks))))
            if known_place or later or (name.startswith("norm.") and last + 1 < len(encoder.blocks)):
                parameter.requires_grad_(False)

    def load_encoder_weights(self, logger: logging.Logger) -> None:
        """Loads the folder's weights, strictly.

        Raises:
          ValueError: the weights are not the ones that config.json was written for.
        """
        self.images.encoder.load_state_dict(open_encoder(self.encoder_weights).state_dict(), strict=True)
        training = json.loads((pathlib.Path(self.encoder_weights) / "config.json").read_text())["training"]
        logger.info("loaded %s, %s steps on dataset %s", self.encoder_weights, training["step"], training["dataset_digest"])

    def forward(self, x: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        """Maps after the tapped blocks; dates and place are unknown to PANGAEA's encoders.

        Args:
          x: The modality's values, (B, C, H, W), or with ``multi_temporal`` (B, C, T, H, W).

        Returns:
          For each tapped block (B, D, h, w), or with ``multi_temporal`` (B, D, T, h, w).

        Raises:
          ValueError: the modality is missing, a wrong shape, or values that are not in the stated unit.
        """
        if self.modality not in x:
            raise ValueError(f"x holds {', '.join(x) or 'nothing'}; expected {self.modality!r}")
        values, dims = x[self.modality], 5 if self.multi_temporal else 4
        if values.ndim != dims:
            shape = "(B, C, T, H, W)" if self.multi_temporal else "(B, C, H, W)"
            raise ValueError(f"x[{self.modality!r}] is {tuple(values.shape)}; with multi_temporal={self.multi_temporal} expected {shape}")
        maps = self.images.maps_after(self.images.encode(values), self.output_layers)
        return maps if self.multi_temporal else [layer.squeeze(2) for layer in maps]

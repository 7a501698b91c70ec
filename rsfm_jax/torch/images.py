"""An exported encoder for the images of one sensor, in the shapes that other libraries give: (B, C, H, W) or (B, C, T, H, W).

Owns what the plug-ins of TerraTorch, PANGAEA, torchvision and torchgeo-bench share: choosing the kind of input, units, footprints from
centres, and the tapped layers. Each library's own contract is in the file of its name.

Legend: B batch, C bands, T dates, H W pixels, N patches of a date (h rows, w columns), D width.
"""

from collections.abc import Sequence

import torch
from torch import nn

from rsfm_jax.torch.modeling_rsfm import Encoded, RSFMEncoder

METRES_PER_DEGREE = 40_007_863.0 / 360  # along a meridian, WGS 84


def footprints_deg(centre_deg: torch.Tensor, height_m: float, width_m: float) -> torch.Tensor:
    """Corners of north-up images on a sphere's local plane; a few metres off at a few kilometres' size.

    Args:
      centre_deg: Latitude and longitude of each image's centre, (B, 2).
      height_m: North to south.
      width_m: West to east.

    Returns:
      (B, 4, 2) float64: longitude and latitude of upper left, upper right, lower right, lower left.
    """
    lat, lon = centre_deg.double().unbind(-1)
    north = torch.full_like(lat, height_m / 2 / METRES_PER_DEGREE)
    east = width_m / 2 / (METRES_PER_DEGREE * lat.deg2rad().cos())
    corners = [(lon + x * east, lat + y * north) for x, y in ((-1, 1), (1, 1), (1, -1), (-1, -1))]
    return torch.stack([torch.stack(corner, dim=-1) for corner in corners], dim=1)


class ImageEncoder(nn.Module):
    """An encoder for one sensor and choice of bands; dates of one place are encoded jointly."""

    def __init__(
        self,
        encoder: RSFMEncoder,
        sensor: str,
        bands: Sequence[str] | None = None,
        gsd_m: float | None = None,
        patch: int | None = None,
        scale: float = 1.0,
        offset: float = 0.0,
    ) -> None:
        """Chooses the input; parameters of the encoder's other inputs are frozen, for distributed training refuses trainable ones unused.

        Args:
          encoder: The exported encoder.
          sensor: Sensor name, as config.json has it.
          bands: Band names in the images' order; None for all of the one kind of input that the sensor has.
          gsd_m: Metres per pixel; None for the training's.
          patch: Patch side, where the model has several for the sensor.
          scale: Images times this, plus ``offset``, are in the unit that config.json states; 1 where they are already.
          offset: See ``scale``.

        Raises:
          ValueError: the model was not trained on such an input.
        """
        super().__init__()
        if bands is None:
            slots = [slot for slot in encoder.config["slots"] if slot["sensor"] == sensor and patch in (None, slot["patch"])]
            if len(slots) > 1 or any("choose" in slot for slot in slots):
                offers = "; ".join(f"{', '.join(band['name'] for band in slot['bands'])} (patch {slot['patch']})" for slot in slots)
                raise ValueError(f"sensor {sensor!r}: name the bands, the model has several kinds of input for it: {offers}")
            bands = [band["name"] for slot in slots for band in slot["bands"]]
        slot = encoder.find_slot(sensor, bands, patch)
        gsd_m = slot.get("gsd_m") if gsd_m is None else gsd_m
        if not gsd_m or gsd_m <= 0:
            raise ValueError(f"gsd_m is {gsd_m}; expected metres per pixel, above 0")
        self.encoder, self.sensor, self.bands, self.gsd_m = encoder, sensor, tuple(bands), float(gsd_m)
        self.patch_size: int = slot["patch"]
        self.scale, self.offset = scale, offset
        for parameters in (encoder.patch_embed, getattr(encoder.encodings, "slot", {})):
            for key, of_input in parameters.items():
                of_input.requires_grad_(key == slot["key"])

    def encode(self, images: torch.Tensor, time: torch.Tensor | None = None, centre_deg: torch.Tensor | None = None) -> Encoded:
        """Encodes images of one place each.

        Args:
          images: Float (B, C, H, W) or (B, C, T, H, W), physical after ``scale`` and ``offset``; NaN where there is no observation.
          time: Known, year, day of year from 0, (B, T, 3); None: unknown.
          centre_deg: Latitude and longitude of the images' centres, (B, 2); None: unknown.

        Returns:
          The encoded images with the tokens after each block, date by date, row by row.

        Raises:
          ValueError: a wrong shape, or values that are not in the stated unit.
        """
        if not isinstance(images, torch.Tensor) or images.ndim not in (4, 5) or images.shape[1] != len(self.bands):
            seen = tuple(images.shape) if isinstance(images, torch.Tensor) else type(images).__name__
            raise ValueError(
                f"images are {seen}; expected (B, {len(self.bands)}, H, W) or (B, {len(self.bands)}, T, H, W) for {', '.join(self.bands)}"
            )
        values = (images.float() * self.scale + self.offset).reshape(*images.shape[:2], -1, *images.shape[-2:])
        B, _, T, H, W = values.shape
        if time is not None and time.shape != (B, T, 3):
            raise ValueError(f"time is {tuple(time.shape)}; expected {(B, T, 3)}: known, year and day of year of each date")
        members = []
        for t in range(T):
            member = {"sensor": self.sensor, "bands": self.bands, "patch": self.patch_size, "gsd_m": self.gsd_m, "values": values[:, :, t]}
            member |= {"valid": torch.isfinite(values[:, :, t])}
            members.append(member if time is None else member | {"time": time[:, t]})
        footprint_deg = None
        if centre_deg is not None:
            if centre_deg.shape != (B, 2) or not bool(torch.isfinite(centre_deg).all()):
                raise ValueError(f"centres are {tuple(centre_deg.shape)}; expected {(B, 2)}: finite latitude and longitude of each image")
            footprint_deg = footprints_deg(centre_deg, H * self.gsd_m, W * self.gsd_m).to(values.device)
        return self.encoder(members, footprint_deg, return_layers=True)

    def blocks(self, numbers: Sequence[int] | None) -> list[int]:
        """Numbers of blocks, counted from 0.

        Args:
          numbers: From 0, negative ones from the end; None for all.

        Raises:
          ValueError: there is no such block, or none is asked for.
        """
        depth = len(self.encoder.blocks)
        chosen = list(range(depth) if numbers is None else numbers)
        if not chosen or any(not -depth <= i < depth for i in chosen):
            raise ValueError(
                f"layers are {chosen}; expected at least one, each from {-depth} to {depth - 1}: the encoder has {depth} blocks"
            )
        return [i % depth for i in chosen]

    def tokens_after(self, encoded: Encoded, blocks: Sequence[int]) -> list[torch.Tensor]:
        """Tokens after chosen blocks, the last block's after the final norm.

        Args:
          encoded: From `encode`.
          blocks: From `blocks`.

        Returns:
          For each block (B, T * N, D), and the class token first where the model has one.
        """
        return [encoded.tokens if i == len(encoded.layers) - 1 else encoded.layers[i] for i in blocks]

    def maps_after(self, encoded: Encoded, blocks: Sequence[int]) -> list[torch.Tensor]:
        """The same as maps, (B, D, T, h, w) for each block."""
        h, w = encoded.grids[0].shape[-2:]
        first = 0 if self.encoder.cls_token is None else 1
        return [x[:, first:].transpose(1, 2).unflatten(2, (-1, h, w)) for x in self.tokens_after(encoded, blocks)]


class Taps(nn.Module):
    """Images of one date to the features that heads take."""

    def __init__(self, images: ImageEncoder, layers: Sequence[int] = (-1,)) -> None:
        """Chooses the layers.

        Args:
          images: The encoder, with its sensor and bands; trained along.
          layers: Numbers of the blocks, from 0, negative ones from the end.

        Raises:
          ValueError: there is no such block.
        """
        super().__init__()
        self.images, self.layers = images, images.blocks(layers)

    def forward(self, values: torch.Tensor) -> list[torch.Tensor]:
        """Values (B, C, H, W), see `ImageEncoder.encode`, to (B, D, h, w) for each layer, the last block's after the final norm."""
        return [maps[:, :, 0] for maps in self.images.maps_after(self.images.encode(values), self.layers)]


def known_time(year: torch.Tensor, day: torch.Tensor) -> torch.Tensor:
    """Years and days of year from 0, each (B, T), NaN where unknown, as ``time`` (B, T, 3) of `ImageEncoder.encode`.

    Raises:
      ValueError: a day that no year has, or a year before 1900: most likely the two are exchanged.
    """
    known = torch.isfinite(year) & torch.isfinite(day)
    wrong = known & ((day < 0) | (day >= 366) | (year < 1900) | (year > 2200))
    if bool(wrong.any()):
        raise ValueError(f"a date is year {year[wrong][0]:g}, day of year {day[wrong][0]:g}; expected a year, then a day from 0 to 365")
    return torch.stack([known, torch.where(known, year, 0), torch.where(known, day, 0)], dim=-1).float()

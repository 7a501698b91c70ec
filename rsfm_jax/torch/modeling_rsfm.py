"""The exported encoder in PyTorch: this file, config.json and model.safetensors are all it takes.

    from modeling_rsfm import RSFMEncoder
    model = RSFMEncoder.from_folder("weights")
    out = model([{"sensor": "sentinel2_l2a", "bands": ("B02", "B03", "B04", "B08"), "values": reflectance, "gsd_m": 10.0}])
    out.pooled      # (B, D)
    out.grids[0]    # (B, D, rows, columns)

Values are physical, in the unit that config.json states for each band; the model normalises them itself. Needs torch and safetensors, never
jax or rsfm_jax.

Legend: B batch, H W pixels, C bands, N patches of a member, T tokens of all members, D width, A heads, E head dim.
"""

from collections.abc import Sequence
import dataclasses
import functools
import hashlib
import itertools
import json
import math
import pathlib
import shutil
from typing import Any

from safetensors.torch import load_file, save_file
import torch
from torch import nn
import torch.nn.functional as F

FORMAT_VERSION = 2
MIN_PATCHES = 4  # along a side, or the trained chips' where those were smaller
FAR_DEVIATIONS = 3.0
Member = dict[str, Any]


def sincos(position: torch.Tensor, dim: int) -> torch.Tensor:
    """Sines then cosines of positions; frequency i is ``10000 ** (-i / (dim / 2))``; appends a dim of size ``dim``."""
    half = dim // 2
    frequency = 10000.0 ** (-torch.arange(half, dtype=torch.float32, device=position.device) / half)
    angle = position[..., None].float() * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def patch_centres_m(grid_m: torch.Tensor, rows: int, columns: int, patch: int) -> torch.Tensor:
    """Centres of patches, (B, N, 2): metres east and south of the set's centre, row by row."""
    left, top, width, height = (grid_m[:, i, None] for i in range(4))
    east = left + (torch.arange(columns, device=grid_m.device) + 0.5) * patch * width
    south = -top + (torch.arange(rows, device=grid_m.device) + 0.5) * patch * height
    shape = (grid_m.shape[0], rows, columns)
    return torch.stack([east[:, None, :].expand(shape), south[:, :, None].expand(shape)], dim=-1).flatten(1, 2)


def patchify(image: torch.Tensor, patch: int) -> torch.Tensor:
    """(B, C, H, W) to (B, N, patch * patch * C), channel fastest."""
    B, C, H, W = image.shape
    tiles = image.reshape(B, C, H // patch, patch, W // patch, patch).permute(0, 2, 4, 3, 5, 1)
    return tiles.reshape(B, (H // patch) * (W // patch), patch * patch * C)


class Attention(nn.Module):
    """Self-attention over the tokens that hold an observation."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, allowed: torch.Tensor | None) -> torch.Tensor:
        """Attends within each example; x (B, T, D), allowed (B, 1 or T, T) bool, or None for all."""
        B, T, D = x.shape
        q, k, v = self.qkv(x).reshape(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        bias = None
        if allowed is not None:
            bias = torch.zeros(allowed.shape, dtype=q.dtype, device=q.device).masked_fill(~allowed, -1e9)[:, None].expand(B, 1, T, T)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(mixed.transpose(1, 2).reshape(B, T, D))


class Mlp(nn.Module):
    """Two linear layers with the exact GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the MLP to the last dim."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, hidden: int, norm: Any) -> None:
        super().__init__()
        self.norm1 = norm(width)
        self.attn = Attention(width, heads)
        self.norm2 = norm(width)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: torch.Tensor, allowed: torch.Tensor | None) -> torch.Tensor:
        """Applies the block to (B, T, D)."""
        x = x + self.attn(self.norm1(x), allowed)
        return x + self.mlp(self.norm2(x))


def geosot_bits(corners_deg: torch.Tensor) -> torch.Tensor:
    """GeoSOT-2D bits of footprints, (B, 4, 2) longitude and latitude in degrees to float (B, 256); the code of `config.json`'s training."""
    degrees = corners_deg.double().flatten(1)
    limit = torch.tensor([180.0, 90.0] * 4, dtype=torch.float64, device=degrees.device)
    if not bool((degrees.abs() <= limit).all()):
        raise ValueError("footprint_deg: longitudes are within 180 and latitudes within 90 degrees, longitude first")
    whole = degrees.abs().floor()
    minutes = (60.0 * (degrees.abs() - whole)).floor()
    seconds = 3600.0 * (degrees.abs() - whole) - 60.0 * minutes
    below = (2048.0 * seconds).floor().clamp(max=60 * 2048 - 1)
    code = (degrees < 0).long() * 2**31 + whole.long() * 2**23 + minutes.long() * 2**17 + below.long()
    return ((code[..., None] >> torch.arange(31, -1, -1, device=code.device)) & 1).float().flatten(1)


class Place(nn.Module):
    """Where the set lies, or a learned token where that is unknown."""

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        self.kind = kind
        self.unknown = nn.Parameter(torch.zeros(width))
        if kind in ("a2mae", "cartesian"):
            self.proj = nn.Linear(256 if kind == "a2mae" else 3, width)
        elif kind == "prithvi":
            self.strength = nn.Parameter(torch.zeros(1))

    def forward(self, footprint_deg: torch.Tensor | None, B: int) -> torch.Tensor:
        """Codes footprints (B, 4, 2), or None, as (B, D)."""
        if footprint_deg is None:
            return self.unknown.expand(B, -1)
        bits = geosot_bits(footprint_deg)
        lon, lat = footprint_deg.double().mean(dim=1).float().unbind(-1)
        if self.kind == "a2mae":
            return self.proj(bits)
        if self.kind == "cartesian":
            east, north = lon.deg2rad(), lat.deg2rad()
            return self.proj(torch.stack([north.cos() * east.cos(), north.cos() * east.sin(), north.sin()], dim=-1))
        if self.kind == "prithvi":
            half = self.unknown.shape[0] // 2
            return self.strength * torch.cat([sincos(lat, half), sincos(lon, half)], dim=-1)
        return bits


class Time(nn.Module):
    """When a member was seen, or a learned token where that is unknown."""

    def __init__(self, config: dict[str, Any], width: int) -> None:
        super().__init__()
        self.config, self.width = config, width
        self.unknown = nn.Parameter(torch.zeros(width))
        if config["kind"] == "season":
            self.proj = nn.Linear(config["features"], width)
        elif config["kind"] == "prithvi":
            self.strength = nn.Parameter(torch.zeros(1))

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        """Codes dates (B, 3): known, year, day of year from 0, as (B, D)."""
        year, day = time[:, 1], time[:, 2]
        if self.config["kind"] == "season":
            harmonics = torch.arange(1.0, self.config["season_harmonics"] + 1, device=time.device)
            season = 2 * math.pi * day[:, None] / self.config["days_per_year"] * harmonics
            years = sincos(year - self.config["epoch_year"], self.config["year_features"])
            code = self.proj(torch.cat([years, season.sin(), season.cos()], dim=-1))
        elif self.config["kind"] == "prithvi":
            code = self.strength * torch.cat([sincos(year, self.width // 2), sincos(day, self.width // 2)], dim=-1)
        else:
            leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
            starts = torch.tensor([31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334], device=time.device)
            starts = starts + leap[:, None] * (starts > 31)  # February begins on the same day in every year
            month = (day[:, None] >= starts).sum(dim=1)
            hour = (24.0 * (day % 1.0)).floor()
            code = torch.cat([sincos(x, self.width // 3) for x in (year - 2002.0, month, hour)], dim=-1)
        return torch.where(time[:, :1] > 0, code, self.unknown)


class Encodings(nn.Module):
    """What a token is told besides its pixels: positions, place, date, sensor and bands, GSD."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, self.config = config["width"], config["encodings"]
        time, geo = self.config["time"]["kind"], self.config["geo"]
        self.time_tail = width // 8 * 3 if time == "satmae" else 0
        self.number_tail = width // 4 if self.config["identity"] == "satmae" else 0
        self.width = width - self.time_tail - self.number_tail - (256 if geo == "a2mae_released" else 0)
        if self.config["positions"] == "learned":
            grid = self.config["learned_grid"]
            self.position_table = nn.Parameter(torch.zeros(grid, grid, self.width))
        if self.config["identity"] == "slot":
            self.slot = nn.ParameterDict({slot["key"]: nn.Parameter(torch.zeros(width)) for slot in config["slots"]})
        if self.config["gsd"]:
            self.gsd = nn.Linear(self.config["gsd"]["features"], width)
        if time != "none":
            self.time = Time(self.config["time"], self.time_tail or width)
        if geo != "none":
            self.place = Place(geo, 256 if geo == "a2mae_released" else width)

    def forward(self, t: int, embedded: Sequence["Embedded"], footprint_deg: torch.Tensor | None) -> torch.Tensor:
        """Codes the patches of member number ``t``, (B, N, D)."""
        member = embedded[t]
        (B, N, _), (rows, columns), released = member.tokens.shape, member.size, self.config["geo"] == "a2mae_released"
        parts = [self._positions(t, embedded, rows, columns)]
        if released:
            parts.insert(0, self.place(footprint_deg, B)[:, None])
        if self.time_tail:
            parts.append(self.time(member.time)[:, None])
        if self.number_tail:
            parts.append(sincos(torch.full((B, 1), float(member.slot["number"]), device=member.tokens.device), self.number_tail))
        code = torch.cat([part.expand(B, N, part.shape[-1]) for part in parts], dim=-1)
        if self.config["identity"] == "slot":
            code = code + self.slot[member.slot["key"]]
        if self.config["gsd"]:
            gsd_m = (member.grid_m[:, 2] * member.grid_m[:, 3]).sqrt()
            code = code + self.gsd(sincos(self.config["gsd"]["per_octave"] * gsd_m.log2(), self.config["gsd"]["features"]))[:, None]
        if self.config["time"]["kind"] not in ("none", "satmae"):
            code = code + self.time(member.time)[:, None]
        if self.config["geo"] != "none" and not released:
            code = code + self.place(footprint_deg, B)[:, None]
        return code

    def _positions(self, t: int, embedded: Sequence["Embedded"], rows: int, columns: int) -> torch.Tensor:
        kind, grid_m, patch = self.config["positions"], embedded[t].grid_m, embedded[t].slot["patch"]
        if kind == "learned":
            table = self.position_table.permute(2, 0, 1)[None]
            return F.interpolate(table, (rows, columns), mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
        row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        index = torch.stack([column, row], dim=-1).flatten(0, 1).float().to(grid_m.device).expand(grid_m.shape[0], -1, -1)
        if kind == "metres":
            steps = patch_centres_m(grid_m, rows, columns, patch) / self.config["position_unit_m"]
        elif kind == "gsd":
            steps = index * grid_m[:, None, 2:] / self.config["position_unit_m"]
        elif kind == "3d":
            steps = torch.cat([index, torch.full_like(index[..., :1], float(t))], dim=-1)
        elif kind == "a2mae_released":
            steps = torch.cat([index * member.grid_m[:, None, 2:] for member in embedded], dim=-1)
        else:
            steps = index
        X, dim = steps.shape[-1], self.width
        dims = (dim * 6 // 16, dim * 6 // 16, dim * 4 // 16) if kind == "3d" else (dim // X,) * X
        return torch.cat([sincos(steps[..., x], d) for x, d in enumerate(dims)], dim=-1)


def _valid(values: torch.Tensor, given: torch.Tensor | None) -> torch.Tensor:
    """Where there is an observation; all of it must be numbers."""
    valid = torch.ones_like(values, dtype=torch.bool) if given is None else given.bool()
    if valid.shape != values.shape:
        raise ValueError(f"valid has shape {tuple(valid.shape)}, values have {tuple(values.shape)}; it says for every band and pixel")
    bad = (valid & ~torch.isfinite(values)).float().mean().item()
    if bad:
        raise ValueError(
            f"{bad:.1%} of the values are NaN or infinite and not marked as missing; where they stand for no observation give "
            "valid=torch.isfinite(values)"
        )
    return valid


def check_values(sensor: str, bands: Sequence[dict[str, Any]], values: torch.Tensor, valid: torch.Tensor) -> None:
    """Refuses values that are not in their bands' units, or of bands in another order.

    Args:
      sensor: Sensor name, for the message.
      bands: What config.json says of each band.
      values: (B, C, H, W).
      valid: Where there is an observation, bool (B, C, H, W).

    Raises:
      ValueError: names the band and the likely mistake.
    """
    count = valid.sum(dim=(0, 2, 3)).clamp(min=1)
    low, high = (torch.tensor([band["valid_range"][k] for band in bands], device=values.device)[:, None, None] for k in (0, 1))
    outside = (valid & ((values < low) | (values > high))).sum(dim=(0, 2, 3)) / count
    positive = ((values >= 0) | ~valid).all(dim=3).all(dim=2).all(dim=0) & (count >= 64)
    for i, band in enumerate(bands):
        linear = band["unit"] == "dB" and bool(positive[i])
        if outside[i] > 0.01 or linear:
            seen, (least, most) = values[:, i][valid[:, i]], band["valid_range"]
            what = "no value is negative" if linear else f"{outside[i]:.0%} of the values are outside [{least:g}, {most:g}] {band['unit']}"
            raise ValueError(
                f"sensor {sensor!r}, band {band['name']!r}: {what} (they go from {seen.min():g} to {seen.max():g}); "
                f"{_likely_mistake(band, seen)}"
            )
    _check_order(sensor, bands, values, valid)


def _likely_mistake(band: dict[str, Any], seen: torch.Tensor) -> str:
    whole, low, high = bool((seen == seen.round()).all()), seen.min().item(), seen.max().item()
    if band["unit"] == "dB" and low >= 0:
        return "linear power? give 10 * log10 of it"
    if whole and low >= 0 and high <= 255:
        return "an 8-bit picture? its values have lost their unit; take the product's own"
    if whole and low >= 0:
        return f"raw digital numbers? give dn_scale * DN + dn_offset, here {band['dn_scale']:g} * DN + {band['dn_offset']:g}"
    if low < -0.5 and abs(seen.mean().item()) < 1.5 and 0.3 < seen.std().item() < 3:
        return "normalised already? give them as they were before; the model normalises"
    return "are they raw digital numbers, in per cent, or in another unit?"


def _check_order(sensor: str, bands: Sequence[dict[str, Any]], values: torch.Tensor, valid: torch.Tensor) -> None:
    """Refuses two bands whose means are each several deviations from their own of training, and each at home in the other's."""
    weight = valid.sum(dim=(0, 2, 3))
    seen = (torch.where(valid, values, 0.0).sum(dim=(0, 2, 3)) / weight.clamp(min=1)).tolist()
    far = [[abs(x - band["mean"]) / band["std"] for x in seen] for band in bands]  # from band i's mean, what was given as band j
    for i, j in itertools.combinations(range(len(bands)), 2):
        if weight[i] and weight[j] and min(far[i][i], far[j][j]) > FAR_DEVIATIONS and max(far[i][j], far[j][i]) < 1:
            raise ValueError(
                f"sensor {sensor!r}: what was given as {bands[i]['name']} looks like {bands[j]['name']}, and the other way round; are the "
                "bands in another order?"
            )


@dataclasses.dataclass
class Embedded:
    """A member on its way in: its patches' embeddings (B, N, D) and what else is known of it."""

    slot: dict[str, Any]
    tokens: torch.Tensor
    real: torch.Tensor
    grid_m: torch.Tensor
    time: torch.Tensor
    size: tuple[int, int]
    acquisition: Any


@dataclasses.dataclass
class Encoded:
    """What the encoder returns.

    Attributes:
      tokens: (B, T, D), the class token first where the model has one, then member by member, row by row, after the final norm.
      real: (B, T) bool: the patch holds a valid pixel.
      pooled: (B, D), the mean of the real tokens, without the class token.
      grids: For each member (B, D, rows, columns).
      layers: Tokens after each block, before the final norm; empty unless asked for.
    """

    tokens: torch.Tensor
    real: torch.Tensor
    pooled: torch.Tensor
    grids: list[torch.Tensor]
    layers: list[torch.Tensor]


class RSFMEncoder(nn.Module):
    """The encoder of one exported folder."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Builds the modules; `from_folder` also loads the weights.

        Args:
          config: The content of config.json.
        """
        super().__init__()
        if config.get("format_version") != FORMAT_VERSION:
            raise ValueError(f"config.json: format_version is {config.get('format_version')!r}, this file reads {FORMAT_VERSION}")
        self.config, self.source = config, None
        width = config["width"]
        norm = functools.partial(nn.LayerNorm, eps=config["layer_norm_epsilon"])
        counts = {slot["key"]: (slot["patch"], slot.get("choose") or len(slot["bands"])) for slot in config["slots"]}
        self.patch_embed = nn.ModuleDict({key: nn.Linear(patch**2 * bands, width) for key, (patch, bands) in counts.items()})
        self.encodings = Encodings(config)
        self.cls_token = nn.Parameter(torch.zeros(width)) if config["cls_token"] else None
        self.blocks = nn.ModuleList(Block(width, config["heads"], config["mlp_hidden"], norm) for _ in range(config["depth"]))
        self.norm = norm(width)

    @classmethod
    def from_folder(cls, folder: str | pathlib.Path) -> "RSFMEncoder":
        """Loads an exported folder, strictly.

        Args:
          folder: With config.json and model.safetensors.

        Returns:
          The model in evaluation mode, float32, on the CPU.

        Raises:
          ValueError: the weights are not the ones that config.json was written for.
        """
        folder = pathlib.Path(folder)
        config = json.loads((folder / "config.json").read_text())
        file = folder / "model.safetensors"
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if digest != config["sha256"]["model.safetensors"]:
            raise ValueError(
                f"{file}: its SHA-256 is {digest}, config.json expects {config['sha256']['model.safetensors']}; download it again"
            )
        model = cls(config)
        model.load_state_dict(load_file(file), strict=True)
        model.source = folder
        return model.eval()

    def save_folder(self, folder: str | pathlib.Path) -> None:
        """Writes the weights as they are now, after fine-tuning, and what else the folder held that they were loaded from.

        Args:
          folder: Made where it isn't there; must hold no model yet.

        Raises:
          ValueError: it holds one.
        """
        folder = pathlib.Path(folder)
        if (folder / "config.json").exists():
            raise ValueError(f"{folder}: holds a model already; choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: x.detach().cpu().contiguous() for name, x in self.state_dict().items()}, folder / "model.safetensors")
        shutil.copyfile(__file__, folder / "modeling_rsfm.py")
        files = ["model.safetensors", "modeling_rsfm.py"]
        if self.source and (self.source / "pretraining.safetensors").exists():
            shutil.copyfile(self.source / "pretraining.safetensors", folder / "pretraining.safetensors")
            files.append("pretraining.safetensors")
        digests = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in files}
        (folder / "config.json").write_text(json.dumps(self.config | {"sha256": digests}, indent=1) + "\n")

    def find_slot(self, sensor: str, bands: Sequence[str], patch: int | None = None) -> dict[str, Any]:
        """The kind of input that holds all the bands, the one with the fewest others first.

        Args:
          sensor: Sensor name.
          bands: Band names.
          patch: Patch side in pixels, where a sensor has several.

        Returns:
          An entry of ``config["slots"]``.

        Raises:
          ValueError: the model was not trained on such an input.
        """
        of_sensor = [slot for slot in self.config["slots"] if slot["sensor"] == sensor and patch in (None, slot["patch"])]
        if not of_sensor:
            known = sorted({f"{slot['sensor']} (patch {slot['patch']})" for slot in self.config["slots"]})
            raise ValueError(f"sensor {sensor!r} with patch {patch or 'any'} is not known to this model; it knows {', '.join(known)}")
        fitting = [slot for slot in of_sensor if set(bands) <= {band["name"] for band in slot["bands"]}]
        if fitting and len(bands) != fitting[0].get("choose", len(bands)):
            raise ValueError(
                f"sensor {sensor!r}: this model takes {fitting[0]['choose']} bands at a time, not {len(bands)}; fewer may be repeated"
            )
        if not fitting:
            groups = "; ".join(", ".join(band["name"] for band in slot["bands"]) for slot in of_sensor)
            raise ValueError(f"sensor {sensor!r}: bands {', '.join(bands)} are not together in one group; the groups are: {groups}")
        return min(fitting, key=lambda slot: len(slot["bands"]))

    def forward(self, members: Sequence[Member], footprint_deg: torch.Tensor | None = None, return_layers: bool = False) -> Encoded:
        """Encodes image sets; every member of a set is one image of the same place.

        Args:
          members: Each a dict with
            ``sensor`` and ``bands``: names; bands that the model knows and are not given are left out of its embedding;
            ``values``: float (B, C, H, W), physical, in the bands' units; H and W are multiples of the patch;
            ``valid`` (optional): bool (B, C, H, W), False where there is no observation, NaN for instance; default: everywhere;
            ``gsd_m``: metres per pixel, or ``grid_m`` (B, 4): left and upper edge in metres from the set's centre, pixel width, height;
            ``time`` (optional): (B, 3) known, year, day of year from 0; default: unknown;
            ``patch`` (optional): patch side, where the model has several for the sensor;
            ``acquisition`` (optional): members with the same one are one observation, for models whose members do not attend to each other.
          footprint_deg: Corners of the sets' ground, (B, 4, 2): longitude and latitude of upper left, upper right, lower right, lower left;
            float64 keeps their seconds; None: unknown.
          return_layers: Also return the tokens after each block.

        Returns:
          The encoded set.

        Raises:
          ValueError: an unknown sensor or band, a wrong size, or values that are not in the stated unit.
        """
        embedded = [self._embed(member, t) for t, member in enumerate(members)]
        x = torch.cat([e.tokens + self.encodings(t, embedded, footprint_deg) for t, e in enumerate(embedded)], dim=1)
        real, first = torch.cat([e.real for e in embedded], dim=1), 0 if self.cls_token is None else 1
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), 1, -1), x], dim=1)
            real = torch.cat([torch.ones_like(real[:, :1]), real], dim=1)
        layers, allowed = [], self._allowed(embedded, real)
        for block in self.blocks:
            x = block(x, allowed)
            if return_layers:
                layers.append(x)
        x = self.norm(x)
        weight = real[:, first:, None].to(x.dtype)
        pooled = (x[:, first:] * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        parts = x[:, first:].split([e.size[0] * e.size[1] for e in embedded], dim=1)
        grids = [part.transpose(1, 2).unflatten(2, e.size) for part, e in zip(parts, embedded, strict=True)]
        return Encoded(x, real, pooled, grids, layers)

    def _allowed(self, embedded: Sequence[Embedded], real: torch.Tensor) -> torch.Tensor:
        """Which tokens each token attends to, (B, 1 or T, T) bool."""
        if self.config["joint"]:
            return real[:, None, :]
        order = {name: i for i, name in enumerate(dict.fromkeys(e.acquisition for e in embedded))}
        numbers = torch.cat([torch.full((e.tokens.shape[1],), order[e.acquisition], device=real.device) for e in embedded])
        return real[:, None, :] & (numbers[:, None] == numbers[None, :])

    def _embed(self, member: Member, t: int) -> Embedded:
        names = list(member["bands"])
        slot = self.find_slot(member["sensor"], names, member.get("patch"))
        patch, bands = slot["patch"], [next(band for band in slot["bands"] if band["name"] == name) for name in names]
        if not member["values"].is_floating_point() and any(band["unit"] != "dn" for band in bands):
            raise ValueError(
                f"values are {member['values'].dtype}, and sensor {member['sensor']!r} is in {bands[0]['unit']}: whole numbers are raw "
                "digital numbers or an 8-bit picture; convert them as config.json says (value = dn_scale * DN + dn_offset)"
            )
        values = member["values"].float()
        if values.ndim != 4 or values.shape[1] != len(names):
            raise ValueError(f"values have shape {tuple(values.shape)}, expected (B, {len(names)}, H, W) for bands {', '.join(names)}")
        B, _, H, W = values.shape
        if H % patch or W % patch:
            raise ValueError(f"values are {H} x {W} pixels; both must be multiples of the patch, {patch}")
        least = min(MIN_PATCHES, slot["pixels"] // patch) * patch
        if min(H, W) < least:
            raise ValueError(f"values are {H} x {W} pixels; features of less than {least} x {least} mean little: give a larger chip")
        valid = _valid(values, member.get("valid"))
        check_values(member["sensor"], bands, values, valid)
        mean, std = (torch.tensor([band[name] for band in bands], device=values.device)[:, None, None] for name in ("mean", "std"))
        normalised = torch.where(valid, (values - mean) / std, 0.0)
        grid_m, time = self._grid(member, B, H, W, values.device), member.get("time")
        time = torch.zeros(B, 3, device=values.device) if time is None else time.float()
        tokens = self._project(patchify(normalised, patch), slot, names)
        real = patchify(valid, patch).any(dim=-1)
        return Embedded(slot, tokens, real, grid_m, time, (H // patch, W // patch), member.get("acquisition") or f"#{t}")

    def _project(self, patches: torch.Tensor, slot: dict[str, Any], names: list[str]) -> torch.Tensor:
        """The patch embedding with the weight's columns of the given bands, in the given order; other bands' columns are left out."""
        layer, known = self.patch_embed[slot["key"]], [band["name"] for band in slot["bands"]]
        assert isinstance(layer, nn.Linear)
        if slot.get("choose"):
            return layer(patches)
        columns = [known.index(name) for name in names]
        return F.linear(patches, layer.weight.unflatten(1, (slot["patch"] ** 2, len(known)))[:, :, columns].flatten(1), layer.bias)

    @staticmethod
    def _grid(member: Member, B: int, H: int, W: int, device: torch.device) -> torch.Tensor:
        if member.get("grid_m") is not None:
            return member["grid_m"].float()
        gsd_m = float(member.get("gsd_m") or 0)
        if gsd_m <= 0:
            raise ValueError("a member needs gsd_m, metres per pixel, or grid_m")
        return torch.tensor([-W / 2 * gsd_m, H / 2 * gsd_m, gsd_m, gsd_m], device=device).expand(B, 4)

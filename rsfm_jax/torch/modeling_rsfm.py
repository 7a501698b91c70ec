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
import json
import math
import pathlib
from typing import Any

from safetensors.torch import load_file
import torch
from torch import nn
import torch.nn.functional as F

FORMAT_VERSION = 1
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

    def forward(self, x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Attends within each example; x (B, T, D), real (B, T) bool."""
        B, T, D = x.shape
        q, k, v = self.qkv(x).reshape(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        bias = torch.zeros(real.shape, dtype=q.dtype, device=q.device).masked_fill(~real, -1e9)[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(B, 1, T, T))
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

    def forward(self, x: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Applies the block to (B, T, D)."""
        x = x + self.attn(self.norm1(x), real)
        return x + self.mlp(self.norm2(x))


class MemberCode(nn.Module):
    """Sensor and bands, GSD, and date or a learned token for an unknown date, as one vector."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, self.encodings = config["width"], config["encodings"]
        self.slot = nn.ParameterDict({slot["key"]: nn.Parameter(torch.zeros(width)) for slot in config["slots"]})
        self.gsd = nn.Linear(self.encodings["gsd"]["features"], width)
        self.time = nn.Linear(self.encodings["time"]["features"], width)
        self.time_unknown = nn.Parameter(torch.zeros(width))

    def forward(self, key: str, grid_m: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Codes a member; grid_m (B, 4), time (B, 3) gives (B, D)."""
        gsd_m = (grid_m[:, 2] * grid_m[:, 3]).sqrt()
        gsd = sincos(self.encodings["gsd"]["per_octave"] * gsd_m.log2(), self.encodings["gsd"]["features"])
        harmonics = torch.arange(1.0, self.encodings["time"]["season_harmonics"] + 1, device=time.device)
        season = 2 * math.pi * time[:, 2:3] / self.encodings["time"]["days_per_year"] * harmonics
        year = sincos(time[:, 1] - self.encodings["time"]["epoch_year"], self.encodings["time"]["year_features"])
        date = self.time(torch.cat([year, season.sin(), season.cos()], dim=-1))
        return self.slot[key] + self.gsd(gsd) + torch.where(time[:, :1] > 0, date, self.time_unknown)


@dataclasses.dataclass
class Encoded:
    """What the encoder returns.

    Attributes:
      tokens: (B, T, D), member by member, row by row, after the final norm.
      real: (B, T) bool: the patch holds a valid pixel.
      pooled: (B, D), the mean of the real tokens.
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
        self.config = config
        width = config["width"]
        norm = functools.partial(nn.LayerNorm, eps=config["layer_norm_epsilon"])
        self.patch_embed = nn.ModuleDict(
            {slot["key"]: nn.Linear(slot["patch"] ** 2 * len(slot["bands"]), width) for slot in config["slots"]}
        )
        self.member_code = MemberCode(config)
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
        return model.eval()

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
        if not fitting:
            groups = "; ".join(", ".join(band["name"] for band in slot["bands"]) for slot in of_sensor)
            raise ValueError(f"sensor {sensor!r}: bands {', '.join(bands)} are not together in one group; the groups are: {groups}")
        return min(fitting, key=lambda slot: len(slot["bands"]))

    def forward(self, members: Sequence[Member], return_layers: bool = False) -> Encoded:
        """Encodes image sets; every member of a set is one image of the same place.

        Args:
          members: Each a dict with
            ``sensor`` and ``bands``: names; bands that the model knows and are not given are left out of its embedding;
            ``values``: float (B, C, H, W), physical, in the bands' units; H and W are multiples of the patch;
            ``valid`` (optional): bool (B, C, H, W), False where there is no observation; default: where values are finite;
            ``gsd_m``: metres per pixel, or ``grid_m`` (B, 4): left and upper edge in metres from the set's centre, pixel width, height;
            ``time`` (optional): (B, 3) known, year, day of year from 0; default: unknown;
            ``patch`` (optional): patch side, where the model has several for the sensor.
          return_layers: Also return the tokens after each block.

        Returns:
          The encoded set.

        Raises:
          ValueError: an unknown sensor or band, a wrong size, or values that are not in the stated unit.
        """
        tokens, real, sizes = [], [], []
        for member in members:
            embedded, real_BN, size = self._embed(member)
            tokens.append(embedded)
            real.append(real_BN)
            sizes.append(size)
        x, real_BT = torch.cat(tokens, dim=1), torch.cat(real, dim=1)
        layers = []
        for block in self.blocks:
            x = block(x, real_BT)
            if return_layers:
                layers.append(x)
        x = self.norm(x)
        weight = real_BT[..., None].to(x.dtype)
        pooled = (x * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
        parts = x.split([rows * columns for rows, columns in sizes], dim=1)
        grids = [part.transpose(1, 2).unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]
        return Encoded(x, real_BT, pooled, grids, layers)

    def _embed(self, member: Member) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
        names = list(member["bands"])
        slot = self.find_slot(member["sensor"], names, member.get("patch"))
        patch, values = slot["patch"], member["values"].float()
        if values.ndim != 4 or values.shape[1] != len(names):
            raise ValueError(f"values have shape {tuple(values.shape)}, expected (B, {len(names)}, H, W) for bands {', '.join(names)}")
        B, _, H, W = values.shape
        if H % patch or W % patch:
            raise ValueError(f"values are {H} x {W} pixels; both must be multiples of the patch, {patch}")
        valid = torch.isfinite(values) if member.get("valid") is None else member["valid"].bool() & torch.isfinite(values)
        bands = [next(band for band in slot["bands"] if band["name"] == name) for name in names]
        self._check_unit(member["sensor"], bands, values, valid)
        mean, std = (torch.tensor([band[name] for band in bands], device=values.device)[:, None, None] for name in ("mean", "std"))
        normalised = torch.where(valid, (values - mean) / std, 0.0)
        grid_m, time = self._grid(member, B, H, W, values.device), member.get("time")
        time = torch.zeros(B, 3, device=values.device) if time is None else time.float()
        rows, columns = H // patch, W // patch
        centres = patch_centres_m(grid_m, rows, columns, patch) / self.config["encodings"]["position_unit_m"]
        half = self.config["width"] // 2
        positions = torch.cat([sincos(centres[..., 0], half), sincos(centres[..., 1], half)], dim=-1)
        embedded = self._project(patchify(normalised, patch), slot, names)
        tokens = embedded + positions + self.member_code(slot["key"], grid_m, time)[:, None]
        return tokens, patchify(valid, patch).any(dim=-1), (rows, columns)

    def _project(self, patches: torch.Tensor, slot: dict[str, Any], names: list[str]) -> torch.Tensor:
        """The patch embedding with the weight's columns of the given bands, in the given order; other bands' columns are left out."""
        layer, known = self.patch_embed[slot["key"]], [band["name"] for band in slot["bands"]]
        assert isinstance(layer, nn.Linear)
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

    @staticmethod
    def _check_unit(sensor: str, bands: list[dict[str, Any]], values: torch.Tensor, valid: torch.Tensor) -> None:
        for i, band in enumerate(bands):
            low, high = band["valid_range"]
            seen = values[:, i][valid[:, i]]
            outside = ((seen < low) | (seen > high)).float().mean().item() if seen.numel() else 0.0
            if outside > 0.01:
                raise ValueError(
                    f"sensor {sensor!r}, band {band['name']!r}: {outside:.0%} of the values are outside [{low:g}, {high:g}] {band['unit']} "
                    f"(they go from {seen.min():g} to {seen.max():g}); are they raw digital numbers, or in another unit?"
                )

"""A small exported encoder made by hand, without JAX: two sensors with patches of 4 and 8 pixels, random weights."""

from typing import Any

import torch

from rsfm_jax.torch.modeling_rsfm import FORMAT_VERSION, RSFMEncoder

WIDTH, DEPTH = 24, 4
RGBN = ("B02", "B03", "B04", "B08")


def _slot(sensor: str, bands: tuple[str, ...], patch: int) -> dict[str, Any]:
    described = [{"name": name, "mean": 0.3, "std": 0.2, "unit": "reflectance", "valid_range": [-0.2, 2.0]} for name in bands]
    described = [band | {"dn_scale": 1e-4, "dn_offset": 0.0} for band in described]
    return {"key": f"{sensor}-p{patch}", "number": 0, "sensor": sensor, "patch": patch, "pixels": patch, "gsd_m": 10.0, "bands": described}


def small_encoder(cls_token: bool = True) -> RSFMEncoder:
    """The encoder in evaluation mode; every parameter is random, those that start at zero too."""
    torch.manual_seed(0)
    encodings = {
        "positions": "metres",
        "position_unit_m": 10.0,
        "geo": "cartesian",
        "identity": "slot",
        "gsd": {"features": 8, "per_octave": 1.0},
        "time": {"kind": "season", "features": 8, "epoch_year": 2020, "year_features": 4, "season_harmonics": 2, "days_per_year": 365.25},
    }
    config = {
        "format_version": FORMAT_VERSION,
        "architecture": "rsfm_encoder",
        "width": WIDTH,
        "depth": DEPTH,
        "heads": 3,
        "mlp_hidden": 48,
        "layer_norm_epsilon": 1e-6,
        "cls_token": cls_token,
        "joint": True,
        "encodings": encodings,
        "slots": [_slot("sentinel2_l2a", RGBN, 4), _slot("landsat8_l1", ("B8",), 8)],
    }
    model = RSFMEncoder(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()


def optical(B: int, H: int, W: int) -> dict[str, Any]:
    """A Sentinel-2 member in reflectance."""
    return {"sensor": "sentinel2_l2a", "bands": RGBN, "values": torch.rand(B, 4, H, W), "gsd_m": 10.0}


def panchromatic(B: int, H: int, W: int) -> dict[str, Any]:
    """A Landsat 8 member in reflectance."""
    return {"sensor": "landsat8_l1", "bands": ("B8",), "values": torch.rand(B, 1, H, W), "gsd_m": 15.0}

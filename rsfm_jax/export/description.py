"""What config.json of an exported folder says."""

import dataclasses
from typing import Any

from rsfm_jax.layouts import layout_from_dict
from rsfm_jax.models.encodings import LEARNED_GRID
from rsfm_jax.models.spec import ANY_BAND, RANDOM_BANDS, ModelSpec, slot_key
from rsfm_jax.nn.dates import DAYS_PER_YEAR, EPOCH_YEAR, SEASON_HARMONICS, TIME_FEATURES, YEAR_FEATURES
from rsfm_jax.nn.layers import LAYER_NORM_EPSILON
from rsfm_jax.nn.positions import GSD_FEATURES, GSD_PER_OCTAVE
from rsfm_jax.sensors import get_sensor
from rsfm_jax.torch.modeling_rsfm import FORMAT_VERSION

POOLING = "mean over the tokens whose patch holds a valid pixel, after the final norm"


def describe_model(spec: ModelSpec, run: dict[str, Any], step: int) -> dict[str, Any]:
    """The content of config.json, without hashes and parity.

    Args:
      spec: The model's spec.
      run: What the checkpoint says of its run.
      step: The checkpoint's step.

    Returns:
      JSON.
    """
    config = spec.config
    return {
        "format_version": FORMAT_VERSION,
        "architecture": "rsfm_encoder",
        "width": config.width,
        "depth": config.depth,
        "heads": config.heads,
        "mlp_hidden": int(config.width * config.mlp_ratio),
        "layer_norm_epsilon": LAYER_NORM_EPSILON,
        "activation": "gelu (erf)",
        "pooling": POOLING,
        "cls_token": config.cls_token,
        "joint": config.joint,
        "encodings": _describe_encodings(spec),
        "slots": _describe_slots(spec, run),
        "training": {
            "step": step,
            "config": run["config"],
            "layouts": run["layouts"],
            "dataset_digest": run["dataset_digest"],
            "versions": run["versions"],
        },
    }


def _describe_encodings(spec: ModelSpec) -> dict[str, Any]:
    encoding = spec.encoding
    return {
        "positions": encoding.positions,
        "position_unit_m": encoding.position_unit_m,
        "learned_grid": LEARNED_GRID,
        "geo": encoding.geo,
        "identity": encoding.identity,
        "gsd": {"features": GSD_FEATURES, "per_octave": GSD_PER_OCTAVE} if encoding.gsd else None,
        "time": {
            "kind": encoding.time,
            "features": TIME_FEATURES,
            "epoch_year": EPOCH_YEAR,
            "year_features": YEAR_FEATURES,
            "season_harmonics": SEASON_HARMONICS,
            "days_per_year": DAYS_PER_YEAR,
        },
    }


def _describe_slots(spec: ModelSpec, run: dict[str, Any]) -> list[dict[str, Any]]:
    """The kinds of input; where bands are drawn in training, every slot of the dataset, with how many of its bands to choose."""
    drawn, described = any(ANY_BAND in slot.bands for slot in spec.slots), []
    slots = list(zip(spec.slots, spec.numbers, strict=True))
    if drawn:
        ingested = {slot_key(slot): slot for layout in run["layouts"] for slot in layout_from_dict(layout).slots}
        slots = [(ingested[key], 0) for key in sorted(ingested)]
    for slot, number in slots:
        entry: dict[str, Any] = {"key": f"random{RANDOM_BANDS}-p{slot.patch}", "choose": RANDOM_BANDS} if drawn else {"key": slot_key(slot)}
        entry |= {"number": number, "sensor": slot.sensor, "gsd_m": slot.gsd_m, "patch": slot.patch, "pixels": slot.pixels}
        entry["bands"] = [_describe_band(slot.sensor, name, run["statistics"][slot.sensor][name]) for name in slot.bands]
        described.append(entry)
    return described


def _describe_band(sensor: str, name: str, statistics: dict[str, Any]) -> dict[str, Any]:
    band = dataclasses.asdict(get_sensor(sensor).band(name))
    native = {
        "native_gsd_m": band.pop("gsd_m"),
        "dn_scale": band.pop("scale"),
        "dn_offset": band.pop("offset"),
        "dn_nodata": band.pop("nodata"),
    }
    return band | native | {"mean": statistics["mean"], "std": statistics["std"]}

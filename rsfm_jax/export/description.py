"""What the exported files say of themselves: config.json and the model card."""

import dataclasses
import math
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


def model_card(description: dict[str, Any], parity: list[dict[str, Any]]) -> str:
    """The model card, Markdown.

    Args:
      description: The content of config.json.
      parity: Rows of `rsfm_jax.export.parity.check_parity`.

    Returns:
      The text of README.md.
    """
    slot = description["slots"][0]
    names = [band["name"] for band in slot["bands"]]
    if "choose" in slot:
        names = (names * slot["choose"])[: slot["choose"]]
    bands = ", ".join(map(repr, names))
    lines = [
        "# Remote-sensing encoder",
        "",
        f"A ViT of {description['depth']} blocks, {description['width']} wide, pretrained with anchor-aware masking (A2-MAE) for "
        f"{description['training']['step']} steps. Needs `torch` and `safetensors`.",
        "",
        "```python",
        "from modeling_rsfm import RSFMEncoder",
        "",
        'model = RSFMEncoder.from_folder(".")',
        f'out = model([{{"sensor": "{slot["sensor"]}", "bands": [{bands}], "values": values, "gsd_m": {slot["gsd_m"]:g}}}])',
        "out.pooled, out.grids[0]",
        "```",
        "",
        f"`values` is float (B, {len(names)}, H, W), H and W multiples of {slot['patch']}, in the unit below.",
        f"Pooled features: {description['pooling']}.",
        "",
        "## Inputs",
        "",
        "| sensor | patch | trained GSD, m | band | wavelength, nm | bandwidth, nm | unit | mean | std |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    augment = description["training"]["config"].get("augment", {})  # a run of before there were crops has none
    least = math.sqrt(augment.get("crop_min_area", 1))
    cropped = "" if least == 1 else f" (crops down to {least:.0%})"
    for slot in description["slots"]:
        for band in slot["bands"]:
            wavelength = "-" if band["wavelength_nm"] is None else f"{band['wavelength_nm']:g}"
            width = band["polarisation"] or "-" if band["bandwidth_nm"] is None else f"{band['bandwidth_nm']:g}"
            gsd_m = f"{slot['gsd_m']:g}{cropped}"
            lines.append(
                f"| {slot['sensor']} | {slot['patch']} | {gsd_m} | {band['name']} | {wavelength} | {width} | {band['unit']} "
                f"| {band['mean']:.5g} | {band['std']:.5g} |"
            )
    lines += [
        "",
        "## Parity with the JAX model, on real chips, float32",
        "",
        "| layout | chips | tokens, max abs difference | pooled, max abs difference |",
        "|---|---|---|---|",
    ]
    lines += [f"| {row['layout']} | {row['chips']} | {row['tokens_max_abs']:.2e} | {row['pooled_max_abs']:.2e} |" for row in parity]
    versions = ", ".join(f"{name} {version}" for name, version in description["training"]["versions"].items())
    lines += ["", f"Written with {versions}.", f"Dataset digest: {description['training']['dataset_digest']}.", ""]
    return "\n".join(lines)

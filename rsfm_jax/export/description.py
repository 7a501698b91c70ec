"""What the exported files say of themselves: config.json and the model card."""

import dataclasses
from typing import Any

from rsfm_jax.models.spec import ModelSpec, slot_key
from rsfm_jax.nn.layers import LAYER_NORM_EPSILON
from rsfm_jax.nn.positions import DAYS_PER_YEAR, EPOCH_YEAR, GSD_FEATURES, GSD_PER_OCTAVE, SEASON_HARMONICS, TIME_FEATURES, YEAR_FEATURES
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
        "encodings": {
            "position": "2-D sincos of the patch centre in metres from the set's centre; first half of the width column, second half row",
            "position_unit_m": config.position_unit_m,
            "gsd": {"features": GSD_FEATURES, "per_octave": GSD_PER_OCTAVE},
            "time": {
                "features": TIME_FEATURES,
                "epoch_year": EPOCH_YEAR,
                "year_features": YEAR_FEATURES,
                "season_harmonics": SEASON_HARMONICS,
                "days_per_year": DAYS_PER_YEAR,
            },
        },
        "slots": [
            {
                "key": slot_key(slot),
                "sensor": slot.sensor,
                "gsd_m": slot.gsd_m,
                "patch": slot.patch,
                "pixels": slot.pixels,
                "bands": [_describe_band(slot.sensor, name, run["statistics"][slot.sensor][name]) for name in slot.bands],
            }
            for slot in spec.slots
        ],
        "training": {
            "step": step,
            "config": run["config"],
            "layouts": run["layouts"],
            "dataset_digest": run["dataset_digest"],
            "versions": run["versions"],
        },
    }


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
    bands = ", ".join(repr(band["name"]) for band in slot["bands"])
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
        f"`values` is float (B, {len(slot['bands'])}, H, W), H and W multiples of {slot['patch']}, in the unit below.",
        f"Pooled features: {description['pooling']}.",
        "",
        "## Inputs",
        "",
        "| sensor | patch | trained GSD, m | band | wavelength, nm | bandwidth, nm | unit | mean | std |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for slot in description["slots"]:
        for band in slot["bands"]:
            wavelength = "-" if band["wavelength_nm"] is None else f"{band['wavelength_nm']:g}"
            width = band["polarisation"] or "-" if band["bandwidth_nm"] is None else f"{band['bandwidth_nm']:g}"
            lines.append(
                f"| {slot['sensor']} | {slot['patch']} | {slot['gsd_m']:g} | {band['name']} | {wavelength} | {width} | {band['unit']} "
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

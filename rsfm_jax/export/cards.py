"""Model cards, Markdown: how to load the files, what goes in, in which unit, and how near the features are to JAX's."""

import math
from typing import Any

from rsfm_jax.config import Config
from rsfm_jax.export.baking import Baked
from rsfm_jax.export.files import Format

_FIGURES = {
    "chips": "chips",
    "tokens_max_abs": "tokens, max abs difference",
    "pooled_max_abs": "pooled",
    "layers_max_abs": "layers",
    "layers": "layers compared",
    "predictions_max_abs": "predicted patches",
}


def model_card(description: dict[str, Any], parity: list[dict[str, Any]]) -> str:
    """The card of the format "rsfm".

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
    usage = [
        "from modeling_rsfm import RSFMEncoder",
        "",
        'model = RSFMEncoder.from_folder(".")',
        f'out = model([{{"sensor": "{slot["sensor"]}", "bands": [{bands}], "values": values, "gsd_m": {slot["gsd_m"]:g}}}])',
        "out.pooled, out.grids[0]",
    ]
    lines = [
        *_head(description, "Needs `torch` and `safetensors`.", usage),
        f"`values` is float (B, {len(names)}, H, W), H and W multiples of {slot['patch']}, in the unit below.",
        f"Pooled features: {description['pooling']}.",
        "",
        "## Inputs",
        "",
        *_band_table([(slot, band) for slot in description["slots"] for band in slot["bands"]], description),
    ]
    return _whole(lines, parity, description)


def baked_card(
    description: dict[str, Any], parity: list[dict[str, Any]], baked: Baked, chosen: Format, config: Config, decoder: bool
) -> str:
    """The card of a format that one sensor and date were baked into.

    Args:
      description: What config.json of the format "rsfm" would say.
      parity: Rows of `rsfm_jax.export.baked_parity.check_baked`.
      baked: The model.
      chosen: Its format.
      config: The run's config.
      decoder: Whether the decoder went along.

    Returns:
      The text of README.md.
    """
    choice, names = baked.choice, ", ".join(band["name"] for band in baked.bands)
    slot = {"sensor": choice.sensor, "patch": choice.patch, "gsd_m": choice.gsd_m}
    lines = [
        *_head(description, f"This is {chosen.what}, for one kind of image.", chosen.usage(baked, config, decoder)),
        f"Images are {choice.sensor}, bands {names} in this order, {baked.size[0]} x {baked.size[1]} pixels of {choice.gsd_m:g} m, "
        f"{chosen.values}. Sensor, GSD and size are fixed in the positions: **for others export again**; resizing the positions, as some "
        "tools do by themselves, changes what they mean.",
        f"Date: {choice.acquired or 'unknown (the learned token)'}. Place: unknown (the learned token). There is no mask: pixels without "
        "observation should be the band's mean, 0 where values are normalised.",
        "",
        "## Input",
        "",
        *_band_table([(slot, band) for band in baked.bands], description),
    ]
    return _whole(lines, parity, description)


def _head(description: dict[str, Any], what: str, usage: list[str]) -> list[str]:
    training = description["training"]
    steps = f"{training['step']} steps"
    if training.get("averaged"):
        steps += ", averaged over the checkpoints of steps " + ", ".join(training["averaged"])
    return [
        "# Remote-sensing encoder",
        "",
        f"A ViT of {description['depth']} blocks, {description['width']} wide, pretrained with anchor-aware masking (A2-MAE) for {steps}. "
        f"{what}",
        "",
        "```python",
        *usage,
        "```",
        "",
    ]


def _band_table(rows: list[tuple[dict[str, Any], dict[str, Any]]], description: dict[str, Any]) -> list[str]:
    lines = [
        "| sensor | patch | trained GSD, m | band | wavelength, nm | bandwidth, nm | unit | valid range | mean | std |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    augment = description["training"]["config"].get("augment", {})  # a run of before there were crops has none
    least = math.sqrt(augment.get("crop_min_area", 1))
    cropped = "" if least == 1 else f" (crops down to {least:.0%})"
    for slot, band in rows:
        wavelength = "-" if band["wavelength_nm"] is None else f"{band['wavelength_nm']:g}"
        width = band["polarisation"] or "-" if band["bandwidth_nm"] is None else f"{band['bandwidth_nm']:g}"
        low, high = band["valid_range"]
        lines.append(
            f"| {slot['sensor']} | {slot['patch']} | {slot['gsd_m']:g}{cropped} | {band['name']} | {wavelength} | {width} | {band['unit']} "
            f"| {low:g} to {high:g} | {band['mean']:.5g} | {band['std']:.5g} |"
        )
    return lines


def _whole(lines: list[str], parity: list[dict[str, Any]], description: dict[str, Any]) -> str:
    figures = [name for name in _FIGURES if name in parity[0]]
    lines = [
        *lines,
        "",
        "## Parity with the JAX model, on real chips, float32",
        "",
        f"| input | {' | '.join(_FIGURES[name] for name in figures)} |",
        "|---" * (1 + len(figures)) + "|",
    ]
    for row in parity:
        values = (f"{row[name]:.2e}" if isinstance(row.get(name), float) else str(row.get(name, "-")) for name in figures)
        lines.append(f"| {row['input']} | {' | '.join(values)} |")
    versions = ", ".join(f"{name} {version}" for name, version in description["training"]["versions"].items())
    return "\n".join([*lines, "", f"Written with {versions}.", f"Dataset digest: {description['training']['dataset_digest']}.", ""])

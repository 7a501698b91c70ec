"""From stored numbers to the unit of their band: `scenes.yaml` comes before the file's own tags, and these before the sensor."""

import math

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.scenes import BandSource, Scene


def scale_and_offset(scene: Scene, source: BandSource, tags: tuple[float, float], dtype: str, who: str) -> tuple[float, float]:
    """Scale and offset of the stored numbers, the baseline offset included.

    Args:
      scene: The described scene.
      source: What `scenes.yaml` says of the band.
      tags: Scale and offset of the file's own tags; (1, 0) says nothing.
      dtype: Type of the stored numbers.
      who: Scene and band, for messages.

    Returns:
      The physical value is scale * stored number + offset.

    Raises:
      InputError: one is missing or applied twice, no measurement comes out, or the file is a picture for the eye.
    """
    in_file = tags if tags != (1.0, 0.0) else (None, None)
    if source.scale is not None and source.offset is None and in_file[1] is None and source.band.offset != 0:
        raise InputError(
            f"{who}: states a scale but no offset, and the sensor's own is {source.band.offset:g}; state offset too (0 for none)"
        )
    scale = next(v for v in (source.scale, in_file[0], source.band.scale) if v is not None)
    offset = next(v for v in (source.offset, in_file[1], source.band.offset) if v is not None)
    if scale == 0 or not (math.isfinite(scale) and math.isfinite(offset)):
        whose = "scenes.yaml" if source.scale is not None else str(source.path)
        raise InputError(
            f"{who}: scale {scale:g} and offset {offset:g}, the scale of {whose}, make no measurement of a digital number; "
            "state the product's scale in scenes.yaml (1 for none)"
        )
    if dtype == "uint8" and source.band.unit in ("reflectance", "kelvin") and source.scale is None:
        raise InputError(
            f"{who}: {source.path} holds 8-bit numbers, not {source.band.unit}; an 8-bit visual product (TCI)? statistics will be wrong: "
            "name the product's own band file, or state scale and offset in scenes.yaml if they are known"
        )
    if scene.baseline_offset_dn and offset:
        raise InputError(
            f"{who}: the baseline offset {scene.baseline_offset_dn:g} and the offset {offset:g} of scenes.yaml or of {source.path} "
            "would both be applied; state baseline_offset_dn: 0 if the offset has it already, else offset: 0"
        )
    return scale, offset + scale * scene.baseline_offset_dn

"""Radar measurements to the unit of their band: complex, power or amplitude to decibels, as `scenes.yaml` states it.

Scale and offset give the stated unit; the conversion comes after them and its record has scale 1 and offset 0. Decibels are
10 log10(power) = 20 log10(amplitude); where there is no power there are no decibels, and the pixel is not valid.
"""

import dataclasses

import numpy as np

from rsfm_jax.errors import InputError
from rsfm_jax.ingest.scenes import BandSource


@dataclasses.dataclass(frozen=True)
class Conversion:
    """From stored numbers to recorded ones.

    Attributes:
      stated: The field of `scenes.yaml`: ``"complex: dB"``, ``"complex: power"``, ``"complex: amplitude"``, ``"unit: power"`` or
        ``"unit: amplitude"``.
      scale: Multiplies the stored number first.
      offset: Added to it then.
      dtype: numpy type to read the file in: a real or a complex one.
    """

    stated: str
    scale: float
    offset: float
    dtype: str

    def __call__(self, stored: np.ndarray) -> np.ndarray:
        """Converts stored numbers of any shape to float32, NaN where there is no power."""
        wide = stored.astype(np.complex128 if stored.dtype.kind == "c" else np.float64)
        linear = self.scale * wide + self.offset
        if self.stated == "complex: amplitude":
            return np.abs(linear).astype(np.float32)
        if self.stated.startswith("complex"):
            linear = np.square(linear.real) + np.square(linear.imag)
        if self.stated == "complex: power":
            return linear.astype(np.float32)
        decades = np.full(linear.shape, np.nan)
        np.log10(linear, out=decades, where=linear > 0)
        return ((20 if self.stated == "unit: amplitude" else 10) * decades).astype(np.float32)


def conversion_of(source: BandSource, dtype: str, scale: float, offset: float, who: str) -> Conversion | None:
    """The conversion that a band needs, or None when its numbers are recorded as they are.

    Args:
      source: What `scenes.yaml` says of the band.
      dtype: rasterio's name of the stored type.
      scale: Of the stored numbers.
      offset: Of the stored numbers.
      who: Scene and band, for messages.

    Raises:
      InputError: a conversion that is needed and not stated, stated and not possible, or not to the unit of the band.
    """
    unit = source.band.unit
    if dtype.startswith("complex"):
        wanted = "complex: dB" if unit == "dB" else "complex: amplitude or complex: power"
        if source.complex_as is None:
            raise InputError(
                f"{who}: {source.path} holds {dtype} values, as single-look complex radar images do; state {wanted} in scenes.yaml "
                "(dB is 10 log10 |z|^2), or convert them to float32"
            )
        if (source.complex_as == "dB") != (unit == "dB"):
            raise InputError(f"{who}: states complex: {source.complex_as}, but the band is in {unit}; state {wanted}")
        if source.unit is not None or offset != 0:
            raise InputError(f"{who}: complex numbers take neither a unit nor an offset; leave them out")
        return Conversion(f"complex: {source.complex_as}", scale, 0.0, "complex128" if dtype == "complex128" else "complex64")
    if source.complex_as is not None:
        raise InputError(f"{who}: states complex: {source.complex_as}, but {source.path} holds {dtype} values; leave it out, or use unit")
    if source.unit is None:
        return None
    if unit != "dB":
        raise InputError(f"{who}: states unit: {source.unit}, which is for radar bands in dB; this band is in {unit}; leave it out")
    return None if source.unit == "dB" else Conversion(f"unit: {source.unit}", scale, offset, dtype)

"""The small labelled set that training is probed with: chips of one sensor in physical units, a class each.

An ``.npz`` with ``values`` (N, H, W, C) in the bands' units, ``labels`` (N,) whole numbers, ``test`` (N,) bool (scored, the others are
learned from), ``sensor``, ``bands`` (C,) names, ``gsd_m``; and, where there are gaps, ``valid`` (N, H, W, C) bool.

Legend: N chips, H W pixels, C bands.
"""

import dataclasses
import pathlib
from typing import Any
import zipfile

import numpy as np

from rsfm_jax.data.dataset import Dataset
from rsfm_jax.errors import InputError
from rsfm_jax.layouts import Layout, Slot
from rsfm_jax.sensors import get_sensor

_FIELDS = ("values", "labels", "test", "sensor", "bands", "gsd_m")


@dataclasses.dataclass(frozen=True, eq=False)
class ProbeSet:
    """Chips ready for the encoder.

    Attributes:
      slot: A slot of the dataset with the set's GSD and size.
      pixels: Normalised by the dataset's statistics, float32 (N, H, W, C of the slot); 0 where there is no observation.
      valid: bool (N, H, W, C of the slot); bands of the slot that the set lacks have none.
      labels: Classes from 0, int32 (N,).
      test: bool (N,).
      classes: How many.
    """

    slot: Slot
    pixels: np.ndarray
    valid: np.ndarray
    labels: np.ndarray
    test: np.ndarray
    classes: int

    @property
    def layout(self) -> Layout:
        """A layout of the slot alone."""
        return Layout("probe", (self.slot,))


def read_probe_set(path: str, dataset: Dataset) -> ProbeSet:
    """Reads a set and checks that the model can see it.

    Args:
      path: The ``.npz`` file.
      dataset: What the model is trained on: its slots and statistics.

    Returns:
      The set.

    Raises:
      InputError: the file cannot be read, a field is missing or wrong, or no slot of the dataset has the sensor and bands.
    """
    fields = _load(path)
    values, labels, test = fields["values"], fields["labels"], fields["test"]
    where = f"config.probe.path={path}"
    if values.ndim != 4 or not np.issubdtype(values.dtype, np.floating):
        raise InputError(f"{where}: values are {values.dtype} {values.shape}; expected float (N, H, W, C) in the bands' units")
    bands, sensor, gsd_m = tuple(str(band) for band in fields["bands"]), str(fields["sensor"]), float(fields["gsd_m"])
    N, height, width, C = values.shape
    together = len(bands) == C and labels.shape == test.shape == (N,) and test.dtype == bool and np.issubdtype(labels.dtype, np.integer)
    if not together:
        raise InputError(
            f"{where}: values {values.shape}, {len(bands)} bands, labels {labels.dtype} {labels.shape} and test {test.dtype} {test.shape} "
            "do not belong together; expected (N, H, W, C), C names, whole numbers (N,) and bool (N,)"
        )
    classes, numbered = np.unique(labels, return_inverse=True)
    unseen = set(labels[test]) - set(labels[~test])
    if len(classes) < 2 or not test.any() or unseen:
        raise InputError(f"{where}: needs two classes or more, chips to test, and every class among the others; without: {sorted(unseen)}")
    slots = [slot for layout in dataset.layouts for slot in layout.slots if slot.sensor == sensor and set(bands) <= set(slot.bands)]
    if not slots:
        known = sorted({f"{slot.sensor} {' '.join(slot.bands)}" for layout in dataset.layouts for slot in layout.slots})
        raise InputError(f"{where}: the dataset has no {sensor} with bands {' '.join(bands)}; it has {'; '.join(known)}")
    slot = min(slots, key=lambda slot: (len(slot.bands), abs(slot.gsd_m - gsd_m)))
    if height != width or height % slot.patch:
        raise InputError(f"{where}: chips are {height} x {width} pixels; expected squares of a multiple of the patch, {slot.patch}")
    observed = np.isfinite(values) & fields.get("valid", np.ones(values.shape, bool))
    _check_unit(where, sensor, bands, values, observed)
    mean_C, std_C = dataset.mean_std(slot)
    columns = [slot.bands.index(band) for band in bands]
    pixels, valid = (np.zeros((N, height, width, len(slot.bands)), dtype) for dtype in (np.float32, bool))
    pixels[..., columns] = np.where(observed, (values - mean_C[columns]) / std_C[columns], 0.0)
    valid[..., columns] = observed
    own = dataclasses.replace(slot, gsd_m=gsd_m, pixels=height, acquisition="")
    return ProbeSet(own, pixels, valid, numbered.astype(np.int32), test, len(classes))


def _check_unit(where: str, sensor: str, bands: tuple[str, ...], values: np.ndarray, observed: np.ndarray) -> None:
    for i, name in enumerate(bands):
        band, seen = get_sensor(sensor).band(name), values[..., i][observed[..., i]]
        low, high = band.valid_range
        if seen.size and ((seen < low) | (seen > high)).mean() > 0.01:
            raise InputError(
                f"{where}: band {name} goes from {seen.min():g} to {seen.max():g}, and {sensor}'s is within {low:g} to {high:g} "
                f"{band.unit}; give values in that unit, not digital numbers"
            )


def _load(path: str) -> dict[str, Any]:
    try:
        with np.load(pathlib.Path(path), allow_pickle=False) as file:
            fields = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"config.probe.path={path}: cannot be read as .npz ({error})") from None
    missing = [name for name in _FIELDS if name not in fields]
    if missing:
        raise InputError(f"config.probe.path={path}: has no {', '.join(missing)}; it must hold {', '.join(_FIELDS)}, and may hold valid")
    if "valid" in fields and fields["valid"].shape != fields["values"].shape:
        raise InputError(f"config.probe.path={path}: valid has shape {fields['valid'].shape}, values have {fields['values'].shape}")
    return fields

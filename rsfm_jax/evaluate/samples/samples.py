"""What every source of a task yields: chips in physical units with valid masks, their targets, and what is known of them.

Legend: N samples, C bands, H W pixels, K labels.
"""

import dataclasses
import hashlib

import numpy as np
from scipy.spatial import KDTree

from rsfm_jax.errors import InputError

NO_LABEL = -1  # in targets of segmentation
MIN_VALID_SHARE = 0.5  # of a chip that is a sample as a whole, in every band
Columns = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Input:
    """A kind of chip: what the encoder must know of it.

    Attributes:
      sensor: Key of `rsfm_jax.sensors.SENSORS`.
      bands: Its bands, in the order of the channels.
      gsd_m: Metres per pixel.
    """

    sensor: str
    bands: tuple[str, ...]
    gsd_m: float


@dataclasses.dataclass(frozen=True)
class Ground:
    """Where samples lie.

    Attributes:
      crs: The coordinate system, or None where the images have several: then places can't be compared.
      x_m: Easting of the samples' pixels, float64 (N,).
      y_m: Northing, float64 (N,).
      footprint_deg: Corners of the chips, float64 (N, 4, 2), as the encoder takes them.
    """

    crs: str | None
    x_m: np.ndarray
    y_m: np.ndarray
    footprint_deg: np.ndarray


@dataclasses.dataclass(frozen=True)
class Chips:
    """Images, without targets.

    Attributes:
      values: Physical values float32 (N, C, H, W), 0 where not observed.
      valid: Whether they were observed, bool (N, C, H, W).
      inputs: The kinds of chips; all have the same C, H and W.
      input_of: Kind of each chip, int64 (N,).
      time: Known, year, day of year from 0, float32 (N, 3).
      ground: Where the chips lie; None where that is not known.
      before: Rows above, and columns left of, the pixel that a sample is about.
    """

    values: np.ndarray
    valid: np.ndarray
    inputs: tuple[Input, ...]
    input_of: np.ndarray
    time: np.ndarray
    ground: Ground | None
    before: int

    def __len__(self) -> int:
        return len(self.values)

    def take(self, chosen: np.ndarray) -> "Chips":
        """The chips at indices, or where bool."""
        g = self.ground
        ground = None if g is None else Ground(g.crs, g.x_m[chosen], g.y_m[chosen], g.footprint_deg[chosen])
        arrays = {name: getattr(self, name)[chosen] for name in ("values", "valid", "input_of", "time")}
        return dataclasses.replace(self, **arrays, ground=ground)

    def digest(self) -> str:
        """SHA-256 of all that an encoder's features can depend on."""
        digest = hashlib.sha256(repr((self.values.shape, self.inputs, self.before)).encode())
        arrays = [self.values, np.packbits(self.valid), self.input_of, self.time]
        for array in arrays if self.ground is None else [*arrays, self.ground.footprint_deg]:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class Samples:
    """Chips with targets.

    Attributes:
      chips: The images.
      targets: Classes int64 (N,); labels bool (N, K); quantities float64 (N,); or classes int64 (N, H, W) with `NO_LABEL`.
      names: Of the classes or labels; empty for quantities.
      groups: Samples that no inner fold tears, int64 (N,).
      columns: Entries by name, each (N,); `scene` and `sensor` are always there.
      dropped: How many samples or labels were left out, by reason.
    """

    chips: Chips
    targets: np.ndarray
    names: tuple[str, ...]
    groups: np.ndarray
    columns: Columns
    dropped: dict[str, int]

    def __len__(self) -> int:
        return len(self.chips)

    @property
    def seen(self) -> tuple[Chips, ...]:
        """What an encoder sees: one image a sample, unless the samples are image sets."""
        return (self.chips,)

    def digest(self) -> str:
        """SHA-256 of all that an encoder's features can depend on."""
        return self.chips.digest()

    def counts(self, rows: np.ndarray | None = None) -> dict[str, int]:
        """How many samples (pixels, for segmentation) there are of each class or label, among the given rows or all."""
        targets = self.targets if rows is None else self.targets[rows]
        if self.targets.dtype == bool:
            return {name: int(count) for name, count in zip(self.names, targets.sum(axis=0), strict=True)}
        if not self.names:
            return {}
        return {name: int((targets == k).sum()) for k, name in enumerate(self.names)}

    def column(self, name: str) -> np.ndarray:
        """A column; raises InputError, with the names that there are, for another."""
        if name not in self.columns:
            raise InputError(f"the samples have no column {name!r}; they have {', '.join(self.columns)}")
        return self.columns[name]


def has_label(targets: np.ndarray) -> np.ndarray:
    """Whether targets are known, bool of their shape; NaN of quantities and `NO_LABEL` of classes are not."""
    return ~np.isnan(targets) if targets.dtype.kind == "f" else targets != NO_LABEL


def nearest_chip_m(samples: Samples, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How far the nearest chip of ``others`` in the same scene lies, float64 (M,): the larger of both offsets of the centres, in metres.

    Args:
      samples: All samples.
      rows: Chips to ask for, int (M,).
      others: Chips to look among, int.

    Returns:
      The distances; infinite where the scene has none of the others, or where it is not known where chips lie.
    """
    distance_m, ground, scenes = np.full(len(rows), np.inf), samples.chips.ground, samples.columns["scene"]
    if ground is None:
        return distance_m
    places = np.stack([ground.x_m, ground.y_m], axis=1)
    for scene in np.intersect1d(scenes[rows], scenes[others]):
        here = np.flatnonzero(scenes[rows] == scene)
        distance_m[here] = KDTree(places[others[scenes[others] == scene]]).query(places[rows[here]], p=np.inf)[0]
    return distance_m


def chip_sides_m(samples: Samples, rows: np.ndarray) -> np.ndarray:
    """Sides of chips on the ground, float64 (M,), less a thousandth: chips nearer than that share pixels."""
    gsd_m = np.array([kind.gsd_m for kind in samples.chips.inputs])[samples.chips.input_of[rows]]
    return 0.999 * samples.chips.values.shape[-1] * gsd_m


def draw(count: int, most: int | None, seed: int) -> np.ndarray:
    """Sorted indices, int64, of at most ``most`` of ``count`` samples."""
    if most is None or most >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def blocks_of_ground(image: np.ndarray, x_m: np.ndarray, y_m: np.ndarray, side_m: float) -> np.ndarray:
    """Number of the square block that each place lies in, int64 (N,); blocks of different images differ."""
    corners = np.stack([image, np.floor(x_m / side_m), np.floor(y_m / side_m)], axis=1).astype(np.int64)
    return np.unique(corners, axis=0, return_inverse=True)[1].reshape(-1)

"""Parts that a task file may have beside its probes: the noise of the measurements, and retrieval."""

import dataclasses

from rsfm_jax.errors import InputError
from rsfm_jax.evaluate.tasks.task_sources import Value


@dataclasses.dataclass(frozen=True)
class Noise:
    """Measurement noise of the chips, white: independent between pixels, bands and dates.

    Attributes:
      sd: Standard deviation of each band, in its unit.
      share: More of it, as a share of the value; both add in squares.
      column: Column of the samples whose entries have noise of their own, such as scene or sensor.
      times: Entries of it and how many times the noise they have; others once.
      draws: How often the chips are encoded with noise added, at least 2.
      seed: Draws it.
    """

    sd: dict[str, float]
    share: float = 0.0
    column: str | None = None
    times: dict[Value, float] = dataclasses.field(default_factory=dict)
    draws: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if min([*self.sd.values(), self.share, *self.times.values()]) < 0 or self.draws < 2 or not any([*self.sd.values(), self.share]):
            raise InputError(
                f"sd, share, times and draws are {self.sd}, {self.share:g}, {self.times}, {self.draws}; expected some noise, 2 draws"
            )
        if (self.column is None) != (not self.times):
            raise InputError(f"column is {self.column} and times {self.times}; expected both or neither")


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Retrieval by cosine similarity: `ks` of recall, and whether features are standardised by the training side, as probes do it."""

    ks: tuple[int, ...] = (1, 5, 10)
    standardise: bool = True

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1 or len(set(self.ks)) < len(self.ks):
            raise InputError(f"ks is {list(self.ks)}; expected some of at least 1, each once")

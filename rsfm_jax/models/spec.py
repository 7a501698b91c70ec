"""What a model must know of its data: the distinct kinds of slot, each with its own patch embedding and prediction head."""

from collections.abc import Iterable
import dataclasses

from rsfm_jax.config import Layout, ModelConfig, Slot


def slot_key(slot: Slot) -> str:
    """Name of the parameters that belong to a slot's sensor, bands and patch; the same in every layout that has such a slot."""
    return f"{slot.sensor}-{'-'.join(slot.bands)}-p{slot.patch}"


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Everything that fixes the parameters' names and shapes.

    Attributes:
      config: Sizes.
      slots: One slot for each distinct `slot_key`, sorted by it.
    """

    config: ModelConfig
    slots: tuple[Slot, ...]


def model_spec(config: ModelConfig, layouts: Iterable[Layout]) -> ModelSpec:
    """The spec of a model for all slots of some layouts."""
    slots = {slot_key(slot): slot for layout in layouts for slot in layout.slots}
    return ModelSpec(config, tuple(slots[key] for key in sorted(slots)))

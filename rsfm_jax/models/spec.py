"""What a model must know of its data: the distinct kinds of token slot, each with its own patch embedding and prediction head.

A token slot is a slot as the tokenizer sees it: the bands of a slot may be split into groups with a token each, or be three that are drawn
anew for every example. From here on masks, model and loss know token slots only.
"""

from collections.abc import Iterable
import dataclasses

from rsfm_jax.config import Config, EncodingConfig, ModelConfig, TokenizerConfig
from rsfm_jax.errors import InputError
from rsfm_jax.layouts import Layout, Slot, parse_groups

ANY_BAND = "any"  # in place of a band's name: drawn for every example
RANDOM_BANDS = 3


def slot_key(slot: Slot) -> str:
    """Name of the parameters that belong to a slot's sensor, bands and patch; the same in every layout that has such a slot."""
    if ANY_BAND in slot.bands:
        return f"random{len(slot.bands)}-p{slot.patch}"
    return f"{slot.sensor}-{'-'.join(slot.bands)}-p{slot.patch}"


@dataclasses.dataclass(frozen=True)
class TokenLayout:
    """A layout as the tokenizer sees it.

    Attributes:
      layout: Its token slots.
      members: For each token slot the member it is made of.
      columns: For each token slot the member's bands it holds; None where they are drawn.
      numbers: For each token slot its number among those of its member.
    """

    layout: Layout
    members: tuple[int, ...]
    columns: tuple[tuple[int, ...] | None, ...]
    numbers: tuple[int, ...]


def token_layout(layout: Layout, tokenizer: TokenizerConfig) -> TokenLayout:
    """Splits the slots of a layout into token slots.

    Args:
      layout: As ingested.
      tokenizer: How bands become tokens.

    Returns:
      The token layout; with one group for every slot its layout equals the one given.

    Raises:
      InputError: a band of a slot that no group of its sensor holds.
    """
    table = parse_groups(tokenizer.groups)
    slots, members, columns, numbers = [], [], [], []
    for member, slot in enumerate(layout.slots):
        if tokenizer.kind == "random3":
            bands, groups = (ANY_BAND,) * RANDOM_BANDS, [None]
            parts = [dataclasses.replace(slot, bands=bands)]
        else:
            names = _groups(slot, table)
            groups = [tuple(slot.bands.index(band) for band in group) for group in names]
            letter = slot.acquisition or (f"#{member}" if len(names) > 1 else "")
            parts = [dataclasses.replace(slot, bands=group, acquisition=letter) for group in names]
        slots += parts
        members += [member] * len(parts)
        columns += groups
        numbers += range(len(parts))
    return TokenLayout(dataclasses.replace(layout, slots=tuple(slots)), tuple(members), tuple(columns), tuple(numbers))


def _groups(slot: Slot, table: dict[str, tuple[tuple[str, ...], ...]]) -> list[tuple[str, ...]]:
    if slot.sensor not in table:
        return [slot.bands]
    groups = [tuple(band for band in group if band in slot.bands) for group in table[slot.sensor]]
    missing = [band for band in slot.bands if not any(band in group for group in groups)]
    if missing:
        raise InputError(f"config.tokenizer.groups: no group of {slot.sensor} holds {', '.join(missing)}, which the dataset's slots have")
    return [group for group in groups if group]


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Everything that fixes the parameters' names and shapes.

    Attributes:
      config: Sizes.
      tokenizer: Bands to tokens.
      encoding: What tokens are told.
      slots: One token slot for each distinct `slot_key`, sorted by it.
      numbers: The group number of each of them.
      members: Most members that a layout has.
    """

    config: ModelConfig
    tokenizer: TokenizerConfig
    encoding: EncodingConfig
    slots: tuple[Slot, ...]
    numbers: tuple[int, ...]
    members: int


def model_spec(config: Config, layouts: Iterable[Layout]) -> ModelSpec:
    """The spec of a model for all slots of some layouts.

    Raises:
      InputError: a tokenizer or encoding that does not fit the layouts.
    """
    tokens = [token_layout(layout, config.tokenizer) for layout in layouts]
    numbered = {slot_key(slot): (slot, number) for t in tokens for slot, number in zip(t.layout.slots, t.numbers, strict=True)}
    slots, numbers = zip(*(numbered[key] for key in sorted(numbered)), strict=True)
    spec = ModelSpec(config.model, config.tokenizer, config.encoding, slots, numbers, max(len(set(t.members)) for t in tokens))
    if config.encoding.geo == "a2mae_released":
        _check_released(spec, tokens)
    return spec


def _check_released(spec: ModelSpec, tokens: Iterable[TokenLayout]) -> None:
    wanted = 256 * (spec.members + 1)
    if spec.config.width != wanted:
        raise InputError(
            f"config.encoding.geo='a2mae_released': needs model.width={wanted} for {spec.members} members (256 for the footprint and for "
            f"each member), not {spec.config.width}; geo='a2mae' has no such limit"
        )
    for t in tokens:
        grids = {slot.grid for slot in t.layout.slots}
        if len(grids) > 1 or len(t.layout.slots) != spec.members:
            raise InputError(
                f"config.encoding.geo='a2mae_released': layout {t.layout.name!r} must have {spec.members} members of one patch grid, it "
                f"has {len(t.layout.slots)} with {sorted(grids)} patches a side; geo='a2mae' has no such limit"
            )

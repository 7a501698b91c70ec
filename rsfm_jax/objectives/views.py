"""From a batch of records to what the model reads: members split into token slots, and in training some bands and metadata withheld.

All draws are a function of one key per example. What is withheld is withheld from the model alone: every valid value is still predicted.

Legend: B batch, H W pixels, C bands.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key

from rsfm_jax.config import Config
from rsfm_jax.layouts import Layout
from rsfm_jax.models.spec import RANDOM_BANDS, TokenLayout, token_layout

Batch = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class View:
    """A batch as the model reads it.

    Attributes:
      layout: The token layout.
      batch: ``members`` (one for each token slot) and ``place``; ``valid`` is False where a band is withheld.
      valid: For each token slot which values are observations, bool (B, H, W, C), withheld or not.
      sources: For each token slot the member it is made of.
    """

    layout: Layout
    batch: Batch
    valid: list[jax.Array]
    sources: tuple[int, ...]


def whole_view(config: Config, layout: Layout, keys_B: Key[Array, "B"], batch: Batch) -> View:
    """Splits members into token slots and withholds nothing.

    Args:
      config: The experiment.
      layout: The batch's layout, as ingested.
      keys_B: One random key for each example.
      batch: ``members``, for each slot ``pixels`` (B, H, W, C), ``valid``, ``grid_m`` (B, 4), ``time`` (B, 3); ``place`` with
        ``geosot`` (B, 256) and ``lonlat_deg`` (B, 3).

    Returns:
      The view.
    """
    tokens = token_layout(layout, config.tokenizer)
    members = [_token_member(tokens, t, keys_B, batch["members"][member]) for t, member in enumerate(tokens.members)]
    return View(tokens.layout, {"members": members, "place": batch["place"]}, [member["valid"] for member in members], tokens.members)


def withhold(config: Config, keys_B: Key[Array, "B"], view: View) -> View:
    """Withholds bands and metadata from the model, at the probabilities of the config.

    Args:
      config: The experiment.
      keys_B: One random key for each example.
      view: From `whole_view`.

    Returns:
      The view with fewer valid values and less known of dates and places.
    """
    encoding, band_dropout = config.encoding, config.tokenizer.band_dropout
    fold, dropout = jax.vmap(jax.random.fold_in, (0, None)), encoding.metadata_dropout
    place, members = view.batch["place"], []
    if dropout and encoding.geo != "none":
        place = place | {"lonlat_deg": _forget(fold(keys_B, 1000), dropout, place["lonlat_deg"])}
    for t, (source, member) in enumerate(zip(view.sources, view.batch["members"], strict=True)):
        if dropout and encoding.time != "none":
            member = member | {"time": _forget(fold(keys_B, 1001 + source), dropout, member["time"])}
        if band_dropout:
            kept_BC = keep_bands(fold(keys_B, 2000 + t), member["valid"].shape[-1], band_dropout)
            member = member | {"valid": member["valid"] & kept_BC[:, None, None, :]}
        members.append(member)
    return dataclasses.replace(view, batch={"members": members, "place": place})


def _token_member(tokens: TokenLayout, t: int, keys_B: jax.Array, member: Batch) -> Batch:
    columns = tokens.columns[t]
    C = member["pixels"].shape[-1]
    if columns is None:
        chosen_BC = choose_bands(jax.vmap(jax.random.fold_in, (0, None))(keys_B, 3000 + t), C)[:, None, None, :]
        return member | {name: jnp.take_along_axis(member[name], chosen_BC, axis=-1) for name in ("pixels", "valid")}
    if columns == tuple(range(C)):
        return member
    return member | {name: member[name][..., jnp.array(columns)] for name in ("pixels", "valid")}


def choose_bands(keys_B: Key[Array, "B"], bands: int) -> jax.Array:
    """Draws `RANDOM_BANDS` different bands, or, of fewer bands, all in turn until there are enough; int (B, RANDOM_BANDS).

    Source: A2-MAE's released code, "3 random bands per image".
    """
    order_BC = jax.vmap(lambda key: jax.random.permutation(key, bands))(keys_B)
    return jnp.tile(order_BC, (1, -(-RANDOM_BANDS // bands)))[:, :RANDOM_BANDS]


def keep_bands(keys_B: Key[Array, "B"], bands: int, dropout: float) -> Bool[Array, "B C"]:
    """Which bands are kept, each dropped with probability ``dropout``; the luckiest one always stays, bool (B, C)."""
    draws_BC = jax.vmap(lambda key: jax.random.uniform(key, (bands,)))(keys_B)
    return (draws_BC >= dropout) | (draws_BC == draws_BC.max(axis=1, keepdims=True))


def _forget(keys_B: jax.Array, dropout: float, known_BX: jax.Array) -> jax.Array:
    """Sets what starts with a 1 where it is known to unknown, with probability ``dropout``."""
    forgotten_B = jax.vmap(lambda key: jax.random.uniform(key) < dropout)(keys_B)
    return jnp.where(forgotten_B[:, None], 0.0, known_BX)

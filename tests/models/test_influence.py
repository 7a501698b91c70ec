"""What has no influence: hidden patches, invalid pixels, members that nobody observed, the members' order, the place of a set on Earth."""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsfm_jax.config import Config
from rsfm_jax.data.dataset import Dataset, open_dataset
from rsfm_jax.layouts import Layout
from rsfm_jax.models.build import AbstractModel, abstract_model, init_params, merge
from rsfm_jax.models.encodings import Encodings
from rsfm_jax.models.spec import model_spec
from rsfm_jax.nn.patchify import patchify
from rsfm_jax.objectives.masking import Masks
from rsfm_jax.objectives.reconstruction import reconstruction_loss
from rsfm_jax.train.step import loss_fn, predict, read_batch
from tests import tiny_config
from tests.helpers import batch_of, ingest, one_slot, scene, write_geotiff, write_scenes_yaml

Tree = dict[str, Any]
SERIES, LANDSAT = 0, 1


def config_of(**knobs: Any) -> Config:
    """The tiny experiment with other knobs, ``section__field=value``."""
    config = tiny_config.get_config()
    config.model.depth = 1
    for name, value in knobs.items():
        section, field = name.split("__")
        setattr(getattr(config, section), field, value)
    return config.validate()


def build(config: Config, layouts: tuple[Layout, ...]) -> tuple[AbstractModel, Tree]:
    spec = model_spec(config, layouts)
    return abstract_model(spec), jax.jit(lambda: init_params(spec, 0))()


@pytest.fixture(scope="module")
def plain() -> tuple[Config, AbstractModel, Tree]:
    config = config_of()
    return config, *build(config, tiny_config.layouts())


def some_batch(dataset: Dataset, number: int) -> tuple[Layout, Tree]:
    layout = dataset.layouts[number]
    return layout, jax.tree.map(jnp.asarray, batch_of(dataset, layout))


def with_pixels(batch: Tree, pixels: list[jax.Array]) -> Tree:
    return batch | {"members": [member | {"pixels": x} for member, x in zip(batch["members"], pixels, strict=True)]}


def pixels_of(batch: Tree) -> list[jax.Array]:
    return [member["pixels"] for member in batch["members"]]


def read(config: Config, layout: Layout, batch: Tree) -> tuple[Tree, Masks]:
    """What the model reads of a batch, and its masks."""

    def parts(batch: Tree) -> tuple[Tree, Masks]:
        view, masks = read_batch(config, layout, batch)
        return view.batch, masks

    return jax.jit(parts)(batch)


def on_pixels(patches_BN: np.ndarray, grid: int, patch: int) -> np.ndarray:
    """What holds for patches, for each of their pixels (B, H, W)."""
    tiles = np.asarray(patches_BN).reshape(-1, grid, grid)
    return tiles.repeat(patch, axis=1).repeat(patch, axis=2)


def outputs(model: AbstractModel, params: Tree, layout: Layout, batch: Tree, masks: Masks) -> tuple[jax.Array, jax.Array, list[jax.Array]]:
    """Encoded tokens, which of them may be read, and predictions."""
    mae = merge(model.graphdef, params)
    tokens, real = mae.encoder(layout, batch, masks.ids_keep, masks.shown)
    return tokens, real, mae(layout, batch, masks)


@pytest.mark.parametrize(("number", "table"), [(SERIES, ()), (LANDSAT, ()), (LANDSAT, ("any: full",))], ids=["series", "landsat", "full"])
def test_pixels_of_hidden_patches_reach_neither_encoder_nor_predictions(
    plain: tuple[Config, AbstractModel, Tree], tiny_dataset: Dataset, number: int, table: tuple[str, ...]
):
    _, model, params = plain
    config = config_of(**({"mask__table": table} if table else {}))
    layout, batch = some_batch(tiny_dataset, number)
    seen, masks = read(config, layout, batch)

    @jax.jit
    def gradient(pixels: list[jax.Array]) -> list[jax.Array]:
        def weighed(pixels: list[jax.Array]) -> jax.Array:
            tokens, real, predicted = outputs(model, params, layout, with_pixels(seen, pixels), masks)
            parts = [jnp.where(real[..., None], tokens, 0.0), *predicted]
            return sum((x * jax.random.normal(jax.random.key(i), x.shape)).sum() for i, x in enumerate(parts))

        return jax.grad(weighed)(pixels)

    grads = gradient(pixels_of(seen))
    assert bool(np.stack(masks.shown).all()) == (not table)
    for slot, grad, hidden in zip(layout.slots, grads, masks.hidden, strict=True):
        hidden_pixels = on_pixels(hidden, slot.grid, slot.patch)
        assert not np.asarray(grad)[hidden_pixels].any()
        assert not (~hidden_pixels).any() or (np.asarray(grad)[~hidden_pixels] != 0).mean() > 0.99
    shares = [float(np.mean(hidden)) for hidden in masks.hidden]
    assert (np.mean(shares) > 0.9) if table else shares == [0.75] * len(shares)  # one of three is the anchor


@pytest.mark.parametrize(
    ("number", "knobs"),
    [
        (SERIES, {}),
        (LANDSAT, {"mask__table": ("any: complementary",)}),
        (SERIES, {"tokenizer__kind": "random3"}),
        (SERIES, {"tokenizer__kind": "wavelength", "tokenizer__band_dropout": 0.3}),
    ],
    ids=["series", "landsat", "random3", "wavelength"],
)
def test_invalid_pixels_change_neither_loss_nor_gradients(tiny_dataset: Dataset, number: int, knobs: Tree):
    config = config_of(**knobs)
    model, params = build(config, tiny_dataset.layouts[number : number + 1])
    layout, batch = some_batch(tiny_dataset, number)
    rng = np.random.default_rng(0)
    for member in batch["members"]:
        valid = rng.random(member["valid"].shape) < 0.7
        valid[:, :8, :8] = False  # whole patches
        member["valid"] = jnp.asarray(valid)

    @jax.jit
    def step(pixels: list[jax.Array]) -> tuple[jax.Array, tuple[Tree, list[jax.Array]]]:
        return jax.value_and_grad(lambda p, x: loss_fn(p, model, config, layout, with_pixels(batch, x))[0], argnums=(0, 1))(params, pixels)

    results = [
        step([jnp.where(member["valid"], member["pixels"], filling) for member in batch["members"]]) for filling in (0.0, jnp.nan, 1e9)
    ]
    for result in results[1:]:
        jax.tree.map(np.testing.assert_array_equal, result, results[0])
    loss, (grads, by_pixel) = results[0]
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    for grad, member in zip(by_pixel, batch["members"], strict=True):
        assert not np.asarray(grad)[~np.asarray(member["valid"])].any()
        assert np.asarray(grad).any()


def slot_losses(layout: Layout, batch: Tree, masks: Masks, predicted: list[jax.Array]) -> list[tuple[jax.Array, jax.Array]]:
    """Errors and scored patches of each member."""
    return [
        reconstruction_loss(p, patchify(member["pixels"], slot.patch), patchify(member["valid"], slot.patch), hidden, norm_pix=True)
        for slot, member, hidden, p in zip(layout.slots, batch["members"], masks.hidden, predicted, strict=True)
    ]


@pytest.fixture(scope="module")
def unobserved(plain: tuple[Config, AbstractModel, Tree], tiny_dataset: Dataset) -> tuple[Layout, Tree, Masks, Callable[..., Any]]:
    """The Landsat layout with a last member that nobody observed: its masks, and a function to everything that others see of it."""
    config, model, _ = plain
    layout, batch = some_batch(tiny_dataset, LANDSAT)
    batch["members"][2]["valid"] = jnp.zeros_like(batch["members"][2]["valid"])
    seen, masks = read(config, layout, batch)

    def run(params: Tree, layout: Layout, batch: Tree, masks: Masks) -> Any:
        tokens, real, predicted = outputs(model, params, layout, batch, masks)
        return tokens[:, :20], predicted[:2], slot_losses(layout, batch, masks, predicted)[:2], real

    assert [keep.shape[1] for keep in masks.ids_keep] == [4, 16, 4]
    return layout, seen, masks, run


def test_nothing_that_a_member_without_observations_holds_matters(
    plain: tuple[Config, AbstractModel, Tree], unobserved: tuple[Layout, Tree, Masks, Callable[..., Any]]
):
    layout, batch, masks, run = unobserved
    compiled = jax.jit(lambda batch: run(plain[2], layout, batch, masks))
    expected = compiled(batch)
    assert not expected[-1][:, 20:].any()
    last, rng = batch["members"][2], np.random.default_rng(0)
    for content in (
        {"pixels": jnp.full_like(last["pixels"], jnp.nan)},
        {"pixels": jnp.asarray(rng.normal(size=last["pixels"].shape), jnp.float32) * 1e3},
        {"time": jnp.asarray([[0.0, 0.0, 0.0]] * 4)},
        {"grid_m": last["grid_m"] * 7.0 + 1000.0},
    ):
        changed = batch | {"members": [*batch["members"][:2], last | content]}
        jax.tree.map(np.testing.assert_array_equal, compiled(changed), expected)
    seen = batch | {"members": [*batch["members"][:2], last | {"valid": jnp.ones_like(last["valid"])}]}
    assert abs(compiled(seen)[0] - expected[0]).max() > 1e-3  # observed, it would matter


def other_content(member: Tree) -> Tree:
    """A member of other pixels, of another size, on other ground, at another time."""
    noise = jax.random.normal(jax.random.key(0), member["pixels"].shape)
    return member | {"pixels": noise, "grid_m": member["grid_m"] * 7.0 + 1000.0, "time": member["time"] + jnp.array([0.0, 3.0, 100.0])}


def apart(grads: Tree, others: Tree) -> float:
    """The largest difference of two gradients, over the largest value of its leaf."""

    def of_leaf(a: jax.Array, b: jax.Array) -> float:
        largest = float(jnp.maximum(abs(a).max(), abs(b).max()))
        return float(abs(a - b).max()) / largest if largest else 0.0

    return max(jax.tree.leaves(jax.tree.map(of_leaf, grads, others)))


def test_a_member_without_observations_is_as_good_as_none(
    plain: tuple[Config, AbstractModel, Tree], unobserved: tuple[Layout, Tree, Masks, Callable[..., Any]]
):
    params = plain[2]
    layout, batch, masks, run = unobserved
    *two, last = batch["members"]
    without, none = dataclasses.replace(layout, slots=layout.slots[:2]), batch | {"members": two}
    fewer = Masks(*(getattr(masks, field.name)[:2] for field in dataclasses.fields(Masks)))

    def loss(params: Tree, layout: Layout, batch: Tree, masks: Masks) -> tuple[jax.Array, Any]:
        seen = run(params, layout, batch, masks)
        return sum(errors_B.sum() / scored_B.sum() for errors_B, scored_B in seen[2]), seen

    found_grads, found = jax.jit(jax.grad(lambda params: loss(params, without, none, fewer), has_aux=True))(params)
    whole = jax.jit(jax.grad(lambda params, batch: loss(params, layout, batch, masks), has_aux=True))
    for unseen in (last, other_content(last)):
        grads, expected = whole(params, batch | {"members": [*two, unseen]})
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found[:3], expected[:3])
        np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
        # The sums run over more tokens, of which the added ones are zeros, and round otherwise: 4e-6 in float32 (eps 1.2e-7).
        assert apart(found_grads, grads) < 3e-5
    seen = batch | {"members": [*two, last | {"valid": jnp.ones_like(last["valid"])}]}
    blocks, seen_blocks = (grads["encoder"]["blocks"] for grads in (found_grads, whole(params, seen)[0]))
    assert apart(blocks, seen_blocks) > 1e-2  # observed, it would matter


@pytest.fixture(scope="module")
def landsat_step(plain: tuple[Config, AbstractModel, Tree], tiny_dataset: Dataset) -> Callable[..., Any]:
    """From parameters and a batch of the Landsat layout to loss, metrics and gradients."""
    config, model, _ = plain
    layout = tiny_dataset.layouts[LANDSAT]
    return jax.jit(jax.value_and_grad(lambda params, batch: loss_fn(params, model, config, layout, batch), has_aux=True))


@pytest.mark.parametrize("absent", [0, 1, 2])
def test_a_member_without_observations_counts_nothing_in_loss_and_gradients(
    plain: tuple[Config, AbstractModel, Tree], landsat_step: Callable[..., Any], tiny_dataset: Dataset, absent: int
):
    params = plain[2]
    _, batch = some_batch(tiny_dataset, LANDSAT)
    members = batch["members"]
    members[absent] |= {"valid": jnp.zeros_like(members[absent]["valid"])}
    (loss, metrics), grads = landsat_step(params, batch)
    assert metrics["slot_losses"][absent] == 0
    np.testing.assert_allclose(loss, np.delete(metrics["slot_losses"], absent).mean(), rtol=1e-6)
    members[absent] = other_content(members[absent])
    (other_loss, other_metrics), other_grads = landsat_step(params, batch)
    if absent == 1:  # the slot with the smallest patches orders the others' visible patches by its ground: the same sums in another order
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), (other_loss, other_metrics), (loss, metrics))
        assert apart(grads, other_grads) < 3e-5
    else:
        jax.tree.map(np.testing.assert_array_equal, (other_loss, other_metrics, other_grads), (loss, metrics, grads))


@pytest.mark.parametrize(("number", "order"), [(SERIES, [1, 0]), (LANDSAT, [2, 0, 1])])
def test_the_order_of_the_members_does_not_matter(
    plain: tuple[Config, AbstractModel, Tree], tiny_dataset: Dataset, number: int, order: list[int]
):
    config, model, params = plain
    layout, batch = some_batch(tiny_dataset, number)
    seen, masks = read(config, layout, batch)
    swapped = dataclasses.replace(layout, slots=tuple(layout.slots[i] for i in order))
    moved = Masks(*(tuple(getattr(masks, field.name)[i] for i in order) for field in dataclasses.fields(Masks)))
    tokens, real, predicted = jax.jit(lambda batch: outputs(model, params, layout, batch, masks))(seen)
    members = [seen["members"][i] for i in order]
    found, found_real, found_predicted = jax.jit(lambda batch: outputs(model, params, swapped, batch, moved))(seen | {"members": members})
    starts = np.cumsum([0] + [keep.shape[1] for keep in masks.ids_keep])
    places = np.concatenate([np.arange(starts[i], starts[i + 1]) for i in order])
    np.testing.assert_allclose(found, tokens[:, places], atol=1e-5)
    np.testing.assert_array_equal(found_real, real[:, places])
    for i, prediction in zip(order, found_predicted, strict=True):
        np.testing.assert_allclose(prediction, predicted[i], atol=1e-4)


@pytest.fixture(scope="module")
def two_places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Layout, Tree, Tree]:
    """One terrain, at two places 3 km and 2 km apart: both ingested, as batches of the same sets."""
    values = np.random.default_rng(0).normal(200, 30, (16, 32)).astype(np.float32)
    batches = []
    for name, east_m, north_m in (("here", 0.0, 0.0), ("there", 3000.0, 2000.0)):
        folder = tmp_path_factory.mktemp("moved") / name
        write_geotiff(folder / "dem.tif", values, left=500_000.0 + east_m, top=4_800_000.0 + north_m)
        out, _ = ingest(write_scenes_yaml(folder, scene()), one_slot(pixels=16, stride_m=160.0))
        dataset = open_dataset(str(out))
        examples = batch_of(dataset, dataset.layouts[0], 2)
        by_pixels = np.argsort(examples["members"][0]["pixels"].sum(axis=(1, 2, 3)))
        batches.append(jax.tree.map(lambda x, order=by_pixels: x[order], examples))
    return one_slot(pixels=16, stride_m=160.0), *batches


def test_a_set_that_lies_elsewhere_differs_in_its_place_alone(two_places: tuple[Layout, Tree, Tree]):
    layout, here, there = two_places
    jax.tree.map(np.testing.assert_array_equal, here["members"], there["members"])
    assert (abs(here["place"]["lonlat_deg"] - there["place"]["lonlat_deg"])[:, 1:] > 0.01).all()
    assert (here["place"]["geosot"] != there["place"]["geosot"]).any(axis=1).all()
    for geo, moves in (("none", False), ("a2mae", True), ("prithvi", True), ("cartesian", True)):
        config = config_of(encoding__geo=geo)
        model, params = build(config, (layout,))
        encode = jax.jit(lambda batch, model=model, params=params: merge(model.graphdef, params).encoder(layout, batch)[0])
        difference = abs(encode(here) - encode(there)).max(axis=(1, 2))
        assert (difference > 1e-5).all() if moves else not difference.any()


def test_the_place_is_told_to_all_tokens_of_a_set_alike(plain: tuple[Config, AbstractModel, Tree], tiny_dataset: Dataset):
    _, model, params = plain
    layout, batch = some_batch(tiny_dataset, LANDSAT)
    encodings: Encodings = merge(model.graphdef, params).encoder.encodings
    elsewhere = batch | {"place": batch["place"] | {"geosot": 1 - batch["place"]["geosot"]}}
    moves = [encodings(layout, elsewhere, t, None) - encodings(layout, batch, t, None) for t in range(3)]
    for move in moves:
        np.testing.assert_allclose(move, jnp.broadcast_to(moves[0][:, :1], move.shape), atol=1e-5)
    assert (abs(moves[0]).max(axis=-1) > 0.1).all()


def test_a_withheld_band_is_predicted_and_scored_but_not_seen(tiny_dataset: Dataset):
    config = config_of(tokenizer__band_dropout=0.9)
    model, params = build(config, tiny_dataset.layouts[:1])
    layout, batch = some_batch(tiny_dataset, SERIES)

    @jax.jit
    def predicted(batch: Tree) -> tuple[list[jax.Array], jax.Array]:
        view, masks = read_batch(config, layout, batch)
        return predict(model, params, view, masks), loss_fn(params, model, config, layout, batch)[0]

    seen, _ = read(config, layout, batch)
    withheld = batch["members"][0]["valid"] & ~seen["members"][0]["valid"]
    assert 0.5 < float(withheld.mean()) < 1
    ramp = jnp.linspace(-3, 3, 16)[:, None, None]
    changed = with_pixels(batch, [jnp.where(withheld, ramp, batch["members"][0]["pixels"]), batch["members"][1]["pixels"]])
    (before, loss), (after, other_loss) = predicted(batch), predicted(changed)
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert abs(loss - other_loss) > 1e-2

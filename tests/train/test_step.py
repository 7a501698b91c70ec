"""The train step on several meshes, and the loop around it."""

import dataclasses
import json
import pathlib
import shutil
from typing import Any

from etils import epath
import jax
import numpy as np
import pytest

from rsfm_jax.config import Config, LossConfig
from rsfm_jax.data.dataset import Dataset, open_dataset
from rsfm_jax.data.stream import BatchStream
from rsfm_jax.errors import InputError
from rsfm_jax.ingest.builder import WrittenShard, gather_layout
from rsfm_jax.ingest.records import fields_of, write_records
from rsfm_jax.nn.patchify import unpatchify
from rsfm_jax.parallel.sharding import to_global
from rsfm_jax.train.loop import NotFiniteError, Trainer, run_training
from rsfm_jax.train.metrics import read_metrics
from rsfm_jax.train.pictures import EXAMPLES, draw, make_reconstruct
from rsfm_jax.train.step import example_keys, predict, read_batch
from tests.helpers import Parts, batch_of, first_batches, on_device, parts, records


@pytest.fixture(scope="module")
def runs(tiny_path: pathlib.Path) -> dict[tuple[int, int], tuple[Parts, list[dict[str, Any]], Any]]:
    """Three steps of the two-sensor layout on three meshes: parts, metrics, last state."""
    from tests import tiny_config

    config, dataset = tiny_config.get_config(), open_dataset(str(tiny_path))
    batches = [batch for layout, batch in first_batches(dataset, 8, 6) if layout.name == "landsat"][:3]
    found = {}
    for sizes in ((1, 1), (2, 4), (4, 2)):
        made, metrics = parts(config, dataset, *sizes), []
        state = made.state
        for batch in batches:
            state, values = made.steps["landsat"](state, to_global(made.mesh, batch))
            metrics.append(jax.device_get(values))
        found[sizes] = made, metrics, state
    return found


@pytest.mark.parametrize("sizes", [(2, 4), (4, 2)])
def test_the_loss_is_the_same_on_any_mesh(runs, sizes):
    for ours, expected in zip(runs[sizes][1], runs[1, 1][1], strict=True):
        np.testing.assert_allclose(ours["loss"], expected["loss"], atol=1e-5)
        np.testing.assert_allclose(ours["slot_losses"], expected["slot_losses"], atol=1e-5)
        np.testing.assert_allclose(ours["slot_leaks"], expected["slot_leaks"], atol=1e-6)
        np.testing.assert_allclose(ours["example_errors"], expected["example_errors"], atol=1e-4)
        np.testing.assert_allclose(ours["grad_norm"], expected["grad_norm"], rtol=1e-4)
    assert len({float(metrics["loss"]) for metrics in runs[sizes][1]}) == 3


@pytest.mark.parametrize("sizes", [(2, 4), (4, 2)])
def test_the_state_stays_where_it_was_put(runs, sizes):
    made, _, state = runs[sizes]
    for leaf, abstract in zip(jax.tree.leaves(state), jax.tree.leaves(made.abstract), strict=True):
        assert leaf.sharding.is_equivalent_to(abstract.sharding, leaf.ndim)
        assert leaf.dtype == abstract.dtype
    assert int(state.step) == 3
    kernel = state.params["encoder"]["blocks"]["layers"]["mlp"]["fc1"]["kernel"]
    assert {shard.data.size for shard in kernel.addressable_shards} == {kernel.size // sizes[1]}


def test_the_first_parameters_are_the_same_on_any_mesh(runs):
    initial = [jax.device_get(parts_.state.step) for parts_, _, _ in runs.values() if not parts_.state.step.is_deleted()]
    assert initial == []  # the step consumed the state it was given
    states = [jax.device_get(state.params) for _, _, state in runs.values()]
    for other in states[1:]:
        for ours, theirs in zip(jax.tree.leaves(states[0]), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_keys_depend_on_seed_layout_and_index_alone(tiny_dataset: Dataset):
    series, landsat = tiny_dataset.layouts
    keys = [example_keys(*case) for case in ((0, series, np.arange(4)), (1, series, np.arange(4)), (0, landsat, np.arange(4)))]
    data = np.concatenate([jax.random.key_data(k) for k in keys])
    assert len({row.tobytes() for row in data}) == 12
    swapped = jax.random.key_data(example_keys(0, series, np.array([3, 0])))
    np.testing.assert_array_equal(swapped, data[[3, 0]])


def test_one_program_for_each_layout_and_no_hidden_transfer(tiny: Config, tiny_dataset: Dataset):
    """Batches go to the devices and metrics come back by calls that say so; nothing else crosses."""
    trainer = Trainer(tiny, tiny_dataset)
    state = trainer.initial_state()
    with BatchStream(tiny_dataset, tiny.data, 0, 0, 1) as stream, jax.transfer_guard("disallow"):
        for step in range(50):
            layout, batch = stream.next(step)
            state, metrics = trainer.steps[layout.name](state, to_global(trainer.program.mesh, batch))
            assert jax.device_get(metrics)["lr"] >= 0
    assert {name: step._cache_size() for name, step in trainer.steps.items()} == {"series": 1, "landsat": 1}


def test_the_loss_falls(trained: pathlib.Path):
    rows = read_metrics(trained)
    assert [row["step"] for row in rows] == list(range(1, 41))
    for layout in ("series", "landsat"):
        losses = [row["loss"] for row in rows if row["layout"] == layout]
        assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    assert rows[0]["lr"] == 0.0
    assert all(row["grad_norm"] > 0 and len(row["slot_losses"]) == (2 if row["layout"] == "series" else 3) for row in rows)


def test_a_batch_that_does_not_divide_over_the_mesh(tiny: Config, tiny_dataset: Dataset):
    tiny.data.global_batch_size = 12
    with pytest.raises(InputError, match="must be a multiple of data x fsdp = 8"):
        Trainer(tiny, tiny_dataset)


def test_a_loss_that_is_not_a_number_names_its_image_set(tiny: Config, tiny_path: pathlib.Path, tmp_path: pathlib.Path):
    """One record of the dataset has a scale of infinity."""
    copy = shutil.copytree(tiny_path, tmp_path / "damaged")
    summary = json.loads((copy / "dataset.json").read_text())
    summary["layouts"] = summary["layouts"][:1]
    (copy / "dataset.json").write_text(json.dumps(summary))
    layout = open_dataset(str(copy)).layouts[0]
    rows = records(copy, "series")
    bad = rows[20]["key"].decode()
    rows[20]["scale_0"] = np.full(4, np.inf)
    shutil.rmtree(copy / "records")
    dtypes = [str(rows[0][f"pixels_{i}"].dtype) for i in range(2)]
    written = WrittenShard(epath.Path(copy) / "written", len(rows))
    write_records(written.file, fields_of(layout, dtypes), [(row["key"].decode(), row) for row in rows], order=str)
    gather_layout(layout, dtypes, {"train": [written]}, copy)
    tiny.data.path = str(copy)
    with pytest.raises(NotFiniteError) as caught:
        run_training(tiny, str(tmp_path / "run"))
    with BatchStream(open_dataset(str(copy)), tiny.data, 0, 0, 1) as stream:
        step, index = next(
            (step, int(i)) for step in range(1, 8) for i in stream.next(step - 1)[1]["global_index"] if stream.key("series", int(i)) == bad
        )
    assert f"step {step}, layout series: loss nan" in str(caught.value)
    assert f"in image sets {bad} (global index {index});" in str(caught.value)
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == list(range(1, step))


@pytest.mark.parametrize("norm_pix", [True, False])
def test_pictures(tiny: Config, tiny_dataset: Dataset, norm_pix: bool):
    tiny = dataclasses.replace(tiny, loss=LossConfig(norm_pix=norm_pix))
    layout = tiny_dataset.layouts[0]
    made = parts(tiny, tiny_dataset, 1, 1)
    batch = batch_of(tiny_dataset, layout)
    batch["members"][0]["valid"][0, :4, :4] = False
    shown = jax.device_get(make_reconstruct(made.model, tiny, layout, made.mesh)(made.state.params, batch))
    for slot, images, member in zip(layout.slots, shown, batch["members"], strict=True):
        hidden = images["hidden"]
        assert hidden.shape == (EXAMPLES, slot.pixels, slot.pixels, 4)
        assert hidden.mean() == 0.75
        np.testing.assert_array_equal(images["pixels"], member["pixels"][:EXAMPLES])
        np.testing.assert_array_equal(images["reconstruction"][~hidden], member["pixels"][:EXAMPLES][~hidden])
        assert (images["reconstruction"][hidden] != member["pixels"][:EXAMPLES][hidden]).mean() > 0.9
        np.testing.assert_array_equal(images["valid"], member["valid"][:EXAMPLES])
    view, masks = read_batch(tiny, layout, on_device(batch))
    predicted = predict(made.model, made.state.params, view, masks)
    for slot, images, raw in zip(layout.slots, shown, predicted, strict=True):
        plain = np.asarray(unpatchify(raw[:EXAMPLES], slot.patch, slot.grid, slot.grid))
        same = np.isclose(images["reconstruction"], plain, atol=1e-4)[images["hidden"]].mean()
        assert (same < 0.5) if norm_pix else (same == 1)
    picture = draw(layout, tiny_dataset.statistics, shown, tiny)
    assert picture.dtype == np.uint8
    tile = 160 + 4
    assert picture.shape == (2 * (tile + 14), EXAMPLES * 3 * tile, 3)
    first = picture[14 : 14 + tile, :tile]
    assert first[4, 4].tolist() == [114, 25, 89]  # the patch without observation, in its own colour
    assert len(np.unique(first[60:].reshape(-1, 3), axis=0)) > 20

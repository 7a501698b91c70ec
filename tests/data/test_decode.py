"""Batches written in place, against the plain formula, bit by bit."""

import pickle

import numpy as np
import pytest

from rsfm_jax.data.dataset import Dataset
from rsfm_jax.data.decode import Decoder
from rsfm_jax.data.memory import Recycler

DTYPES = [np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.float32, np.float64]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("valid_share", [1.0, 0.9, 0.0])
def test_the_plain_formula_to_the_last_bit(tiny_dataset: Dataset, dtype: type, valid_share: float):
    layout, rng = tiny_dataset.layouts[1], np.random.default_rng(0)
    source = tiny_dataset.source(layout, "train")
    records = [dict(source[k]) for k in range(3)]
    for record in records:
        for i, slot in enumerate(layout.slots):
            shape = (slot.pixels, slot.pixels, len(slot.bands))
            record[f"pixels_{i}"] = (rng.random(shape) * (250 if dtype is np.uint8 else 30_000)).astype(dtype)
            record[f"valid_{i}"] = np.packbits(rng.random(shape) < valid_share)
    batch = Decoder(tiny_dataset, layout).batch(iter(records), 3)
    for row, record in enumerate(records):
        for i, slot in enumerate(layout.slots):
            dn, (mean, std) = record[f"pixels_{i}"], tiny_dataset.mean_std(slot)
            valid = np.unpackbits(record[f"valid_{i}"], count=dn.size).reshape(dn.shape).astype(bool)
            gain, shift = record[f"scale_{i}"] / std, (record[f"offset_{i}"] - mean) / std
            values = dn * gain.astype(np.float32) + shift.astype(np.float32)
            expected = np.where(valid, values, 0).astype(np.float32)
            np.testing.assert_array_equal(batch["members"][i]["valid"][row], valid)
            assert batch["members"][i]["pixels"][row].tobytes() == expected.tobytes()


@pytest.mark.parametrize("bit", [0, 1, -1])
def test_a_single_invalid_value(tiny_dataset: Dataset, bit: int):
    layout = tiny_dataset.layouts[0]
    record = dict(tiny_dataset.source(layout, "train")[0])
    valid = np.ones(record["pixels_0"].size, bool)
    valid[bit] = False
    member = Decoder(tiny_dataset, layout)(record | {"valid_0": np.packbits(valid)})["members"][0]
    np.testing.assert_array_equal(member["valid"].reshape(-1), valid)
    assert member["pixels"].reshape(-1)[bit] == 0


def test_a_batch_must_be_full(tiny_dataset: Dataset):
    source = tiny_dataset.source(tiny_dataset.layouts[0], "train")
    with pytest.raises(ValueError, match="shorter"):
        Decoder(tiny_dataset, tiny_dataset.layouts[0]).batch([source[0]], 2)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_when_the_last_view_is_gone_and_not_before():
    recycler, shapes = Recycler(), [((3, 5), np.float32), ((7,), bool)]
    first, second = recycler.arrays(shapes)
    assert (first.shape, first.dtype, second.shape, second.dtype) == ((3, 5), np.float32, (7,), bool)
    first[...], second[...] = 3.0, True
    assert (first == 3.0).all()
    place, view = address(first), second[2:4]
    del first, second
    others = recycler.arrays(shapes)
    others[0][...], others[1][...] = 9.0, False
    assert address(others[0]) != place
    assert view.all()
    del view
    assert address(recycler.arrays(shapes)[0]) == place


def test_memory_of_another_size_is_not_mixed_up():
    recycler = Recycler()
    (small,) = recycler.arrays([((10,), np.float32)])
    del small
    (large,) = recycler.arrays([((3 << 20,), np.float32)])
    large[...] = 1.0
    assert large.sum() == 3 << 20


def test_a_decoder_travels_to_another_process(tiny_dataset: Dataset):
    layout = tiny_dataset.layouts[0]
    record, decoder = tiny_dataset.source(layout, "train")[0], Decoder(tiny_dataset, layout)
    ours, theirs = decoder(record), pickle.loads(pickle.dumps(decoder))(record)
    np.testing.assert_array_equal(ours["members"][0]["pixels"], theirs["members"][0]["pixels"])

"""Records without a copy, against TFDS and protobuf reading the same bytes."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from rsfm_jax.data.dataset import Dataset
from rsfm_jax.data.records import Records, feature_places


@pytest.mark.parametrize("layout_number", [0, 1])
def test_as_tfds_reads_them(tiny_dataset: Dataset, layout_number: int):
    layout = tiny_dataset.layouts[layout_number]
    folder = tiny_dataset.path / "records" / "image_sets" / layout.name / "1.0.0"
    theirs = tfds.builder_from_directory(str(folder)).as_data_source(split="train")
    ours = tiny_dataset.source(layout, "train")
    assert len(ours) == len(theirs)
    for record, expected in zip(ours, theirs, strict=True):
        assert set(record) == set(expected)
        for name, value in expected.items():
            assert type(record[name]) is type(value)
            if isinstance(value, np.ndarray):
                assert record[name].dtype == value.dtype
            np.testing.assert_array_equal(record[name], value)


def example(**features: bytes) -> bytes:
    message = tf_example_pb2.Example()
    for name, value in features.items():
        message.features.feature[name].bytes_list.value.append(value)
    return message.SerializeToString()


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 16_383, 16_384, 3_000_000])
def test_sizes_of_every_length(size: int):
    values = {"a": bytes(size), "name_of_" + "x" * 150: b"\xff" * (size + 3), "": b"end"}
    data = example(**values)
    assert {name: data[start:end] for name, (start, end) in feature_places(data).items()} == values


def test_what_is_no_such_record():
    numbers = tf_example_pb2.Example()
    numbers.features.feature["a"].int64_list.value.append(3)
    two = tf_example_pb2.Example()
    two.features.feature["a"].bytes_list.value.extend([b"1", b"2"])
    good = example(a=b"123", b=bytes(200))
    for data in (numbers.SerializeToString(), two.SerializeToString(), good[:-1], good + b"\n\x00", good[3:], bytes(8)):
        with pytest.raises((ValueError, IndexError)):
            feature_places(data)


def test_an_array_of_another_size_than_stated():
    records = Records([example(a=bytes(6))], {"a": (np.dtype(np.uint16), (4,))})
    with pytest.raises(ValueError, match="reshape"):
        records[0]

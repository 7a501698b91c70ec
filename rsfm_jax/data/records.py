"""Serialised records to arrays, without a copy.

TFDS writes a record as a `tf.train.Example`: nested length-delimited fields, the features' bytes at the bottom. TFDS itself reads one by
having protobuf copy all of it, then each feature twice more; here arrays point into the record as it was read. What is understood is what
`rsfm_jax.ingest.builder` writes: features that are one string of bytes each.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

_FIRST, _SECOND = 0x0A, 0x12  # protobuf's tags of a field 1 and 2 that is a string, bytes or a message


def _field(data: bytes, at: int, tag: int) -> tuple[int, int]:
    """Start and end of the content of the field at a place, which must have this tag."""
    if data[at] != tag:
        raise ValueError(f"tag {data[at]} where {tag} should be, at byte {at}")
    size, at = data[at + 1], at + 2
    if size >= 0x80:  # a varint: seven bits a byte, the lowest first, the highest bit set in all but the last
        size, shift = size & 0x7F, 7
        while data[at] >= 0x80:
            size, at, shift = size | (data[at] & 0x7F) << shift, at + 1, shift + 7
        size, at = size | data[at] << shift, at + 1
    return at, at + size


def feature_places(data: bytes) -> dict[str, tuple[int, int]]:
    """Where the bytes of each feature are.

    Args:
      data: A serialised `tf.train.Example` whose features are one string of bytes each: ``features`` {``feature`` {name, ``bytes_list``
        {``value``}}}, each message with its fields in the order of their numbers, as protobuf writes them.

    Returns:
      ``{name: (start, end)}`` into ``data``.

    Raises:
      ValueError: it is something else.
      IndexError: it ends early.

    Source: tensorflow/core/example/example.proto and feature.proto; protobuf.dev/programming-guides/encoding.
    """
    places = {}
    at, end = _field(data, 0, _FIRST)
    while at < end:
        entry, entry_end = _field(data, at, _FIRST)
        name, name_end = _field(data, entry, _FIRST)
        feature, _ = _field(data, name_end, _SECOND)
        values, _ = _field(data, feature, _FIRST)
        value, value_end = _field(data, values, _FIRST)
        if value_end != entry_end:
            raise ValueError(f"a feature that is not one string of bytes, at byte {at}")
        places[data[name:name_end].decode()] = value, value_end
        at = entry_end
    if not at == end == len(data):
        raise ValueError(f"{len(data)} bytes, of which {end} should be the features and {at} are")
    return places


class Records(Sequence[dict[str, Any]]):
    """Random access to the records of a split, each a dict of its features."""

    def __init__(self, serialised: Sequence[bytes], arrays: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> None:
        """Wraps serialised records.

        Args:
          serialised: The records as they were written.
          arrays: Type and shape of every feature that is an array; the others are bytes.
        """
        self.serialised, self._arrays = serialised, dict(arrays)

    def __len__(self) -> int:
        return len(self.serialised)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> Any:
        """The features of a record: read-only arrays that hold on to the record's bytes, and text as bytes.

        Raises:
          ValueError: the bytes are not such a record.
        """
        return self.parse(self.serialised[index])

    def parse(self, data: bytes) -> dict[str, Any]:
        """The features of a serialised record, as `__getitem__` gives them."""
        record: dict[str, Any] = {}
        for name, (start, end) in feature_places(data).items():
            if name in self._arrays:
                dtype, shape = self._arrays[name]
                values = np.frombuffer(data, dtype, (end - start) // dtype.itemsize, start)
                record[name] = values.reshape(shape)
            else:
                record[name] = data[start:end]
        return record

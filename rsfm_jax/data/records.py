"""Serialised records to arrays, without a copy.

TFDS writes a record as a `tf.train.Example`: nested length-delimited fields, the features' bytes at the bottom. TFDS itself reads one by
having protobuf copy all of it, then each feature twice more; here arrays point into the record as it was read. What is understood is what
`rsfm_jax.ingest.builder` writes: features that are one string of bytes each.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

_EXAMPLE_FEATURES = _MAP_ENTRY = _ENTRY_KEY = _BYTES_LIST = _BYTES = 1  # field numbers in tensorflow/core/example/{example,feature}.proto
_ENTRY_VALUE = 2
_LENGTH_DELIMITED = 2  # protobuf's wire type of strings, bytes and messages


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Fields of a message at ``data[at:end]``, as (number, start, end) of their content."""
    while at < end:
        tag, size, at = data[at], data[at + 1], at + 2
        if tag >= 0x80:
            raise ValueError(f"a field of a number above 15 at byte {at - 2}")
        if size >= 0x80:
            size, at = _varint(data, at - 1)
        if tag & 7 != _LENGTH_DELIMITED or at + size > end:
            raise ValueError(f"field {tag >> 3} of wire type {tag & 7} and {size} bytes, at byte {at} of {end}")
        yield tag >> 3, at, at + size
        at += size


def _only(data: bytes, at: int, end: int, number: int) -> tuple[int, int]:
    """Where the content of a message's only field is."""
    ((found, start, stop),) = _fields(data, at, end)
    if found != number:
        raise ValueError(f"field {found} where field {number} should be, at byte {at}")
    return start, stop


def feature_places(data: bytes) -> dict[str, tuple[int, int]]:
    """Where the bytes of each feature are.

    Args:
      data: A serialised `tf.train.Example` whose features are one string of bytes each.

    Returns:
      ``{name: (start, end)}`` into ``data``.

    Raises:
      ValueError: it is something else.
    """
    places = {}
    for number, at, end in _fields(data, *_only(data, 0, len(data), _EXAMPLE_FEATURES)):
        entry = {field: (start, stop) for field, start, stop in _fields(data, at, end)}
        if number != _MAP_ENTRY or set(entry) != {_ENTRY_KEY, _ENTRY_VALUE}:
            raise ValueError(f"no feature with a name at byte {at}")
        name = data[slice(*entry[_ENTRY_KEY])].decode()
        places[name] = _only(data, *_only(data, *entry[_ENTRY_VALUE], _BYTES_LIST), _BYTES)
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

    def __getitem__(self, index: Any) -> dict[str, Any]:
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

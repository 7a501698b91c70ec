"""Records of image sets and the files they are in. Imports no TFDS, which takes a worker seconds to start.

A record holds, for slot i: ``pixels_i`` (H, W, C) as acquired, ``valid_i`` the packed valid bits, ``scale_i`` and ``offset_i`` (C,) with
physical = scale * pixel + offset, ``grid_m_i`` (4,) = x of the left edge, y of the upper edge (metres from the set's centre, x east,
y north) and the pixel's width and height, ``time_i`` (3,) = known, year, day of year, and ``scene_i``. The set has ``key``, ``crs``,
``centre_m`` (2,) and ``lonlat_deg`` (4, 2), the footprint's corners.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import os
from typing import Any

from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath
import numpy as np

from rsfm_jax.layouts import Layout

Example = tuple[str, dict[str, Any]]
Fields = dict[str, tuple[np.dtype, tuple[int, ...]] | None]
WRITER_OPTIONS = "group_size:1,zstd:2"  # every record is read alone; TFDS's zstd:3 takes three times as long for 7 % (docs/performance.md)


def fields_of(layout: Layout, dtypes: Sequence[str]) -> Fields:
    """What a record holds.

    Args:
      layout: The layout.
      dtypes: numpy type of the digital numbers of each slot.

    Returns:
      Type and shape of each array by name, None for a text.
    """
    named: Fields = {"key": None, "crs": None, "centre_m": _array((2,)), "lonlat_deg": _array((4, 2))}
    for i, (slot, dtype) in enumerate(zip(layout.slots, dtypes, strict=True)):
        shape = (slot.pixels, slot.pixels, len(slot.bands))
        named |= {
            f"pixels_{i}": _array(shape, dtype),
            f"valid_{i}": _array(((int(np.prod(shape)) + 7) // 8,), "uint8"),
            f"scale_{i}": _array((shape[-1],)),
            f"offset_{i}": _array((shape[-1],)),
            f"grid_m_{i}": _array((4,)),
            f"time_{i}": _array((3,)),
            f"scene_{i}": None,
        }
    return named


def _array(shape: tuple[int, ...], dtype: str = "float64") -> tuple[np.dtype, tuple[int, ...]]:
    return np.dtype(dtype), shape


def _message(tag: int, *parts: bytes | memoryview) -> list[bytes | memoryview]:
    """Parts of a protobuf field that is length-delimited."""
    size, head = sum(len(part) for part in parts), bytearray([tag << 3 | 2])
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    return [bytes([*head, size]), *parts]


def serialised(fields: Fields, example: Mapping[str, Any]) -> bytes:
    """A record as TFDS writes it: a `tf.train.Example` whose features are one string of bytes each, here in the order of their names.

    Args:
      fields: What it holds.
      example: The values.

    Returns:
      The bytes; the same for the same values.

    Raises:
      ValueError: A value is missing, not asked for, or of another type or shape.

    Source: tensorflow/core/example/example.proto and feature.proto; protobuf.dev/programming-guides/encoding.
    """
    if example.keys() != fields.keys():
        raise ValueError(f"{sorted(example.keys() ^ fields.keys())} are among the values or the fields alone")
    features: list[bytes | memoryview] = []
    for name in sorted(fields):
        value, field = example[name], fields[name]
        if field is None:
            content: bytes | memoryview = value.encode() if isinstance(value, str) else value
        elif (value.dtype, value.shape) != field:
            raise ValueError(f"{name!r} is {value.dtype} {value.shape}; it should be {field[0]} {field[1]}")
        else:
            content = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
        feature = _message(1, *_message(1, content))  # bytes_list { value }
        features += _message(1, *_message(1, name.encode()), *_message(2, *feature))
    return b"".join(_message(1, *features))


def write_records(file: epath.Path, fields: Fields, examples: Iterable[Example], order: Callable[[str], Any]) -> None:
    """Writes a record file, which appears whole or not at all, and not where there is no example.

    Args:
      file: The file.
      fields: What each record holds.
      examples: Key and record of each; all are held serialised until they are written.
      order: Makes of a key what records are sorted by.
    """
    made = [(order(key), serialised(fields, example)) for key, example in examples]
    if not made:
        return
    unfinished = file.with_name(f"{file.name}.unfinished")
    writer = ArrayRecordWriter(os.fspath(unfinished), WRITER_OPTIONS)
    for _, record in sorted(made):
        writer.write(record)
    writer.close()
    unfinished.replace(file)

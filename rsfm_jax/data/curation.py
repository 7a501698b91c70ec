"""A curated folder as training reads it: which records of the split 'train' were kept.

`rsfm_jax.curate` writes the folder: ``manifest.parquet``, a row for each image set, and ``curation.json``. Never imports jax.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import hashlib
import json
from typing import Any

from etils import epath
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rsfm_jax.errors import InputError

SCHEMA_VERSION = 1  # of curation.json and manifest.parquet
CURATION_FILE = "curation.json"
MANIFEST_FILE = "manifest.parquet"


@dataclasses.dataclass(frozen=True)
class Kept:
    """The records of one layout that a curation kept.

    Attributes:
      record: Their indices in the split 'train', ascending, int64 (K,).
      code: `key_code` of each, uint64 (K,).
    """

    record: np.ndarray
    code: np.ndarray


class KeptRecords(Sequence):
    """The kept records of a source, as a shorter source."""

    def __init__(self, source: Sequence[dict[str, Any]], kept: Kept, curation: str) -> None:
        """Wraps a source.

        Args:
          source: All records of the split.
          kept: Which of them.
          curation: The curated folder, for messages.
        """
        self._source, self._kept, self._curation = source, kept, curation

    def __len__(self) -> int:
        return len(self._kept.record)

    def __getitem__(self, index: int) -> dict[str, Any]:  # type: ignore[override]
        """Reads a kept record; raises `InputError` when another one is in its place."""
        place = int(self._kept.record[index])
        record = self._source[place]
        if key_code(record["key"]) != self._kept.code[index]:
            raise InputError(
                f"{self._curation}: record {place} is {record['key'].decode()!r} and was another image set when it was curated; "
                "the dataset has the same sets in another order: curate it again"
            )
        return record


def key_code(key: bytes) -> int:
    """64 bits of a key's BLAKE2b."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")


def read_description(folder: epath.Path, named: str) -> dict[str, Any]:
    """Reads a curated folder's curation.json.

    Args:
      folder: The curated folder.
      named: What it was given by, for messages.

    Raises:
      InputError: it is not there, damaged or of another version.
    """
    file = folder / CURATION_FILE
    if not file.exists() or not (folder / MANIFEST_FILE).exists():
        raise InputError(f"{named}={folder}: no {CURATION_FILE} and {MANIFEST_FILE} there; make them with python -m rsfm_jax.curate")
    try:
        found = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{file}: not valid JSON ({error}); curate again") from None
    version = found.get("schema_version") if isinstance(found, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(f"{file}: schema_version is {version!r}, this version reads {SCHEMA_VERSION}; curate again with this version")
    return found


def kept_keys(folder: epath.Path, named: str) -> frozenset[str]:
    """Keys of all image sets that a curation kept, of every split and dataset.

    Args:
      folder: The curated folder.
      named: What it was given by, for messages.

    Returns:
      The keys.

    Raises:
      InputError: the folder is none, is damaged, or keeps nothing.
    """
    read_description(folder, named)
    try:
        with (folder / MANIFEST_FILE).open("rb") as file:
            keys = pq.read_table(file, columns=["key"], filters=[("kept", "==", True)])["key"].to_pylist()
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{folder / MANIFEST_FILE}: cannot be read ({error}); curate again") from None
    if not keys:
        raise InputError(f"{named}={folder}: keeps no image set; curate again")
    return frozenset(keys)


def read_kept(folder: epath.Path, dataset_digest: str, sets: Mapping[str, Mapping[str, int]]) -> dict[str, Kept]:
    """Reads which training records of a dataset a curation kept.

    Args:
      folder: The curated folder.
      dataset_digest: Digest of the dataset that is read.
      sets: Its image sets, ``{layout: {split: count}}``.

    Returns:
      The kept records of every layout with any.

    Raises:
      InputError: the folder is none, is of other datasets, or names records that the dataset does not have.
    """
    named = "config.data.curation"
    curated = [dataset["digest"] for dataset in read_description(folder, named)["datasets"]]
    if dataset_digest not in curated:
        raise InputError(
            f"{named}={folder}: is of the dataset with digest {', '.join(curated)}, and config.data.path has {dataset_digest}; "
            "curate the dataset that is read"
        )
    wanted = [("dataset", "==", dataset_digest), ("split", "==", "train"), ("kept", "==", True)]
    try:
        with (folder / MANIFEST_FILE).open("rb") as file:
            table = pq.read_table(file, columns=["layout", "record", "key"], filters=wanted)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{folder / MANIFEST_FILE}: cannot be read ({error}); curate again") from None
    layouts, records = table["layout"].to_numpy(), table["record"].to_numpy()
    codes = np.array([key_code(key.encode()) for key in table["key"].to_pylist()], np.uint64)
    found: dict[str, Kept] = {}
    for name in sorted(set(layouts)):
        rows = np.flatnonzero(layouts == name)
        rows = rows[np.argsort(records[rows], kind="stable")]
        found[name] = Kept(records[rows].astype(np.int64), codes[rows])
        if found[name].record[-1] >= sets.get(name, {}).get("train", 0):
            raise InputError(
                f"{folder / MANIFEST_FILE}: keeps record {found[name].record[-1]} of layout {name!r}, which the dataset has not"
            )
    if not found:
        raise InputError(f"{named}={folder}: keeps no training set of config.data.path; curate again")
    return found


def kept_digest(kept: Mapping[str, Kept]) -> str:
    """SHA-256 over which records are kept."""
    digest = hashlib.sha256()
    for name in sorted(kept):
        digest.update(f"{name} {len(kept[name].record)} ".encode() + kept[name].record.tobytes() + kept[name].code.tobytes())
    return digest.hexdigest()

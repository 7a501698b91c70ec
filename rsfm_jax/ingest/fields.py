"""Values of descriptions in YAML, read strictly: what is missing, misspelt or of another kind is an `InputError` that names the field."""

import contextlib
import datetime
import pathlib
from typing import Any

import yaml

from rsfm_jax.errors import InputError, nearest

NUMBERS = ("scale", "offset", "nodata")  # of a band, or of the scene for all its bands
WORDS = {"unit": ("dB", "power", "amplitude"), "complex": ("dB", "power", "amplitude")}  # likewise
OPEN = "?"  # stands in a draft for what the user must say


class _NoRepeats(yaml.SafeLoader):
    """The safe YAML loader, which refuses a key that stands twice in a mapping instead of taking the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({key for key in keys if keys.count(key) > 1 and key != "<<"})
        if twice:
            raise yaml.YAMLError(f"key {twice[0]!r} stands twice in the mapping that begins in line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def load_yaml(file: pathlib.Path) -> Any:
    """The content of a YAML file.

    Args:
      file: The file.

    Returns:
      What YAML makes of it.

    Raises:
      InputError: it is not valid YAML, a key stands twice in a mapping, or a date does not parse.
    """
    try:
        return yaml.load(file.read_text(), _NoRepeats)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:  # the YAML reader itself parses timestamps
        raise InputError(f"{file}: acquired_utc: a date does not parse ({error}); write YYYY-MM-DD or YYYY-MM-DDTHH:MM:SSZ") from None


def refuse_open(where: str, described: Any) -> None:
    """Refuses a description in which a draft's question is not answered."""
    for field, value in described.items() if isinstance(described, dict) else ():
        if str(field).startswith(OPEN) or value == OPEN:
            raise InputError(
                f"{where}: {str(field)!r} is still open, as drafted ({field}: {value}); the comments above it say what is needed"
            )
        refuse_open(f"{where}, {field}", value)


def known_fields(where: str, entry: Any, known: tuple[str, ...]) -> None:
    """Raises `InputError` where an entry is no mapping, or has a field that is not known."""
    if not isinstance(entry, dict):
        raise InputError(f"{where}: must be a mapping with the fields {', '.join(known)}")
    for field in entry:
        if field not in known:
            raise InputError(f"{where}: unknown field {field!r} (known: {', '.join(known)}){nearest(str(field), known)}")


def read_date(where: str, entry: dict[str, Any]) -> datetime.datetime | None:
    """The field ``acquired_utc`` in UTC, None for ``unknown``; raises `InputError` where it is missing or does not parse."""
    value = entry.get("acquired_utc")
    if value is None:
        raise InputError(f"{where}: field 'acquired_utc' is missing; write YYYY-MM-DD, YYYY-MM-DDTHH:MM:SSZ, or unknown")
    if value == "unknown":
        return None
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            raise InputError(
                f"{where}: acquired_utc={value!r} does not parse; write YYYY-MM-DD, YYYY-MM-DDTHH:MM:SSZ, or unknown"
            ) from None
    if not isinstance(value, datetime.datetime):
        raise InputError(f"{where}: acquired_utc={value!r} is not a date; write YYYY-MM-DD, YYYY-MM-DDTHH:MM:SSZ, or unknown")
    return value.replace(tzinfo=datetime.UTC) if value.tzinfo is None else value.astimezone(datetime.UTC)


def read_number(where: str, field: str, value: Any) -> float | None:
    """A number, None where there is none; raises `InputError` for anything else."""
    if value is None:
        return None
    if isinstance(value, str):  # YAML reads 1e-4, without a point, as text
        with contextlib.suppress(ValueError):
            return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where}: field {field!r} is {value!r}, it must be a number{', or none' if field == 'nodata' else ''}")
    return float(value)


def read_word(where: str, field: str, value: Any) -> str | None:
    """One of the words that a field of `WORDS` takes, or None; raises `InputError` for any other."""
    if value is not None and value not in WORDS[field]:
        raise InputError(f"{where}: field {field!r} is {value!r}, it must be one of {', '.join(WORDS[field])}")
    return value


def read_index(where: str, value: Any) -> int | None:
    """The number of a band in its file, from 1, or None; raises `InputError` for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{where}: field 'index' is {value!r}, it must be a whole number from 1 (bands in a file count from 1)")
    return value

"""The knobs that configs and layouts are made of: a documented dataclass field, and checks that say what would be right."""

import dataclasses
import difflib
from typing import Any

from rsfm_jax.errors import InputError


def knob(default: Any, doc: str, runtime: bool = False, rare: bool = False) -> Any:
    """A dataclass field with its one line of documentation.

    Args:
      default: The default value, or a class without arguments to build it from.
      doc: What the knob does, in one line.
      runtime: True when a run may be continued with another value.
      rare: True when files say it only where it differs from its default, so that those written before it was there read the same.

    Returns:
      The dataclass field.
    """
    metadata = {"doc": doc, "runtime": runtime, "rare": rare}
    if isinstance(default, type):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def require(holds: bool, field: str, value: Any, wanted: str) -> None:
    """Raises `InputError` with the field, its value and what it must be, unless ``holds``."""
    if not holds:
        raise InputError(f"config.{field}={value!r}: must be {wanted}")


def choice(field: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises `InputError` unless the value is one of the choices; names the nearest one."""
    close = difflib.get_close_matches(str(value), choices, n=1)
    require(value in choices, field, value, f"one of {', '.join(choices)}" + (f" (did you mean {close[0]!r}?)" if close else ""))

"""From mappings of a YAML file to frozen dataclasses, strictly: a key that is unknown, missing or of another type is refused by name."""

import dataclasses
import types
import typing
from typing import Any, Literal, TypeVar

from rsfm_jax.errors import InputError, nearest

T = TypeVar("T")
_PLAIN = {str: "text", int: "a whole number", bool: "true or false", float: "a number"}


def parse(where: str, entry: Any, into: type[T]) -> T:
    """Builds a dataclass from a mapping.

    Args:
      where: File and key, for messages.
      entry: The mapping; lists become tuples, mappings of dataclass fields become dataclasses. Where a field may be several dataclasses,
        the key `kind` says which.
      into: The dataclass. Its own `__post_init__` may refuse what does not fit together.

    Returns:
      The dataclass.

    Raises:
      InputError: Naming the key, and the nearest known one for an unknown key.
    """
    assert dataclasses.is_dataclass(into)
    fields = {field.name: field for field in dataclasses.fields(into)}
    if not isinstance(entry, dict):
        raise InputError(f"{where}: is {entry!r}; expected a mapping with the keys {', '.join(fields)}")
    for key in entry:
        if key not in fields:
            raise InputError(f"{where}: unknown key {key!r} (known: {', '.join(fields)}){nearest(str(key), fields)}")
    for name, field in fields.items():
        if name not in entry and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InputError(f"{where}: key {name!r} is missing")
    hints = typing.get_type_hints(into)
    values = {name: _value(f"{where}: {name}", entry[name], hints[name]) for name in fields if name in entry}
    try:
        return into(**values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _value(where: str, value: Any, hint: Any) -> Any:
    """A value of the type that a field's annotation names."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _one_of(where, value, parts)
    if origin is Literal:
        if value not in parts:
            raise InputError(f"{where}: is {value!r}{nearest(str(value), parts)}; expected one of {', '.join(parts)}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise InputError(f"{where}: is {value!r}; expected a list")
        return tuple(_value(f"{where}[{i}]", item, parts[0]) for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise InputError(f"{where}: is {value!r}; expected a mapping")
        return {_value(f"{where}: key {key!r}", key, parts[0]): _value(f"{where}: {key}", item, parts[1]) for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return parse(where, value, hint)  # pyright: ignore[reportArgumentType]
    return _plain(where, value, hint)


def _plain(where: str, value: Any, hint: type) -> Any:
    if hint is float and isinstance(value, str):  # YAML reads 1e-4, without a point, as text
        try:
            return float(value)
        except ValueError:
            raise InputError(f"{where}: is {value!r}; expected a number") from None
    accepted = (int, float) if hint is float else hint
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise InputError(f"{where}: is {value!r}; expected {_PLAIN[hint]}")
    return float(value) if hint is float else value


def _one_of(where: str, value: Any, arms: tuple[Any, ...]) -> Any:
    if value is None and type(None) in arms:
        return None
    arms = tuple(arm for arm in arms if arm is not type(None))
    kinds = {typing.get_args(typing.get_type_hints(arm)["kind"])[0]: arm for arm in arms if dataclasses.is_dataclass(arm) and len(arms) > 1}
    if kinds:
        kind = value.get("kind") if isinstance(value, dict) else None
        if kind not in kinds:
            raise InputError(f"{where}: kind is {kind!r}{nearest(str(kind), kinds)}; expected a mapping with kind {', '.join(kinds)}")
        return parse(where, value, kinds[kind])  # pyright: ignore[reportArgumentType]
    if len(arms) == 1:
        return _value(where, value, arms[0])
    fitting = [arm for arm in arms if arm in _PLAIN and isinstance(value, arm) and isinstance(value, bool) == (arm is bool)]
    if not fitting:
        raise InputError(f"{where}: is {value!r}; expected {' or '.join(_PLAIN[arm] for arm in arms)}")
    return value

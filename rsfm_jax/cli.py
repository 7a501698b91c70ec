"""Command lines of the front doors: `--config=FILE --config.section.field=value` with answers a stranger understands.

A thin shell around ml_collections config flags: the same syntax and parsing, plus the nearest name for a misspelt field or flag and
exit code 2 instead of a traceback.
"""

import dataclasses
import pathlib
import re
import sys
from typing import Any

from absl import flags
from ml_collections import config_flags

from rsfm_jax.config import Config
from rsfm_jax.errors import InputError, nearest

_OVERRIDE = re.compile(r"^--?config\.([^=]+)")


def define_config() -> flags.FlagHolder:
    """Defines ``--config``; returns the flag's holder."""
    return config_flags.DEFINE_config_file(
        "config", None, "experiment file, as configs/demo.py or configs/a2mae.py:vit_l", lock_config=True
    )


def _check_field(root: Any, path: str) -> None:
    node, walked = root, "config"
    for part in path.split("."):
        name, _, index = part.partition("[")
        names = [field.name for field in dataclasses.fields(node)] if dataclasses.is_dataclass(node) else []
        if name not in names:
            has = f"it has {', '.join(names)}" if names else "it has no fields"
            raise InputError(f"--config.{path}: {walked} has no field {name!r} ({has}){nearest(name, names)}")
        node, walked = getattr(node, name), f"{walked}.{name}"
        if index:
            try:
                node = node[int(index.rstrip("]"))]
            except (IndexError, ValueError, TypeError):
                raise InputError(f"--config.{path}: {walked} has no element [{index}") from None
    if path.endswith("]") and not dataclasses.is_dataclass(node):
        field = path.rpartition("[")[0]
        raise InputError(f"--config.{path}: set the whole of it, as --config.{field}=\"('first', 'second')\"")
    if isinstance(node, tuple) and path.endswith(("layouts", "slots")):
        raise InputError(f"--config.{path}: set a field of one element, as --config.{path}[0].FIELD=value, or write a config file")
    if dataclasses.is_dataclass(node):
        names = [field.name for field in dataclasses.fields(node)]
        raise InputError(f"--config.{path}: {walked} is a section; set one of its fields: {', '.join(names)}")


def _check_config_file(argv: list[str]) -> None:
    for i, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name not in ("--config", "-config"):
            continue
        value = value if equals else (argv + [""])[i + 1]
        if not value:
            raise InputError("--config is empty: give an experiment file, for instance --config=configs/demo.py")
        path = pathlib.Path(value.split(":")[0])
        if not path.is_file():
            near = nearest(path.name, [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else [])
            raise InputError(f"--config={path}: no such file{near}")


def _parse_as(argv: list[str]) -> list[str]:
    given, sys.argv = sys.argv, argv  # config flags read their overrides from sys.argv
    try:
        return flags.FLAGS(argv)
    finally:
        sys.argv = given


def _without_traceback(message: str) -> str:
    """One line of a message that may quote the traceback of a config file: what failed, and where."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    ours = lines[-1].partition(f"{InputError.__module__}.{InputError.__name__}: ")[2]
    if ours:
        return ours  # the config file itself said what is wrong
    places = [line for line in lines if line.startswith("File ")]
    return f"{lines[0]} {lines[-1]} ({places[-1]})" if places else " ".join(lines)


def split_words(argv: list[str]) -> tuple[list[str], list[str]]:
    """The words of a command line before ``--``, which are ours, and after it, which are for Apache Beam."""
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def parse(argv: list[str]) -> list[str]:
    """Parses a front door's command line into absl flags.

    Args:
      argv: The words of the command line, program name first.

    Returns:
      Positional arguments that are left.

    Raises:
      InputError: on an unknown flag or config field, a value of the wrong type or a missing file.
    """
    values = flags.FLAGS
    _check_config_file(argv)
    overrides = {word: match[1] for word in argv[1:] if (match := _OVERRIDE.match(word))}
    try:
        rest = _parse_as([word for word in argv if word not in overrides])
        config = values["config"].value if "config" in values else None
        for word, path in overrides.items():
            if config is None:
                raise InputError(f"{word}: needs --config=FILE")
            if "=" not in word:
                raise InputError(f"{word}: write {word}=VALUE")
            _check_field(config, path)
        if overrides:
            values.unparse_flags()
            rest = _parse_as(argv)
    except flags.UnrecognizedFlagError as error:
        raise InputError(f"unknown flag --{error.flagname}{nearest(error.flagname, values)}") from None
    except flags.Error as error:
        raise InputError(_without_traceback(str(error))) from None
    except SyntaxError as error:
        raise InputError(f"--config: {error}") from None
    except (TypeError, KeyError) as error:
        raise InputError(f"a --config override cannot be read: {error}") from None
    if rest[1:]:
        raise InputError(f"unexpected argument {rest[1]!r}; flags are written --name=value")
    return rest


def loaded_config(holder: flags.FlagHolder, required: bool) -> Config:
    """The validated config of the ``--config`` flag; the defaults when it may be absent and is."""
    config = holder.value
    if config is None:
        if required:
            raise InputError("--config is missing: give an experiment file, for instance --config=configs/demo.py")
        config = Config()
    if not isinstance(config, Config):
        raise InputError(f"--config: get_config() returned {type(config).__name__}, it must return rsfm_jax.config.Config")
    return config.validate()


def required_flag(name: str, value: Any, example: str) -> Any:
    """Returns ``value``; raises `InputError` with an example when the flag was not given."""
    if value in (None, ""):
        raise InputError(f"--{name} is missing, for instance --{name}={example}")
    return value


def show_help(argv: list[str], text: str) -> bool:
    """Prints a front door's help when asked for; returns whether it was."""
    if not any(word in ("--help", "-h", "-help") for word in argv[1:]):
        return False
    print(text.strip())
    own = {flag.name: flag.help for flag in flags.FLAGS.get_key_flags_for_module(argv[0])}
    if "config" in flags.FLAGS:
        own |= {
            "config": flags.FLAGS["config"].help,
            "config.SECTION.FIELD": "overrides one field of the config (rsfm_jax/config.py lists them)",
        }
    print("\nFlags:\n" + "\n".join(f"  --{name}=...  {described}" for name, described in sorted(own.items())))
    return True

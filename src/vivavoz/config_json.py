"""Frozen configuration dataclasses to and from plain JSON values; anything unknown or of another type is an error.

Arrays stay arrays both ways: who writes them says how.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from vivavoz.errors import ConfigError

Config = TypeVar("Config")


def to_plain(config: object) -> dict[str, Any]:
    """A configuration dataclass as nested dictionaries, lists and numbers, ready for `json.dumps`."""
    assert dataclasses.is_dataclass(config)
    assert not isinstance(config, type)
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def from_plain(kind: type[Config], data: object, where: str) -> Config:
    """The configuration of type `kind` that `to_plain` gave; fields that are left out take their defaults.

    `where` names the place in error messages. Raises `ConfigError` for an unknown or missing key, a value of another type, or
    whatever the configuration itself refuses.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} is {data!r:.60}, expected an object with the fields of {kind.__name__}")
    assert dataclasses.is_dataclass(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in data:
        if key not in fields:
            raise ConfigError(f"unknown key {key!r} in {where}; expected {', '.join(fields)}: remove it, or update vivavoz")
    hints = typing.get_type_hints(kind)
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _value(hints[name], data[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where} lacks the key {name!r}; add it")
    return kind(**values)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value):
        return to_plain(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _value(hint: Any, value: object, where: str) -> object:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        kinds = [argument for argument in arguments if argument is not type(None)]
        return _value(next((kind for kind in kinds if type(value) is kind), kinds[0]), value, where)
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return from_plain(hint, value, where)
    if origin is tuple:
        if not isinstance(value, list) or (Ellipsis not in arguments and len(value) != len(arguments)):
            length = "" if Ellipsis in arguments else f"{len(arguments)} "
            raise ConfigError(f"{where} is {value!r:.60}, expected a list of {length}values")
        hints = [arguments[0]] * len(value) if Ellipsis in arguments else arguments
        return tuple(_value(hint, item, f"{where}[{i}]") for i, (hint, item) in enumerate(zip(hints, value, strict=True)))
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where} is {value!r:.60}, expected one of {', '.join(map(str, arguments))}")
        return value
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where} is {value!r:.60}, expected an object")
        return {key: _value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if origin is np.ndarray and isinstance(value, np.ndarray):
        return value
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"{where} is {value!r:.60}, expected a value of type {getattr(hint, '__name__', hint)}")
    return value

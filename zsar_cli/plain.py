"""Plain values from files that anybody may have written: YAML, JSON, XML within bounds, and as the types a class wants.

Plain are mappings, lists, text, numbers, true, false and null. Whatever a file holds, what comes of it is such values
or one error that names the file.
"""

from __future__ import annotations

import contextlib
import json
import math
import types
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints
from xml.etree import ElementTree

import yaml

from zsar_cli.errors import ZsarError

__all__ = ["build", "read_json", "read_xml", "read_yaml", "typed"]

LARGEST = 50_000_000  # bytes; the longest files of this kind, lists of weights and tokenizers, have less
DEEPEST = 20  # levels of lists and mappings
LONGEST = 1 << 63  # numbers from here on fit no counter, and take Python minutes to write out

Built = TypeVar("Built")


class _Bounded:
    """Of a loader: refuses what is nested too deeply, and aliases, by which a few lines unfold to gigabytes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)  # type: ignore[call-arg]
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):  # type: ignore[attr-defined]
            self._refuse("aliases (*name) are not read; write the value out")
        self._depth += 1
        if self._depth > DEEPEST:
            self._refuse(f"nested deeper than {DEEPEST} levels")
        node = super().compose_node(parent, index)  # type: ignore[misc]
        self._depth -= 1
        return node

    def _refuse(self, reason: str) -> None:
        raise yaml.composer.ComposerError(None, None, reason, self.peek_event().start_mark)  # type: ignore[attr-defined]


class _TextLoader(_Bounded, yaml.BaseLoader):
    """Scalars stay text as written."""


class _PlainLoader(_Bounded, yaml.SafeLoader):
    """Numbers, true, false and null by YAML 1.1; dates stay text, and no tag makes anything else."""

    def whole_number(self, node: yaml.ScalarNode) -> int:
        number: int = self.construct_yaml_int(node)
        if not -LONGEST < number < LONGEST:
            raise yaml.constructor.ConstructorError(None, None, "a number is too large", node.start_mark)
        return number


_TAG = "tag:yaml.org,2002:"
_PlainLoader.yaml_constructors = {
    **{
        f"{_TAG}{name}": yaml.SafeLoader.yaml_constructors[f"{_TAG}{name}"]
        for name in ("null", "bool", "float", "str", "seq", "map")
    },
    f"{_TAG}int": _PlainLoader.whole_number,
    None: yaml.SafeLoader.construct_undefined,
}
_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_yaml(path: Path, error: type[ZsarError], *, text: bool = False) -> Any:
    """The content of a YAML file; None for an empty one.

    Args:
        error: what is raised.
        text: leave numbers, true, false and null as the text they were written as.

    Raises:
        error: the file cannot be read, is no YAML in UTF-8, or exceeds a bound of this module.
    """
    content = _read(path, error)
    try:
        return yaml.load(content, Loader=_TextLoader if text else _PlainLoader)
    # PyYAML lets through what int, float and its own tables raise for values that are not what they look like.
    except (yaml.YAMLError, ValueError, KeyError, OverflowError) as reason:
        raise error(f"{path}: is not a YAML file: {' '.join(str(reason).split())}") from None


def read_json(path: Path, error: type[ZsarError]) -> Any:
    """The content of a JSON file.

    Raises:
        error: the file cannot be read, is no JSON in UTF-8, or is too large.
    """
    content = _read(path, error)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as reason:
        raise error(f"{path}: is not readable JSON: {reason}") from None


def read_xml(path: Path, error: type[ZsarError]) -> ElementTree.Element:
    """The root of an XML file in UTF-8. One with a document type, by which a few lines unfold to gigabytes, is refused.

    Raises:
        error: the file cannot be read, is no such XML, or is too large.
    """
    content = _read(path, error)
    if "<!DOCTYPE" in content:
        raise error(f"{path}: has a document type (<!DOCTYPE), which is not read; take it out")
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError) as reason:
        raise error(f"{path}: is not readable XML: {reason}") from None


def _read(path: Path, error: type[ZsarError]) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise error(f"{path}: is larger than {LARGEST / 1e6:.0f} MB; this is no such file")
        return content.decode("utf-8-sig")
    except OSError as reason:
        raise error(f"{path}: cannot be read: {reason.strerror}") from None
    except UnicodeDecodeError as reason:
        raise error(f"{path}: is not text in UTF-8: {reason}") from None


def build(kind: type[Built], values: Any) -> Built:
    """A dataclass of plain fields from a mapping; fields that are not given keep their defaults.

    Raises:
        TypeError: no mapping, a field that is unknown or missing, or a value of another type; the message names it.
        ZsarError: as the class itself.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"{values!r} is no mapping of settings")
    hints = get_type_hints(kind)
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := [name for name in values if name not in names]:
        raise TypeError(f"{unknown[0]!r} is no setting; there are {', '.join(sorted(names))}")
    given: dict[str, Any] = {}
    for name, value in values.items():
        try:
            given[name] = typed(value, hints[name])
        except TypeError as error:
            raise TypeError(f"{name} is {value!r}; it must be {error}") from None
    return kind(**given)


def typed(value: Any, hint: Any) -> Any:
    """The value as its type; whole numbers do for numbers. Raises TypeError with what is expected."""
    options = get_args(hint) if get_origin(hint) in (types.UnionType, Union) else (hint,)
    if value is None and type(None) in options:
        return None
    kind = next(option for option in options if option is not type(None))
    if kind is float and isinstance(value, str):
        with contextlib.suppress(ValueError):  # YAML reads 1e-3, without a point, as text
            value = float(value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)) and kind is not float:
        return value
    raise TypeError({int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind])

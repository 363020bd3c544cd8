"""Frozen dataclasses that cannot hold a wrong value: types and ranges are checked by pydantic, all at once."""

from __future__ import annotations

import functools
from dataclasses import fields
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError

from zsar_cli.errors import ConfigError

__all__ = ["Count", "Number", "OpenShare", "Positive", "Share", "Size", "Weight", "settings"]

T = TypeVar("T")
CONFIG = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def _number(value: Any) -> Any:
    """YAML reads 1e-3, without a point, as text; a number that is none is left for pydantic to name."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Number = Annotated[float, BeforeValidator(_number)]
Weight = Annotated[Number, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
OpenShare = Annotated[Number, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Size = Annotated[int, Field(ge=1, le=2**16)]  # what memory grows with


def settings(kind: type[T]) -> type[T]:
    """Class decorator, above `@dataclass(frozen=True)`: what is made of the class is checked first.

    Whole numbers do for numbers; nothing else is converted. `__post_init__` may raise ValueError for values that do
    not go together; it runs when each is right by itself.

    Raises:
        ConfigError: from the constructor and from `dataclasses.replace`; a line for each wrong or unknown value.
    """
    checked: Any = pydantic.dataclasses.dataclass(kind, frozen=True, config=CONFIG)
    construct = checked.__init__

    @functools.wraps(construct)
    def refusing(self: Any, *args: Any, **values: Any) -> None:
        try:
            construct(self, *args, **values)
        except ValidationError as error:
            raise ConfigError("\n".join(_line(kind, problem) for problem in error.errors())) from None

    checked.__init__, checked.__doc__ = refusing, kind.__doc__
    made: type[T] = checked
    return made


def _line(kind: type[Any], problem: Any) -> str:
    """A mistake as "key is value; what is allowed"."""
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    key = problem["loc"][0]
    if problem["type"] == "unexpected_keyword_argument":
        return f"no such key: {key}; it has {', '.join(field.name for field in fields(kind))}"
    return f"{key} is {problem['input']!r:.80}; {problem['msg'].replace('Input should', 'it must', 1)}"

"""The error tree. Every message says what was given, what is allowed, and what to do next.

ZsarError
├── UsageError            a value the user typed is wrong (exit code 2)
│   ├── ConfigError       a configuration file or environment variable
│   └── LabelError        a label file or list
├── InputError            one input cannot be used; the job goes on (exit code 3 at its end)
├── ModelError            weights or bundle missing, damaged or of another kind
│   └── PrototypeError    a prototype file missing, damaged or made by another model
├── OutputError           a result cannot be written
└── MissingExtraError     an optional package is not installed
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "InputError",
    "LabelError",
    "MissingExtraError",
    "ModelError",
    "OutputError",
    "PrototypeError",
    "UsageError",
    "ZsarError",
]


class ZsarError(Exception):
    """Base of every error a user can cause or meet. `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(ZsarError):
    """A value on the command line or in a call is not allowed."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file or `ZSAR_*` variable holds an unknown key or a value that is not allowed."""


class LabelError(UsageError):
    """A label file cannot be read or its content is not a list of labels."""


class InputError(ZsarError):
    """One input cannot be used. It never stops a job: the record of that input carries these fields.

    Args:
        path: the input as the user named it.
        stage: where it failed: "find", "open", "decode", "timeout", "model" or "cut".
        reason: one sentence without a final full stop: what is wrong and, where it helps, what to do.
        decoder: name of the decoder that was used, if one was.
    """

    def __init__(self, path: str, stage: str, reason: str, decoder: str | None = None) -> None:
        super().__init__(path, stage, reason, decoder)  # the plain arguments: exceptions cross processes
        self.path, self.stage, self.reason, self.decoder = path, stage, reason, decoder

    def __str__(self) -> str:
        by = f" ({self.decoder})" if self.decoder else ""
        return f"{self.path}: {self.stage} failed{by}: {self.reason}"


class ModelError(ZsarError):
    """Weights are missing, damaged, or not what their name says."""


class PrototypeError(ModelError):
    """A prototype file is missing, damaged, or was made by another model."""


class OutputError(ZsarError):
    """A result cannot be written where the user asked."""


class MissingExtraError(ZsarError):
    """An optional package is not installed; the message holds the pip line that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(package, extra, purpose)  # the plain arguments: exceptions cross processes
        self.package, self.extra, self.purpose = package, extra, purpose

    def __str__(self) -> str:
        return (
            f"{self.purpose} needs the package '{self.package}': pip install {self.package} (the extra '{self.extra}')"
        )

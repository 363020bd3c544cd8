"""constraints.txt pins what pyproject.toml asks for, on every supported Python, and names no host and no CUDA."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "constraints.txt").read_text(encoding="utf-8")
PINS = [Requirement(line) for line in LOCK.splitlines() if not line.startswith("#")]
tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def wanted() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(text) for group in (PROJECT["dependencies"], *extras) for text in group]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_every_dependency_is_pinned_within_its_range(python: str) -> None:
    here = {"python_version": python, "python_full_version": f"{python}.0"}
    for dependency in wanted():
        if dependency.marker is None or dependency.marker.evaluate(here):
            name = canonicalize_name(dependency.name)
            pins = [pin for pin in PINS if pin.name == name and (pin.marker is None or pin.marker.evaluate(here))]
            (version,) = [pin.specifier for pin in pins]
            assert dependency.specifier.contains(str(version).removeprefix("==")), f"{dependency}: {version}"


def test_the_lock_names_no_host_and_no_cuda() -> None:
    assert not re.search(r"https?:|--(extra-)?index|nvidia|cuda", LOCK)

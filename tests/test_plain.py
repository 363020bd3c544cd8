"""Files of plain values: read as PyYAML and json read them, and refused by name beyond what is plain and bounded."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from zsar_cli import plain
from zsar_cli.errors import ConfigError, LabelError, ModelError
from zsar_cli.plain import build, read_json, read_yaml

ROOT = Path(__file__).parents[1]
FILES = [
    *sorted((ROOT / "examples").rglob("*.yaml")),
    *sorted((ROOT / "zsar_cli" / "models").rglob("*.yaml")),
    ROOT / "zsar_cli" / "lexicon" / "home.yaml",
]


def written(folder: Path, content: str | bytes, name: str = "file.yaml") -> Path:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_what_is_plain_is_read_as_pyyaml_reads_it(file: Path) -> None:
    content = file.read_text(encoding="utf-8")
    assert read_yaml(file, ConfigError) == yaml.safe_load(content)
    assert read_yaml(file, ConfigError, text=True) == yaml.load(content, Loader=yaml.BaseLoader)


def test_scalars_and_the_empty_file(tmp_path: Path) -> None:
    content = "{a: 1, b: 1.5, c: yes, d: null, e: 2001-02-03, f: 0x10, g: 1e3, h: .inf, i: '1'}"
    wanted = {"a": 1, "b": 1.5, "c": True, "d": None, "e": "2001-02-03", "f": 16, "g": "1e3", "h": float("inf")}
    assert read_yaml(written(tmp_path, content), ConfigError) == wanted | {"i": "1"}
    assert read_yaml(written(tmp_path, b"\xef\xbb\xbfa: 1"), ConfigError) == {"a": 1}
    assert read_yaml(written(tmp_path, ""), ConfigError) is None
    assert read_yaml(written(tmp_path, "- yes\n- 010\n"), ConfigError, text=True) == ["yes", "010"]


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "nested deeper than 20 levels"),
        ("{a: " * 100_000, "nested deeper than 20 levels"),
        ("- " * 100_000, "nested deeper than 20 levels"),
        ("a: &a [x, x]\nb: [*a, *a]", "aliases (*name) are not read"),
        ("&a [*a]", "aliases (*name) are not read"),
        ("a: [1", "is not a YAML file"),
        ("? [1]\n: 2", "is not a YAML file"),
        (b"a: \xe9", "is not text in UTF-8"),
        ("a: \0", "is not a YAML file"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: str | bytes, message: str, text: bool) -> None:
    file = written(tmp_path, content)
    with pytest.raises(LabelError, match=rf"^{re.escape(str(file))}: .*{re.escape(message)}"):
        read_yaml(file, LabelError, text=text)


@pytest.mark.parametrize(
    "content",
    [
        "!!python/object/apply:os.system [ls]", "!!binary a", "!!timestamp x", "!!set {a}", "!!int x", "!!float x",
        "!!bool x", "a: 99999999999999999999", f"0x{'f' * 10_000}", "9" * 10_000, "<<: 1", "=", "!!omap [a]",
    ],
)  # fmt: skip
def test_values_that_are_not_plain_are_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigError, match="is not a YAML file"):
        read_yaml(written(tmp_path, content), ConfigError)


def test_files_that_cannot_be_read_or_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for read in (read_yaml, read_json):
        with pytest.raises(ModelError, match="absent: cannot be read: No such file"):
            read(tmp_path / "absent", ModelError)
    monkeypatch.setattr(plain, "LARGEST", 9)
    with pytest.raises(ModelError, match="is larger than 0 MB"):
        read_yaml(written(tmp_path, "a: 1234567"), ModelError)


@pytest.mark.parametrize("content", ["[" * 100_000, "{", b"\xff", "", f"[{'9' * 10_000}]"])
def test_json_that_is_refused(tmp_path: Path, content: str | bytes) -> None:
    with pytest.raises(ModelError, match=r"file\.yaml: is not (readable JSON|text in UTF-8)"):
        read_json(written(tmp_path, content), ModelError)


def test_json_that_is_read(tmp_path: Path) -> None:
    value = {"a": [1, None, "ü"]}
    assert read_json(written(tmp_path, json.dumps(value)), ModelError) == value


@dataclass(frozen=True)
class Shape:
    width: int
    share: float = 0.5
    name: str | None = None
    exact: bool = True


def test_a_class_from_a_mapping() -> None:
    assert build(Shape, {"width": 2, "share": 1}) == Shape(2, 1.0)
    assert build(Shape, {"width": 2, "name": "x", "exact": False}) == Shape(2, 0.5, "x", False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "is no mapping"),
        (None, "is no mapping"),
        ({}, "width"),
        ({"width": 2.0}, "width is 2.0; it must be a whole number"),
        ({"width": True}, "width is True; it must be a whole number"),
        ({"width": 1, "share": float("nan")}, "share is nan; it must be a number"),
        ({"width": 1, "exact": "yes"}, "exact is 'yes'; it must be true or false"),
        ({"width": 1, "name": [1]}, r"name is \[1\]; it must be text"),
        ({"width": 1, "colour": 3}, "'colour' is no setting; there are exact, name, share, width"),
    ],
)
def test_a_mapping_that_does_not_fit(values: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        build(Shape, values)

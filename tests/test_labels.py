"""Label files and lists: what is read, what is merged, and what every wrong file says."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import re
from pathlib import Path

import pytest

from zsar_cli import labels
from zsar_cli.errors import LabelError
from zsar_cli.labels import Label, LabelSet, readable

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def write(tmp_path):
    """Write a label file and return its path."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("HorseRiding", "horse riding"),
        ("brush_hair", "brush hair"),
        ("TaiChi", "tai chi"),
        ("YoYo", "yo yo"),
        ("BMX", "BMX"),
        ("BMXRiding", "BMX riding"),
        ("PlayingUNO", "playing UNO"),
        ("playing UNO", "playing UNO"),
        ("Playing Guitar", "playing guitar"),
        ("playing PlayStation", "playing PlayStation"),
        ("push-up", "push-up"),
        ("doing_push-ups", "doing push-ups"),
        ("shot_put2", "shot put2"),
        ("Run2Finish", "run2 finish"),
        ("Apply_EyeMakeup", "apply eye makeup"),
        ("ÜbenRad", "üben rad"),
        ("cafe\u0301", "caf\u00e9"),
        ("太极拳", "太极拳"),
        ("  riding \t a  bike ", "riding a bike"),
    ],
)
def test_readable(name, text):
    assert readable(name) == text
    assert readable(text) == text  # what reads well already is left alone


def test_label_keeps_the_name_and_makes_the_text():
    label = Label(" HorseRiding ", descriptions=(" a  rider ", "", "a rider"), prompts=("a video of {}.",))
    assert label == Label("HorseRiding", "horse riding", ("a rider",), ("a video of {}.",))
    with pytest.raises(dataclasses.FrozenInstanceError):
        label.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": " "}, "'' is not a label: a label needs a letter or a digit"),
        ({"name": "---"}, "'---' is not a label"),
        ({"name": "a\x1b[31m"}, "holds the unprintable character '\\x1b'"),
        ({"name": "a\ud800"}, "holds the unprintable character '\\ud800'"),
        (
            {"name": "a", "prompts": ("a video of {label}",)},
            "prompt 'a video of {label}': {} stands for the label",
        ),
        ({"name": "a", "prompts": ("a video of {",)}, "no other braces are allowed"),
        ({"name": "a", "prompts": ("a {{}}",)}, "no other braces are allowed"),
    ],
)
def test_label_refuses(arguments, message):
    with pytest.raises(LabelError, match=re.escape(message)):
        Label(**arguments)


def test_prompts_may_be_full_sentences():
    assert Label("a", prompts=("someone at rest", "{} and {}")).prompts == ("someone at rest", "{} and {}")


def test_label_set_is_ordered_and_unique():
    labels = LabelSet.from_names(["zumba", "Archery", "BMX"])
    assert labels.names == ("zumba", "Archery", "BMX")
    assert labels.texts == ("zumba", "archery", "BMX")
    assert [label.name for label in labels] == ["zumba", "Archery", "BMX"] and len(labels) == 3
    assert labels.notes == ()
    assert pickle.loads(pickle.dumps(labels)) == labels
    with pytest.raises(LabelError, match=re.escape("'a b' and 'A_b' read the same; keep one")):
        LabelSet((Label("a b"), Label("A_b")))
    with pytest.raises(LabelError, match="no labels"):
        LabelSet(())


def test_digest_is_stable_and_holds_what_results_depend_on():
    base = LabelSet.from_names(["archery", "riding a bike"])
    # printf '[["archery","archery",[],[]],["riding a bike","riding a bike",[],[]]]' | sha256sum
    assert base.digest == "sha256:eae2a02c4007d299"
    assert LabelSet.from_names(["riding a bike", "archery", "archery"]).digest == base.digest
    others = [
        ["archery"],
        ["archery", "riding_a_bike"],
        ["archery", Label("riding a bike", "biking")],
        ["archery", Label("riding a bike", descriptions=("pedals",))],
        ["archery", Label("riding a bike", prompts=("pedals",))],
    ]
    assert len({base.digest, *(LabelSet.from_names(other).digest for other in others)}) == 6


def test_of_takes_a_set_a_path_or_names(write):
    labels = LabelSet.of(["archery", Label("riding a bike")])
    assert LabelSet.of(labels) is labels
    path = write("l.txt", "archery\nriding a bike\n")
    assert LabelSet.of(path) == LabelSet.of(str(path)) == labels
    assert LabelSet.of(name for name in ("archery", "riding a bike")) == labels


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no labels; the list is empty, give at least one name"),
        (["archery", ""], "label 2: '' is not a label"),
        (["archery", 5], "label 2: 5 is not text"),
        (7, "expected a list of names such as ['archery'], not 7"),
    ],
)
def test_lists_that_are_refused(names, message):
    with pytest.raises(LabelError, match=re.escape(message)):
        LabelSet.of(names)


def test_a_name_is_not_taken_for_a_list_of_letters():
    with pytest.raises(LabelError, match="expected a list of names"):
        LabelSet.from_names("archery")


def test_repeats_are_merged_and_named(write):
    labels = LabelSet.read(write("l.txt", "HorseRiding: a rider\narchery\nhorse_riding: a horse\narchery\n"))
    assert labels.names == ("HorseRiding", "archery")
    assert labels.labels[0].descriptions == ("a rider", "a horse")
    (note,) = labels.notes
    assert note.endswith(
        "l.txt: 2 repeated label(s) merged: 'horse_riding' (line 3, reads as 'HorseRiding' of line 1), "
        "'archery' (line 4, repeats line 2)"
    )


def test_many_repeats_make_one_short_note():
    labels = LabelSet.from_names(["a"] * 100)
    assert len(labels) == 1
    assert labels.notes[0].startswith("99 repeated label(s) merged: 'a' (label 2, repeats label 1), ")
    assert labels.notes[0].endswith(" and 94 more")


def test_merging_reads_each_description_twice_at_most(write, monkeypatch):
    """A table of annotations repeats each label with another description every time."""
    seen = 0

    def counted(values):
        nonlocal seen
        values = list(values)
        seen += len(values)
        return tuple(dict.fromkeys(value for value in values if value))

    monkeypatch.setattr(labels, "_sentences", counted)
    (label,) = LabelSet.read(write("l.txt", "".join(f"run: in lane {number}\n" for number in range(500))))
    assert label.descriptions == tuple(f"in lane {number}" for number in range(500))
    assert seen <= 2 * 500


def test_ten_thousand_labels_stay_distinct(write):
    names = [f"action number {number}" for number in range(10_000)]
    for file in ("l.txt", "l.csv", "l.yaml"):
        lead = "- " if file.endswith("yaml") else ""
        assert LabelSet.read(write(file, "\n".join(lead + name for name in names))).names == tuple(names)


TXT = [
    ("archery\nriding a bike", ["archery", "riding a bike"]),
    ("\ufeffarchery\r\nriding a bike\r\n", ["archery", "riding a bike"]),
    ("archery\rriding a bike\r", ["archery", "riding a bike"]),
    ("# my list\n  # more\n\narchery  \t\n\t riding\ta bike\n", ["archery", "riding a bike"]),
    ("archery # with a bow\nC# lesson\nteam #1\nend #\n", ["archery", "C# lesson", "team #1", "end"]),
    ("10:30 news\nscore 3:2\nhttp://x/y\n", ["10:30 news", "score 3:2", "http://x/y"]),
    ("solo", ["solo"]),
    ("1 ApplyEyeMakeup\n2 ApplyLipstick\n3 Archery\n", ["ApplyEyeMakeup", "ApplyLipstick", "Archery"]),
    ("0\tabseiling\n1\tair drumming\n", ["abseiling", "air drumming"]),
    ("1 Archery\n3 Biking\n", ["1 Archery", "3 Biking"]),
    ("1 arm push-up\n2 arm push-up\n", ["1 arm push-up", "2 arm push-up"]),
    ("1 handstand\n", ["1 handstand"]),
    ("1 Archery\nBiking\n", ["1 Archery", "Biking"]),
]


@pytest.mark.parametrize(("content", "names"), TXT)
def test_txt(write, content, names):
    labels = LabelSet.read(write("l.txt", content))
    assert list(labels.names) == names
    indexed = content.startswith(("1 Apply", "0\t"))
    assert len(labels.notes) == indexed
    assert all("taken as indices" in note for note in labels.notes)


def test_txt_descriptions_follow_a_colon_and_a_space(write):
    content = "archery: a bow: drawn\nsurfing:\nyoga:\ta mat\n"
    assert LabelSet.read(write("l.txt", content)).labels == (
        Label("archery", descriptions=("a bow: drawn",)),
        Label("surfing"),
        Label("yoga", descriptions=("a mat",)),
    )


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="needs /dev/fd")
def test_a_pipe_is_read_as_txt():
    """A shell makes /dev/fd/63 of <(command)."""
    reader, writer = os.pipe()
    os.write(writer, b"archery  # comment\n1e5\n")
    os.close(writer)
    assert LabelSet.read(f"/dev/fd/{reader}").names == ("archery", "1e5")
    os.close(reader)


def test_text_from_elsewhere_is_named():
    assert LabelSet.read_text(b"archery: with a bow\n", "standard input").labels[0].descriptions == ("with a bow",)
    with pytest.raises(LabelError, match="no labels in standard input"):
        LabelSet.read_text(b"", "standard input")
    note = "here: 1 repeated label(s) merged: 'a' (line 2, repeats line 1)"
    assert LabelSet.read_text(b"a\na\n", "here").notes == (note,)


def test_names_behind_a_file_keep_all_that_it_says(write):
    read = LabelSet.read(write("l.csv", "label,description,prompt,more\narchery,with a bow,a man {},1\narchery,,,2\n"))
    more = read.with_names(["surfing", "Archery"])
    assert more.labels[0] == read.labels[0] and more.labels[0].prompts == ("a man {}",)
    assert more.names == ("archery", "surfing")
    assert more.notes[:2] == read.notes[:2] and len(read.notes) == 2
    assert more.notes[2:] == ("1 repeated label(s) merged: 'Archery' (label 3, reads as 'archery' of label 1)",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings_with_a_mark_are_read(write, encoding):
    content = "café\nnaïve dance\n"
    data = content.encode(encoding)
    if encoding == "utf-16-le":
        data = b"\xff\xfe" + data
    assert LabelSet.read(write("l.txt", data)).names == ("café", "naïve dance")


FULL = (Label("archery", descriptions=("a bow", "an arrow"), prompts=("a video of {}",)), Label("surfing"))


@pytest.mark.parametrize(
    "content",
    [
        "label,description,prompt\narchery,a bow|an arrow,a video of {}\nsurfing,,\n",
        "\ufeffName;Descriptions;Prompts\r\narchery;a bow | an arrow;a video of {}\r\nsurfing\r\n",
        "description\tprompt\tlabel\na bow|an arrow\ta video of {}\tarchery\n\n\t\tsurfing\n",
        'label,description,prompt\n"archery","a bow","a video of {}"\narchery,an arrow,\nsurfing,,\n',
    ],
)
def test_csv(write, content):
    assert LabelSet.read(write("l.csv", content)).labels == FULL


def test_csv_without_header_is_one_column(write):
    assert LabelSet.read(write("l.csv", 'archery\n\n"running, jumping"\n')).names == (
        "archery",
        "running, jumping",
    )


def test_csv_names_the_columns_it_does_not_use(write):
    labels = LabelSet.read(write("l.csv", "id,name,time\n0,archery,1.5\n1,surfing,2\n"))
    assert labels.names == ("archery", "surfing")
    assert labels.notes[0].endswith("l.csv: columns not used: 'id', 'time'")


@pytest.mark.parametrize(
    "content",
    [
        "- name: archery\n  descriptions: [a bow, an arrow]\n  prompt: a video of {}\n- surfing\n",
        "archery:\n  description:\n    - a bow\n    - an arrow\n  prompts: ['a video of {}']\nsurfing:\n",
        "archery: {descriptions: [a bow, an arrow], prompts: ['a video of {}']}\nsurfing: null\n",
        "- {label: archery, description: [a bow, an arrow, ~], prompt: 'a video of {}'}\n- label: surfing\n",
    ],
)
def test_yaml(write, content):
    for suffix in ("yaml", "yml"):
        assert LabelSet.read(write(f"l.{suffix}", content)).labels == FULL


def test_yaml_words_stay_as_written(write):
    content = "[yes, no, on, 'null', 1.10, 2024-01-01, 0x10, !!python/name:os.system run]"
    names = LabelSet.read(write("l.yaml", content)).names
    assert names == ("yes", "no", "on", "null", "1.10", "2024-01-01", "0x10", "run")


def test_yaml_mapping_keeps_repeated_keys(write):
    labels = LabelSet.read(write("l.yaml", "archery: a bow\nsurfing:\narchery: an arrow\n"))
    assert labels.labels == (Label("archery", descriptions=("a bow", "an arrow")), Label("surfing"))
    assert "'archery' (line 3, repeats line 1)" in labels.notes[0]


@pytest.mark.parametrize(
    "tree",
    [
        [{"name": "archery", "descriptions": ["a bow", "an arrow"], "prompts": ["a video of {}"]}, "surfing"],
        {"archery": {"description": ["a bow", "an arrow"], "prompt": "a video of {}"}, "surfing": None},
        [
            {"label": "archery", "description": ["a bow", "an arrow", None], "prompt": "a video of {}"},
            "surfing",
        ],
    ],
)
def test_json(write, tree):
    assert LabelSet.read(write("l.json", json.dumps(tree))).labels == FULL
    assert LabelSet.read(write("m.json", "\ufeff" + json.dumps(tree, indent=1))).labels == FULL


def test_json_values_stay_as_written(write):
    assert LabelSet.read(write("l.json", "[true, 1.10, 7]")).names == ("true", "1.10", "7")


@pytest.mark.parametrize("tree", [{"0": "archery", "1": "surfing"}, {"archery": 1, "surfing": 2}])
def test_index_mappings_are_recognised(write, tree):
    for path in (write("l.json", json.dumps(tree)), write("l.yaml", json.dumps(tree))):
        labels = LabelSet.read(path)
        assert labels.labels == (Label("archery"), Label("surfing"))
        assert "taken as indices" in labels.notes[0]


BAD = [
    ("l.txt", "", "no labels in {path}; write one name per line or list item"),
    ("l.txt", "# only this\n \n", "no labels in {path}"),
    ("l.csv", "label,description\n", "no labels in {path}"),
    ("l.csv", "", "no labels in {path}"),
    ("l.yaml", "# nothing\n", "no labels in {path}"),
    ("l.yaml", "[]", "no labels in {path}"),
    ("l.yaml", "{}", "no labels in {path}"),
    ("l.json", " ", "no labels in {path}"),
    ("l.json", "{}", "no labels in {path}"),
    (
        "l.mp4",
        "archery",
        "{path}: unknown kind of label file '.mp4'; allowed: .txt, .csv, .yaml, .yml, .json",
    ),
    ("labels", "archery", "{path}: unknown kind of label file ''; allowed: .txt"),
    (
        "l.txt",
        b"archery\ncaf\xe9\n",
        "{path}: line 2: byte 11 (0xe9) is not UTF-8; save the file as UTF-8, for",
    ),
    ("l.txt", b"\xef\xbb\xbfcaf\xe9\n", "{path}: line 1: byte 6 (0xe9) is not UTF-8"),
    ("l.txt", b"\xff\xfea\x00b", "{path}: line 1: byte 4 (0x62) is not UTF-16"),
    ("l.txt", b"\x00\x00\x01\x02", "{path}: this is not a text file"),
    ("l.txt", "archery\n: a bow\n", "{path}: line 2: '' is not a label"),
    ("l.txt", "archery\n\n***\n", "{path}: line 3: '***' is not a label"),
    (
        "l.csv",
        "label,name\n1,archery\n",
        "{path}: line 1: more than one column name or label; keep one of ['label'",
    ),
    (
        "l.csv",
        "label\narchery,bow\n",
        "{path}: line 2: 2 cells under 1 columns; quote cells that contain ','",
    ),
    (
        "l.csv",
        "archery\nrunning, jumping\n",
        "{path}: line 2: several columns and no header; add one with a column",
    ),
    ("l.csv", "archery;bow\n", "{path}: line 1: several columns and no header"),
    ("l.csv", "label,prompt\nx,a {y}\n", "{path}: line 2: prompt 'a {{y}}': {{}} stands for the label"),
    ("l.csv", 'label\n"archery\n', "{path}: line 2: not valid CSV: unexpected end of data"),
    ("l.csv", "label,description\narchery,\n,a wave\n", "{path}: line 3: '' is not a label"),
    ("l.yaml", "- a\n- [b\n", "{path}: not valid YAML: while parsing a flow sequence"),
    (
        "l.yaml",
        "- a\n- {name: b, colour: red}\n",
        "{path}: line 2: unknown key 'colour'; allowed: name, label, desc",
    ),
    ("l.yaml", "a: {b: c}\n", "{path}: line 1: unknown key 'b'"),
    ("l.yaml", "- {description: b}\n", "{path}: line 1: a label needs one name; write `name: ...`"),
    ("l.yaml", "- {name: b, label: c}\n", "{path}: line 1: 'label' is given twice"),
    ("l.yaml", "- {name: [b, c]}\n", "{path}: line 1: a label needs one name"),
    (
        "l.yaml",
        "a:\n- {b: c}\n",
        "{path}: line 1: 'descriptions' must be text or a list of texts, not [('b', 'c')]",
    ),
    ("l.yaml", "- [a, b]\n", "{path}: line 1: a label needs one name"),
    (
        "l.yaml",
        "labels: [a, b]\n",
        "{path}: 'labels' reads like a heading; put the list or mapping itself at the top",
    ),
    ("l.yaml", "archery\n", "{path}: expected a list or a mapping of labels, not 'archery'"),
    ("l.yaml", "a: b\n--- \nc: d\n", "{path}: not valid YAML: expected a single document"),
    ("l.yaml", "&x [*x]\n", "{path}: nested too deeply"),
    ("l.yaml", "[" * 20_000, "{path}: nested too deeply"),
    ("l.yaml", "? [a]\n: b\n", "{path}: line 1: a key must be text, not a sequence"),
    ("l.json", "[" * 200_000, "{path}: nested too deeply"),
    ("l.json", '["a",\n "b"', "{path}: line 2: not valid JSON: Expecting ',' delimiter"),
    ("l.json", "5", "{path}: expected a list or a mapping of labels, not '5'"),
    ("l.json", '["a", {"name": "b", "x": 1}]', "{path}: item 2: unknown key 'x'"),
    (
        "l.json",
        '[{"name": "b", "name": "c"}]',
        "{path}: item 1: 'name' is given twice; a list holds several values",
    ),
    ("l.json", '["a", null]', "{path}: item 2: '' is not a label"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_files_that_are_refused(write, name, content, message):
    path = write(name, content)
    with pytest.raises(LabelError, match=re.escape(message.format(path=path))) as caught:
        LabelSet.read(path)
    assert caught.value.exit_code == 2


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(LabelError, match=re.escape("nowhere.txt: no such label file; give a path to a file (.txt,")):
        LabelSet.read(tmp_path / "nowhere.txt")
    with pytest.raises(LabelError, match=re.escape(f"{tmp_path}: is a folder; give a label file")):
        LabelSet.read(tmp_path)


def test_an_unreadable_file_says_why(write, monkeypatch):
    path = write("l.txt", "archery")

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(LabelError, match=re.escape(f"{path}: cannot be read: Permission denied")):
        LabelSet.read(path)


def test_examples_are_clean_lists():
    txt, table, yaml = (LabelSet.read(EXAMPLES / f"labels.{suffix}") for suffix in ("txt", "csv", "yaml"))
    assert len(txt) >= 40 and "riding a bike" in txt.names
    assert (EXAMPLES / "labels.txt").read_text().startswith("#")
    assert sum(bool(label.descriptions) for label in txt) == 2
    assert len(table) == 5 and table.labels[1].prompts == ("a duel of two people who are {}",)
    assert yaml.names == ("riding a bike", "pole vault", "frying an egg", "skiing")
    assert [len(label.descriptions) for label in yaml] == [1, 2, 1, 0]
    assert txt.notes + table.notes + yaml.notes == ()

"""Examples of labels: how they are written, what they change, and what a result says of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import videos
from cli_runner import LABELS, Finished, Runner, label_options
from fake_model import FakeModel
from numpy.typing import NDArray
from torch import Tensor

from zsar_cli import LabelSet, ZeroShotClassifier
from zsar_cli.data.examples import parse_example, parse_source
from zsar_cli.engine.classifier import Labelled, Views
from zsar_cli.engine.ensemble import Ensemble
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.errors import InputError, UsageError
from zsar_cli.labels import Label
from zsar_cli.transfer.scoring import TransferSettings
from zsar_cli.video.reader import read_video
from zsar_cli.video.types import Excerpt, Window

Here = Callable[..., Finished]
LABELLED = LabelSet.from_names(["jumping", "sleeping", "high five"])
SHARE = 0.4  # of an example beside the words; docs/formats.md says so


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four different videos of one second, and something that is none."""
    made = tmp_path_factory.mktemp("examples")
    for number in range(4):
        videos.write_video(made / f"{number}.mp4", frames=25, first=61 * number)
    (made / "bad.mp4").write_text("no video")
    return made


# --- how they are written ---


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a.mp4", "a.mp4"),
        ("a.mp4@12-15.5", Excerpt("a.mp4", Window(12, 15.5))),
        ("a.mp4@1:02-1:02:03.25", Excerpt("a.mp4", Window(62, 3723.25))),
        ("a.mp4@0-90", Excerpt("a.mp4", Window(0, 90))),
        ("b=c@3-4.mp4", "b=c@3-4.mp4"),
        ("b=c@3-4.mp4@5-6", Excerpt("b=c@3-4.mp4", Window(5, 6))),
        ("a.mp4@1-2", Excerpt("a.mp4", Window(1, 2))),
    ],
)
def test_a_path_and_perhaps_its_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, expected: str | Excerpt
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b=c@3-4.mp4"):
        (tmp_path / name).touch()
    assert parse_source(written) == expected
    example = parse_example(f"HighFive={written}")
    assert (example.label, example.source) == (Label("HighFive"), expected)
    assert example.path == (expected if isinstance(expected, str) else expected.path)


def test_what_exists_under_the_whole_name_is_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "a.mp4@1-2"):
        (tmp_path / name).touch()
    assert parse_source("a.mp4@1-2") == "a.mp4@1-2"


WRONG = [
    ("a.mp4", "a.mp4: write LABEL=PATH or LABEL=PATH@START-END"),
    ("=a.mp4", "=a.mp4: '' is not a label"),
    ("x=", "no such file or folder"),
    ("x=none.mp4", "none.mp4: no such file or folder"),
    ("x=none.mp4@1-2", "none.mp4@1-2: no such file or folder"),
    ("x=0.mp4@", "'' is no part of a video"),
    ("x=0.mp4@5", "'5' is no part"),
    ("x=0.mp4@5-", "'5-' is no part"),
    ("x=0.mp4@-1-2", "'-1-2' is no part"),
    ("x=0.mp4@2-1", "'2-1' is no part of a video; write its start and a later end, such as 12-15.5 or 1:02-1:10"),
    ("x=0.mp4@2-2", "'2-2' is no part"),
    ("x=0.mp4@a-b", "'a-b' is no part"),
    ("x=0.mp4@1-nan", "'1-nan' is no part"),
    ("x=0.mp4@1-1e3", "'1-1e3' is no part"),
    ("x=0.mp4@1:2:3:4-5", "is no part"),
    ("x=0.mp4@1:75-2:80", "'1:75-2:80' is no part"),
    ("x=0.mp4@1:60:00-2:00:00", "is no part"),
]


@pytest.mark.parametrize(("written", "message"), WRONG)
def test_examples_that_cannot_be_meant(
    folder: Path, monkeypatch: pytest.MonkeyPatch, written: str, message: str
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError) as caught:
        parse_example(written)
    assert message in str(caught.value)


# --- what they change ---


def unit(rows: Any) -> NDArray[np.float64]:
    values = np.asarray(rows, dtype=np.float64)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def seen_in(path: Path, model: FakeModel, within: Window | None = None) -> NDArray[np.float64]:
    """The direction of a video: the mean of its unit windows, decoded without the engine."""
    decoded = read_video(str(path), model.sampling, model.geometry, within=within)
    rows = model.encode_video(torch.from_numpy(decoded.frames))
    return unit(unit(rows[:, :16]).mean(axis=0))


def embedded(classifier: Any, path: Path) -> Views:
    (views,) = classifier.embed([str(path)])
    assert not isinstance(views, InputError)
    return tuple(views)


def both(classifier: Any, given: Sequence[str]) -> tuple[Labelled, Labelled]:
    """Labels by words alone, and with examples."""
    seen = classifier.see([parse_example(one) for one in given])
    return classifier.prepare(LABELLED), classifier.prepare(LABELLED, seen)


TRANSFER = TransferSettings(top_k=2, conse_weight=0)
SETTINGS = EmbedSettings(workers=1)


def test_the_mean_of_the_examples_is_added_to_the_composed_prototype(folder: Path) -> None:
    model = FakeModel()
    with ZeroShotClassifier(model, model.bank(), TRANSFER, SETTINGS) as classifier:
        given = [f"High five={folder / '0.mp4'}", f"HighFive={folder / '1.mp4'}@0.2-0.6"]
        words, joint = both(classifier, given)
        video = embedded(classifier, folder / "2.mp4")
        before, after = (classifier.similarity(video, one).numpy() for one in (words, joint))
    mean = unit(seen_in(folder / "0.mp4", model) + seen_in(folder / "1.mp4", model, Window(0.2, 0.6)))
    assert words.prototypes is not None
    prototype = unit(unit(words.prototypes.visual[2]) + SHARE * mean)
    expected = (unit(video[0].windows) @ prototype).mean() / TRANSFER.transfer_scale
    np.testing.assert_allclose(after[2], expected, atol=1e-4)
    np.testing.assert_allclose(after[:2], before[:2], atol=1e-5)  # no example, no change
    assert abs(after[2] - before[2]) > 0.1


class Gapped(FakeModel):
    """Has a text tower; all its videos, but no text, share a large direction, as with CLIP."""

    def encode_video(self, clips: Tensor) -> Tensor:
        rows = super().encode_video(clips)
        rows[:, 0] = 2.0
        return rows

    def encode_labels(self, labels: Sequence[Label]) -> Tensor:  # type: ignore[override]
        rows = torch.cat([self.text.encode([label.text for label in labels])] * 2, dim=1)
        rows[:, 0] = 0
        return rows


class Opposed(Gapped):
    """To which grey frames look like the opposite of a video."""

    def encode_video(self, clips: Tensor) -> Tensor:
        rows = super().encode_video(clips)
        rows[(clips == 128).flatten(1).all(dim=1), 0] = -2.0
        return rows


class Rewriting(Gapped):
    """Rewrites texts in the light of the video, as X-CLIP does."""

    width = 16

    def encode_video(self, clips: Tensor) -> Tensor:
        rows = super().encode_video(clips)
        return torch.cat([rows, rows[:, 1:3]], dim=1)

    def condition_text(self, rows: Tensor, text: Tensor) -> Tensor:
        return text + rows[:, None, 16:].mean(dim=2, keepdim=True)


@pytest.mark.parametrize("kind", [Gapped, Opposed, Rewriting])
def test_beside_a_text_an_example_counts_less_what_all_videos_share(folder: Path, kind: type[Gapped]) -> None:
    model, transfer = kind(), TransferSettings(transfer_weight=0, conse_weight=0, text_weight=1)
    with ZeroShotClassifier(model, None, transfer, SETTINGS) as classifier:
        words, joint = both(classifier, [f"high five={folder / '0.mp4'}"])
        video = embedded(classifier, folder / "2.mp4")
        before, after = (classifier.window_similarity(video, one).numpy() for one in (words, joint))
    frames = torch.full((1, 3, 32, 32, 3), 128, dtype=torch.uint8)
    direction = seen_in(folder / "0.mp4", model)
    if kind is not Opposed:
        direction = direction - unit(model.encode_video(frames)[0, :16])
    for row, found in zip(video[0].windows, after, strict=True):
        text = model.encode_labels(LABELLED.labels)[2]
        if isinstance(model, Rewriting):
            text = text + row[16:].mean()
        expected = unit(row[:16]) @ unit(unit(text) + SHARE * direction) / transfer.text_scale
        np.testing.assert_allclose(found[2], expected, atol=1e-3)
    np.testing.assert_allclose(after[:, :2], before[:, :2], atol=1e-4)
    # Without that the label would gain from any video: its share of the direction that all of them have.
    lifted = SHARE * seen_in(folder / "0.mp4", model)[0] * unit(video[0].windows[:, :16])[0, 0] / transfer.text_scale
    assert np.abs(after - before)[:, 2].max() < lifted / 2 or kind is Opposed


def test_each_model_has_its_own_view_of_an_example(folder: Path) -> None:
    one, other = FakeModel("one"), FakeModel("two")
    other.name, other.sampling = "other", FakeModel.sampling.__class__(windows=1, frames=5)
    members = [ZeroShotClassifier(model, model.bank(), TRANSFER, SETTINGS) for model in (one, other)]
    given = [f"jumping={folder / '0.mp4'}@0.1-0.7"]
    with Ensemble(members, [1, 3]) as ensemble:
        _, joint = both(ensemble, given)
        views = embedded(ensemble, folder / "3.mp4")
        found = ensemble.similarity(views, joint)
    expected = torch.zeros(3)
    for member, weight, view in zip(members, (0.25, 0.75), views, strict=True):
        with member:
            expected += weight * member.similarity((view,), both(member, given)[1])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_an_example_that_cannot_be_read_is_named(folder: Path) -> None:
    model = FakeModel()
    with ZeroShotClassifier(model, model.bank(), TRANSFER, SETTINGS) as classifier:
        for name, reason in (("bad.mp4", "bad.mp4: "), ("0.mp4@50-51", "0.mp4@50-51: .*before the part from 50 to 51")):
            with pytest.raises(UsageError, match=reason):
                classifier.see([parse_example(f"x={folder / name}")])


# --- what a result says of them ---


def test_a_description_tells_examples_apart_and_forgets_where_they_lay(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere.mp4"
    shutil.copy(folder / "0.mp4", copy)
    models = [FakeModel("one"), FakeModel("two")]
    models[1].name = "other"
    members = [ZeroShotClassifier(model, model.bank(), TRANSFER, SETTINGS) for model in models]
    for classifier in (members[0], Ensemble(members)):
        with classifier:

            def described(*given: str, classifier: Any = classifier) -> str:
                seen = classifier.see([parse_example(one) for one in given])
                return json.dumps(classifier.describe(LABELLED, seen).to_dict(), sort_keys=True)

            first = f"jumping={folder / '0.mp4'}"
            assert described(first) == described(f"jumping={copy}")
            different = [
                described(),
                described(first),
                described(f"sleeping={folder / '0.mp4'}"),
                described(f"jumping={folder / '1.mp4'}"),
                described(f"{first}@0-0.5"),
                described(f"{first}@0.1-0.5"),
                described(f"{first}@0-0.6"),
                described(first, f"jumping={folder / '1.mp4'}"),
            ]
            assert len(set(different)) == len(different)


# --- on the command line ---


@pytest.fixture(scope="module")
def zsar(zsar_tiny: Runner) -> Runner:
    return zsar_tiny


def test_classify_and_localize_take_examples(zsar_here: Here, folder: Path) -> None:
    words = zsar_here("classify", "1.mp4", *label_options(), "-f", "jsonl", "-k", 6, cwd=folder).records[0]
    options = ("--like", f"{LABELS[1]}=1.mp4@0.2-0.8", "--like", "Fencing=2.mp4", "-f", "json")
    run = zsar_here("classify", "1.mp4", *label_options(), *options, "-k", 6, cwd=folder)
    assert "labels of --like alone, whose words are their names: Fencing" in run.stderr
    document = json.loads(run.stdout)
    assert [(one["label"], one["start"], one["end"]) for one in document["run"]["settings"]["like"]] == [
        (LABELS[1], 0.2, 0.8),
        ("Fencing", None, None),
    ]
    similarity = {one["label"]: one["similarity"] for one in document["results"][0]["predictions"]}
    before = {one["label"]: one["similarity"] for one in words["predictions"]}
    assert similarity[LABELS[1]] > before[LABELS[1]] + 1
    assert {name: similarity[name] for name in LABELS if name != LABELS[1]} == pytest.approx(
        {name: before[name] for name in LABELS if name != LABELS[1]}, abs=1e-4
    )
    found = zsar_here("localize", "0.mp4", "--window", "0.2", *options, cwd=folder)  # no other labels
    document = json.loads(found.stdout)
    assert document["run"]["labels"]["count"] == 2 and len(document["run"]["settings"]["like"]) == 2


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0.mp4", "--like 0.mp4: write LABEL=PATH"),
        ("x=none.mp4", "--like none.mp4: no such file or folder"),
        ("x=0.mp4@2-1", "--like 0.mp4@2-1: '2-1' is no part of a video"),
        ("x=0.mp4@50-51", "--like x=0.mp4@50-51: "),
        ("x=bad.mp4", "--like x=bad.mp4: "),
    ],
)
@pytest.mark.parametrize("command", ["classify", "localize"])
def test_a_wrong_example_ends_the_job_before_it_begins(
    zsar_here: Here, folder: Path, tmp_path: Path, command: str, value: str, message: str
) -> None:
    target = tmp_path / "out.jsonl"
    run = zsar_here(command, "0.mp4", *label_options(), "--like", value, "-o", target, cwd=folder, code=2)
    assert message in run.prose and not run.stdout and not target.exists()

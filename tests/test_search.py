"""Moments of a library: the same as by hand, merged, distinct, by words, by example, and what cut makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_runner import Finished, Runner
from fake_model import FakeModel
from PIL import Image
from videos import write_video

from zsar_cli.engine.classifier import Classifier, ZeroShotClassifier
from zsar_cli.engine.ensemble import Ensemble
from zsar_cli.engine.search import Query, SearchSettings, search
from zsar_cli.errors import UsageError
from zsar_cli.labels import LabelSet
from zsar_cli.store.library import Library
from zsar_cli.store.library_spec import LibrarySpec, StoredModel
from zsar_cli.store.shards import Entry, write_shard
from zsar_cli.video.types import Excerpt, Window

Here = Callable[..., Finished]


@pytest.fixture
def zsar(zsar_tiny: Runner) -> Runner:
    return zsar_tiny


def member(fingerprint: str) -> ZeroShotClassifier:
    model = FakeModel(fingerprint)
    model.name = fingerprint
    return ZeroShotClassifier(model, model.bank())


@pytest.fixture(params=[1, 2], ids=["one model", "two models"])
def classifier(request: pytest.FixtureRequest) -> Classifier:
    members = [member(f"fake-{number}") for number in range(1, request.param + 1)]
    return members[0] if len(members) == 1 else Ensemble(members, [1.0, 3.0])


def stored(folder: Path, classifier: Classifier, videos: dict[str, np.ndarray]) -> Library:
    """A library of given vectors [N, 16] by path, windows of 2 s every second."""
    models = tuple(StoredModel(m.name, m.fingerprint, 16, {}) for m in classifier.pipeline.models)
    library = Library.make(folder, LibrarySpec(models, {}, "pyav", "windows/1"))
    entries = []
    for path, rows in videos.items():
        spans = np.stack([np.arange(len(rows)), np.arange(len(rows)) + 2.0], axis=1).astype(float)
        vectors = tuple((rows * (1 + number)).astype(np.float16) for number in range(len(models)))
        entries.append(Entry(path, path, facts="{}", spans=spans, vectors=vectors))
    write_shard(library.shards, library.spec.columns, entries)
    return library


def random_videos(count: int = 5, windows: int = 30) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(7)
    return {f"/films/{number}.mp4": chance.normal(size=(windows, 16)) for number in range(count)}


def by_hand(library: Library, classifier: Classifier, words: str) -> dict[tuple[str, float], tuple[float, float]]:
    """Similarity and z of every window, by path and start."""
    labelled = classifier.prepare(LabelSet.from_names([words]))
    found = {}
    for block in library.blocks([model.fingerprint for model in classifier.pipeline.models]):
        rows = [torch.from_numpy(vectors.astype(np.float32)) for vectors in block.vectors]
        names = np.repeat([library.videos.paths[number] for number in block.videos], block.counts)
        for place in range(len(names)):
            one = classifier.score([part[place : place + 1] for part in rows], labelled)
            found[str(names[place]), float(block.spans[place, 0])] = float(one)
    values = np.array(list(found.values()))
    return {key: (value, (value - values.mean()) / values.std()) for key, value in found.items()}


def test_the_best_windows_are_found_by_one_product(tmp_path: Path, classifier: Classifier) -> None:
    library = stored(tmp_path / "lib", classifier, random_videos())
    expected = by_hand(library, classifier, "running")
    hits = search(library, classifier, Query("running"), SearchSettings(top=1000))
    best, (similarity, z) = max(expected.items(), key=lambda one: one[1])
    assert hits[0].path == best[0] and hits[0].start <= best[1] < hits[0].end
    assert hits[0].similarity == pytest.approx(similarity, abs=1e-4) and hits[0].z == pytest.approx(z, abs=1e-3)
    assert [hit.z for hit in hits] == sorted((hit.z for hit in hits), reverse=True)
    covered = [(hit.path, start) for hit in hits for start in np.arange(hit.start, hit.end - 1)]
    assert len(covered) == len(set(covered))  # no window is in two moments
    assert set(covered) == {key for key, (_, z) in expected.items() if z > 0}
    assert len(search(library, classifier, Query("running"), SearchSettings(top=3))) == 3


def bumps(direction: np.ndarray, heights: list[float]) -> np.ndarray:
    """Windows that look as much in a direction as heights say, and else all alike."""
    other = np.roll(direction, 5) - direction * (np.roll(direction, 5) @ direction) / (direction @ direction)
    other /= np.linalg.norm(other)
    return np.array([height * direction / np.linalg.norm(direction) + (1 - height) * other for height in heights])


def sought(classifier: Classifier) -> np.ndarray:
    """The prototype of "running" of the first model."""
    prototypes = classifier.members[0].prepare(LabelSet.from_names(["running"])).prototypes
    assert prototypes is not None
    return prototypes.visual[0].double().numpy()


def test_neighbours_that_are_nearly_as_good_are_one_moment(tmp_path: Path) -> None:
    classifier = member("fake-1")
    heights = [0.0] * 20 + [0.8, 1.0, 0.8] + [0.0] * 10 + [0.9] + [0.0] * 20
    library = stored(tmp_path / "lib", classifier, {"/a.mp4": bumps(sought(classifier), heights)})
    first, second, *_ = search(library, classifier, Query("running"))
    assert (first.path, first.start, first.end) == ("/a.mp4", 20.0, 24.0)
    assert (second.start, second.end) == (33.0, 35.0)


def test_of_equal_moments_the_first_come_first_however_many_are_asked_for(tmp_path: Path) -> None:
    classifier = member("fake-1")
    chance = np.random.default_rng(3)
    piece = np.repeat(chance.normal(0, 1, (7, 16)), [1, 3, 3, 3, 3, 3, 3], axis=0)
    library = stored(tmp_path / "l", classifier, {f"{name}.mp4": np.tile(piece, (40, 1)) for name in "abc"})
    every = search(library, classifier, Query("one"), SearchSettings(top=60))
    assert [(hit.path, hit.start) for hit in every] == sorted((hit.path, hit.start) for hit in every)
    assert len({round(hit.z, 6) for hit in every}) == 1
    for top in (1, 3, 5, 20):
        assert search(library, classifier, Query("one"), SearchSettings(top=top)) == every[:top]


def test_videos_are_not_merged(tmp_path: Path) -> None:
    classifier = member("fake-1")
    end, begin = bumps(sought(classifier), [0.0] * 9 + [1.0]), bumps(sought(classifier), [0.9] + [0.0] * 9)
    library = stored(tmp_path / "lib", classifier, {"/a.mp4": end, "/b.mp4": begin})
    hits = search(library, classifier, Query("running"), SearchSettings(top=2))
    assert [(hit.path, hit.start, hit.end) for hit in hits] == [("/a.mp4", 9.0, 11.0), ("/b.mp4", 0.0, 2.0)]


def test_what_looks_like_a_better_moment_can_be_left_out(tmp_path: Path) -> None:
    classifier = member("fake-1")
    rows = bumps(sought(classifier), [0.0] * 9 + [1.0])
    near, other = rows.copy(), rows.copy()
    near[9] += 0.02
    other[9] += np.linspace(-0.3, 0.3, 16)
    library = stored(tmp_path / "lib", classifier, {"/a.mp4": rows, "/near.mp4": near, "/other.mp4": other})
    every = search(library, classifier, Query("running"), SearchSettings(top=3))
    assert {hit.path for hit in every} == {"/a.mp4", "/near.mp4", "/other.mp4"}
    distinct = search(library, classifier, Query("running"), SearchSettings(top=2, dedupe=True))
    assert {hit.path for hit in distinct} == {"/a.mp4", "/other.mp4"}


def test_only_what_lies_under_a_folder_is_looked_at(tmp_path: Path) -> None:
    classifier = member("fake-1")
    videos = {**random_videos(), "/films-2/x.mp4": np.ones((3, 16)), "/films/in/y.mp4": np.eye(3, 16)}
    library = stored(tmp_path / "lib", classifier, videos)
    found = search(library, classifier, Query("running"), SearchSettings(top=99, under=("/films/in", "/films-2/x.mp4")))
    expected = by_hand(library, classifier, "running")  # over the whole library
    inside = {path for (path, _), (_, z) in expected.items() if z > 0 and path in ("/films-2/x.mp4", "/films/in/y.mp4")}
    assert {hit.path for hit in found} == inside and inside
    for hit in found:
        assert any(hit.z == pytest.approx(z, abs=1e-3) for (path, _), (_, z) in expected.items() if path == hit.path)
    with pytest.raises(UsageError, match="--under /film: nothing"):
        search(library, classifier, Query("running"), SearchSettings(under=("/film",)))


def test_words_of_what_is_not_wanted_count_against(tmp_path: Path, classifier: Classifier) -> None:
    library = stored(tmp_path / "lib", classifier, random_videos())
    wanted, unwanted = (by_hand(library, classifier, words) for words in ("running", "sitting"))
    expected = {key: wanted[key][0] - unwanted[key][0] for key in wanted}
    best = max(expected, key=lambda key: expected[key])
    hit = search(library, classifier, Query("running", unlike="sitting"))[0]
    assert hit.path == best[0] and hit.start <= best[1] < hit.end
    assert hit.similarity == pytest.approx(expected[best], abs=1e-4)


def test_a_query_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to search for"):
        Query(unlike="sitting")


def test_a_part_of_a_video_finds_itself(tmp_path: Path) -> None:
    from zsar_cli.engine.adding import add_videos, make_library
    from zsar_cli.engine.pipeline import EmbedSettings

    paths = [str(write_video(tmp_path / f"{number}.mp4", first=100 * number, frames=100).path) for number in range(3)]
    model = FakeModel()
    settings = EmbedSettings({"window": 0.4, "stride": 0.4, "frames": 3}, workers=1)
    with ZeroShotClassifier(model, model.bank(), embedding=settings) as one:
        library = make_library(tmp_path / "lib", one)
        assert [outcome.what for outcome in add_videos(library, one, paths)] == ["added"] * 3
        best = search(library, one, Query(like=Excerpt(paths[1], Window(0.8, 1.2))))[0]
        assert best.path == paths[1] and best.start <= 0.8 + 1e-6 and best.end >= 1.2 - 1e-6
        assert best.similarity == pytest.approx(1 / model.transfer.transfer_scale, rel=1e-3)  # its cosine is 1
        with pytest.raises(UsageError, match="--like"):
            search(library, one, Query(like=str(tmp_path / "none.mp4")))


# The command line


@pytest.fixture
def library(zsar_here: Here, tmp_path: Path) -> Path:
    (tmp_path / "films").mkdir()
    for number in range(3):
        write_video(tmp_path / "films" / f"{number}.mp4", first=100 * number, frames=60)
    zsar_here("library", "add", tmp_path / "lib", tmp_path / "films", "--window", 0.4)
    return tmp_path / "lib"


def test_moments_of_key_frames_say_that_their_times_are_not_exact(
    zsar_here: Here, library: Path, tmp_path: Path
) -> None:
    exact = zsar_here("search", library, "riding a bike", "-f", "jsonl")
    assert "key frames" not in exact.prose and exact.records[0]["run"]["notes"] == []
    zsar_here("library", "add", tmp_path / "fast", tmp_path / "films", "--window", 0.4, "--fast")
    fast = zsar_here("search", tmp_path / "fast", "riding a bike", "-f", "jsonl")
    assert "times are off by up to half the distance of two" in fast.prose
    assert "key frames" in fast.records[0]["run"]["notes"][0]


def test_moments_are_written_and_cut(zsar_here: Here, library: Path, tmp_path: Path) -> None:
    found = tmp_path / "found.jsonl"
    done = zsar_here("search", library, "riding a bike", "--top", 2, "-o", found)
    assert "looks for a prototype composed of riding a bike 1.00" in done.prose
    records = zsar_here("search", library, "riding a bike", "--top", 2, "-f", "jsonl").records
    assert found.read_text().count("\n") == len(records) == 2
    for record in records:
        assert record["schema"] == "zsar.search/1" and record["query"] == "riding a bike"
        assert Path(record["path"]).exists() and 0 <= record["start"] < record["end"] and record["z"] > 0
        assert record["search"]["by"] == {record["run"]["model"]["name"]: "composed prototype"}
    cut = zsar_here("cut", found, "-o", tmp_path / "cuts")
    assert len(cut.stdout.splitlines()) == 2 and all(Path(path).exists() for path in cut.stdout.splitlines())


def test_the_table_names_moments_best_first(zsar_here: Here, library: Path, tmp_path: Path) -> None:
    lines = zsar_here("search", library, "riding a bike", "--top", 2, "-q").stdout.splitlines()
    assert lines.pop(0).split() == ["#", "z", "similarity", "when", "video"]
    assert [line.split()[0] for line in lines] == ["1", "2"]
    assert all(str(tmp_path / "films") in line and " - 0:0" in line for line in lines)


def test_an_image_will_do_as_an_example(zsar_here: Here, tmp_path: Path) -> None:
    stills = [Image.effect_noise((64, 64), 200).convert("RGB") for _ in range(3)]
    for number, still in enumerate(stills):
        (tmp_path / "films" / f"{number}").mkdir(parents=True)
        for frame in range(50):
            still.save(tmp_path / "films" / f"{number}" / f"{frame}.png")
    stills[1].save(tmp_path / "still.png")
    zsar_here("library", "add", tmp_path / "lib", tmp_path / "films", "--window", 0.4)
    given = ("--like", tmp_path / "still.png", "--top", 1, "-f", "jsonl")
    (record,) = zsar_here("search", tmp_path / "lib", *given).records
    assert record["path"] == str(tmp_path / "films" / "1")
    assert record["start"] == 0.0 and record["end"] == pytest.approx(2.0)
    (tmp_path / "broken.png").write_text("x")
    assert "broken.png" in zsar_here("search", tmp_path / "lib", "--like", tmp_path / "broken.png", code=2).prose


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ([], "nothing to search for"),
        ([" "], "nothing to search for"),
        (["running", "--under", "/nowhere"], "--under /nowhere: nothing"),
        (["--like", "none.mp4"], "--like none.mp4: no such file"),
        (["running", "-o", "found.csv"], "table or jsonl"),
        (["running", "--model", "other"], "other"),
    ],
)
def test_what_cannot_be_sought_is_refused(zsar_here: Here, library: Path, given: list[str], what: str) -> None:
    assert what in zsar_here("search", library, *given, code=2).prose

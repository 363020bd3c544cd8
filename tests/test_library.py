"""Videos into a library and out of it again: what is read, what is known, and the same answers as from the files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from cli_runner import Finished, Runner, label_options
from fake_model import FakeModel
from videos import folder, write_video

from zsar_cli.engine import adding
from zsar_cli.engine.adding import Outcome, add_videos, make_library
from zsar_cli.engine.classifier import ZeroShotClassifier
from zsar_cli.engine.localizing import localize_each
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.engine.stored import classify_stored, stored_videos
from zsar_cli.errors import InputError
from zsar_cli.labels import LabelSet
from zsar_cli.report.vectors import write_vectors
from zsar_cli.store.library import Library
from zsar_cli.transfer.segments import SegmentSettings
from zsar_cli.video.content import content_digest
from zsar_cli.video.workers import DecodePool

Here = Callable[..., Finished]
TESTS = Path(__file__).parent


@pytest.fixture
def zsar(zsar_tiny: Runner) -> Runner:
    return zsar_tiny


def classifier(workers: int = 1) -> ZeroShotClassifier:
    model = FakeModel()
    settings = EmbedSettings({"window": 0.4, "stride": 0.2, "frames": 3}, workers=workers)
    return ZeroShotClassifier(model, model.bank(), embedding=settings)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of five videos, one of them damaged beyond use."""
    films = tmp_path / "films"
    films.mkdir()
    for number in range(4):
        write_video(films / f"{number}.mp4", first=100 * number, frames=40 + number)
    (films / "bad.mp4").write_text("this is text")
    return films


def paths_in(home: Path) -> list[str]:
    return [str(path) for path in sorted(home.iterdir())]


def add(library: Path, paths: list[str], again: bool = False, workers: int = 1) -> dict[str, str]:
    """What became of each, by the name of the file."""
    with classifier(workers) as one:
        outcomes = list(add_videos(make_library(library, one), one, paths, again))
    assert len(outcomes) == len(paths)
    return {Path(outcome.path).name: outcome.what for outcome in outcomes}


def vectors(library: Path) -> dict[str, torch.Tensor]:
    """By the name of the file."""
    with classifier() as one:
        return {
            Path(video[0].facts.path).name: video[0].windows
            for video in stored_videos(Library(library), one)
            if not isinstance(video, InputError)
        }


def reference(paths: list[str]) -> dict[str, torch.Tensor]:
    with classifier() as one:
        return {
            Path(video[0].facts.path).name: video[0].windows
            for video in one.embed(paths)
            if not isinstance(video, InputError)
        }


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name].half().float()) for name in found
    )


def test_what_is_kept_is_what_the_model_sees(home: Path, tmp_path: Path) -> None:
    added = add(tmp_path / "lib", paths_in(home), workers=2)
    assert added == {**dict.fromkeys(("0.mp4", "1.mp4", "2.mp4", "3.mp4"), "added"), "bad.mp4": "failed"}
    assert same(vectors(tmp_path / "lib"), reference(paths_in(home)))


def test_what_is_known_is_not_read_again(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path / "lib", paths_in(home))
    before = sorted((tmp_path / "lib" / "shards").iterdir())

    def never(*_: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr(adding, "content_digest", never)
    known = dict.fromkeys(("0.mp4", "1.mp4", "2.mp4", "3.mp4"), "known")
    assert add(tmp_path / "lib", paths_in(home)) == {**known, "bad.mp4": "failed before"}
    assert sorted((tmp_path / "lib" / "shards").iterdir()) == before


def test_moved_copied_and_changed_files_are_told_apart(home: Path, tmp_path: Path) -> None:
    library = tmp_path / "lib"
    add(library, paths_in(home))
    os.rename(home / "0.mp4", home / "moved.mp4")
    shutil.copy(home / "1.mp4", home / "copy.mp4")
    write_video(home / "2.mp4", first=700, frames=30)
    os.utime(home / "3.mp4")
    found = add(library, paths_in(home))
    assert found == {
        **dict.fromkeys(("1.mp4", "3.mp4"), "known"),
        "bad.mp4": "failed before",
        "moved.mp4": "moved",
        "copy.mp4": "copy",
        "2.mp4": "added",
    }
    expected = reference([str(home / name) for name in ("moved.mp4", "1.mp4", "2.mp4", "3.mp4")])
    assert same(vectors(library), expected)


def test_files_that_changed_places_are_found_where_they_are(home: Path, tmp_path: Path) -> None:
    library = tmp_path / "lib"
    add(library, paths_in(home))
    os.rename(home / "0.mp4", home / "x")
    os.rename(home / "1.mp4", home / "0.mp4")
    os.rename(home / "x", home / "1.mp4")
    add(library, paths_in(home))
    assert same(vectors(library), reference(paths_in(home)))


@pytest.mark.parametrize("new_name", ["00.mp4", "9.mp4"])
def test_a_file_that_moved_is_not_lost_to_the_one_that_took_its_place(
    new_name: str, home: Path, tmp_path: Path
) -> None:
    """Whichever of the two is looked at first."""
    library = tmp_path / "lib"
    add(library, paths_in(home))
    os.rename(home / "0.mp4", home / new_name)
    write_video(home / "0.mp4", first=900, frames=33)
    found = add(library, paths_in(home))
    assert (found[new_name], found["0.mp4"]) == ("moved", "added")
    assert same(vectors(library), reference(paths_in(home)))


def test_a_frame_that_changed_in_its_folder_is_noticed(tmp_path: Path) -> None:
    library, frames = tmp_path / "lib", folder(tmp_path / "frames", frames=20).path
    assert add(library, [str(frames)]) == {"frames": "added"}
    before = sorted((library / "shards").iterdir())
    assert add(library, [str(frames)]) == {"frames": "known"}
    assert sorted((library / "shards").iterdir()) == before
    first, second, *_ = sorted(frames.iterdir())
    shutil.copyfile(second, first)
    assert add(library, [str(frames)]) == {"frames": "added"}
    assert same(vectors(library), reference([str(frames)]))


def test_two_files_of_one_content_are_kept_once(home: Path, tmp_path: Path) -> None:
    shutil.copy(home / "0.mp4", home / "same.mp4")
    found = add(tmp_path / "lib", paths_in(home))
    assert found["0.mp4"] == "added" and found["same.mp4"] == "copy"
    assert "same.mp4" not in vectors(tmp_path / "lib")


def test_failures_are_kept_and_tried_again_when_asked(home: Path, tmp_path: Path) -> None:
    library = tmp_path / "lib"
    add(library, paths_in(home))
    assert add(library, paths_in(home))["bad.mp4"] == "failed before"
    assert add(library, paths_in(home), again=True)["bad.mp4"] == "failed"
    with classifier() as one:
        (failure,) = [video for video in stored_videos(Library(library), one) if isinstance(video, InputError)]
    assert failure.path == str(home / "bad.mp4") and failure.stage == "open" and failure.reason


def test_embeddings_that_16_bits_cannot_hold_are_a_failure(home: Path, tmp_path: Path) -> None:
    class Large(FakeModel):
        def encode_video(self, clips: torch.Tensor) -> torch.Tensor:
            return super().encode_video(clips) * 1e6

    model = Large()
    with ZeroShotClassifier(model, model.bank(), embedding=EmbedSettings({"window": 1.0}, workers=1)) as one:
        (found,) = add_videos(make_library(tmp_path / "lib", one), one, [str(home / "0.mp4")])
    assert found.what == "failed" and "16 bits" in str(found.error)


LABELS = LabelSet.from_names(["running", "sitting still", "a bright day", "swimming"])


def test_labels_get_the_scores_that_they_get_from_the_files(home: Path, tmp_path: Path) -> None:
    add(tmp_path / "lib", paths_in(home))
    with classifier() as one:
        labelled = one.prepare(LABELS)
        expected = {record.path: record for record in one.classify_each(paths_in(home), labelled)}
        found = {record.path: record for record in classify_stored(Library(tmp_path / "lib"), one, labelled)}
    assert found.keys() == expected.keys()
    for path, record in found.items():
        assert record.error == expected[path].error and record.windows == expected[path].windows
        assert record.facts == expected[path].facts
        ours = {one.label: one.similarity for one in record.predictions}
        for prediction in expected[path].predictions:
            assert ours[prediction.label] == pytest.approx(prediction.similarity, abs=0.02)


def test_segments_are_those_of_the_files(home: Path, tmp_path: Path) -> None:
    """Also how many videos are scored at once does not matter."""
    how = SegmentSettings(onset=0.5)
    add(tmp_path / "lib", paths_in(home))
    with classifier() as one:
        labelled = one.prepare(LABELS)
        expected = {record.path: record for record in localize_each(one, one.embed(paths_in(home)), labelled, how)}
        stored = stored_videos(Library(tmp_path / "lib"), one)
        found = {record.path: record for record in localize_each(one, stored, labelled, how)}
    assert sum(len(record.segments or ()) for record in expected.values()) > 3
    for path, record in expected.items():
        ours = [(one.label, one.start, one.end) for one in found[path].segments or ()]
        assert ours == [(one.label, one.start, one.end) for one in record.segments or ()]


def test_how_many_windows_are_scored_at_once_changes_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zsar_cli.engine import stored

    add(tmp_path / "lib", paths_in(home))
    found = []
    with classifier() as one:
        labelled = one.prepare(LABELS)
        for most in (1, 40, 10_000_000):
            monkeypatch.setattr(stored, "AT_ONCE", most)
            found.append(list(classify_stored(Library(tmp_path / "lib"), one, labelled, top_k=2)))
    assert [len(record.predictions) for record in found[0]] == [2, 2, 2, 2, 0]
    for others in found[1:]:
        assert [record.path for record in others] == [record.path for record in found[0]]
        for one_record, other in zip(found[0], others, strict=True):
            for first, second in zip(one_record.predictions, other.predictions, strict=True):
                assert first.label == second.label and first.similarity == pytest.approx(second.similarity, abs=1e-5)


ADDER = """
    import sys
    sys.path[:0] = [sys.argv[1]]
    from pathlib import Path
    from test_library import add_videos, classifier, make_library
    one = classifier()
    for outcome in add_videos(make_library(Path(sys.argv[2]), one), one, sys.argv[3:]):
        print(outcome.path, outcome.what, flush=True)
    print("done", flush=True)
"""


def adder(library: Path, paths: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(ADDER), str(TESTS), str(library), *paths]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_kill_costs_the_files_in_flight_at_most(home: Path, tmp_path: Path) -> None:
    library, paths = tmp_path / "lib", paths_in(home)
    told = 0
    for after in (0, 1, 3):
        job = adder(library, paths)
        assert job.stdout is not None
        lines = [job.stdout.readline() for _ in range(after)]
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
        job.stdout.close()
        told = max(told, len(lines))
        if library.exists() and told:
            there = {Path(path).name for path in Library(library).videos.paths}
            assert {Path(line.split()[0]).name for line in lines} <= there
    add(library, paths)
    assert same(vectors(library), reference(paths))
    assert sorted(Library(library).videos.paths) == paths


def test_two_may_add_at_once(home: Path, tmp_path: Path) -> None:
    library, paths = tmp_path / "lib", paths_in(home)
    with classifier() as one:
        make_library(library, one)
    jobs = [adder(library, paths), adder(library, paths[::-1])]
    for job in jobs:
        assert job.communicate(timeout=120)[0].endswith("done\n") and job.returncode == 0
    assert same(vectors(library), reference(paths))
    assert sorted(Library(library).videos.paths) == paths


def test_many_adds_leave_few_shards(home: Path, tmp_path: Path) -> None:
    library = tmp_path / "lib"
    with classifier() as one:
        kept = make_library(library, one)
        for number in range(40):
            path = home / f"n{number}.mp4"
            shutil.copy(home / "0.mp4", path)
            path.write_bytes(path.read_bytes() + bytes([number]))
            (outcome,) = add_videos(kept, one, [str(path)])
            assert outcome == Outcome(str(path), "added")
    assert len(kept.videos) == 40
    assert len(list(kept.shards.glob("*.windows.parquet"))) < 25
    assert not list(kept.shards.glob("*.lock"))
    assert list(kept.problems()) == []


# The command line


def test_the_command_line_from_end_to_end(zsar_here: Here, home: Path, tmp_path: Path) -> None:
    library = tmp_path / "films.lib"
    options = ("--window", 0.4, "--stride", 0.2, "--workers", 1)
    added = zsar_here("library", "add", library, home, *options, code=3)
    assert "4 added, 1 failed" in added.prose and "bad.mp4" in added.prose
    again = zsar_here("library", "add", library, home)
    assert "4 known, 1 failed before; --again tries once more what failed" in again.prose
    assert "4 known, 1 failed" in zsar_here("library", "add", library, home, "--again", code=3).prose
    about = zsar_here("library", "info", library).stdout
    assert "videos   4, and 1 that failed" in about and f"failed   {home / 'bad.mp4'}" in about

    found = zsar_here("classify", library, *label_options(), "-f", "jsonl", code=3)
    files = zsar_here("classify", home, *label_options(), *options, "-f", "jsonl", code=3)
    best = {record["path"]: [one["label"] for one in record["predictions"]][:1] for record in files.records}
    assert {record["path"]: [one["label"] for one in record["predictions"]][:1] for record in found.records} == best
    assert {record["run"]["precision"] for record in found.records} == {"kept as float16"}

    os.rename(home / "0.mp4", home / "elsewhere.mp4")
    os.remove(home / "1.mp4")
    os.rename(home, tmp_path / "away")
    kept = zsar_here("library", "add", library, home, "--prune", code=1)
    assert "nothing is taken out" in kept.prose and len(Library(library).videos) == 5
    os.rename(tmp_path / "away", home)
    pruned = zsar_here("library", "add", library, home, "--prune")
    assert "1 moved" in pruned.prose and "1 taken out" in pruned.prose
    assert "1 taken out" in zsar_here("library", "remove", library, home / "2.mp4").prose
    assert "nothing in" in zsar_here("library", "remove", library, home / "2.mp4", code=1).prose
    assert "all in order" in zsar_here("library", "verify", library).prose
    names = {Path(path).name for path in Library(library).videos.paths}
    assert names == {"elsewhere.mp4", "3.mp4", "bad.mp4"}


def test_a_job_on_a_library_is_not_resumed(zsar_here: Here, home: Path, tmp_path: Path) -> None:
    zsar_here("library", "add", tmp_path / "lib", home / "0.mp4")
    given = ("classify", tmp_path / "lib", *label_options(), "-o", tmp_path / "out.jsonl")
    zsar_here(*given)
    assert "take --overwrite" in zsar_here(*given, "--resume", code=2).prose
    for there in (given, ("search", tmp_path / "lib", "running", "-o", tmp_path / "out.jsonl")):
        refused = zsar_here(*there, code=1).prose
        assert "exists; --overwrite replaces it" in refused and "--resume" not in refused


def test_the_first_add_takes_windows_of_4_seconds(zsar_here: Here, home: Path, tmp_path: Path) -> None:
    zsar_here("library", "add", tmp_path / "lib", home / "0.mp4")
    assert Library(tmp_path / "lib").spec.sampling == {"frames": 16, "window": 4.0, "stride": 2.0, "frame_rate": 25.0}
    refused = zsar_here("library", "add", tmp_path / "lib", home, "--window", 2, code=2)
    assert "--window is 4.0 in this library, not 2.0" in refused.prose
    refused = zsar_here("localize", tmp_path / "lib", *label_options(), "--fast", code=2)
    assert "--fast is off in this library, not on" in refused.prose
    run = zsar_here("localize", tmp_path / "lib", *label_options(), "--stride", 2)
    assert "windows of 4 s, one every 2 s in the library" in run.prose
    refused = zsar_here("localize", tmp_path / "lib", *label_options(), "--shots", code=2)
    assert "--shots compares all frames, and a library keeps few" in refused.prose
    refused = zsar_here("classify", tmp_path / "lib", home, *label_options(), code=2)
    assert "give it alone" in refused.prose


def test_parts_for_many_machines_are_all_and_each_once(zsar_here: Here, home: Path, tmp_path: Path) -> None:
    (home / "bad.mp4").unlink()
    for number in (1, 2, 3):
        zsar_here("library", "add", tmp_path / f"{number}.lib", home, "--shard", f"{number}/3")
    parts = [set(Library(tmp_path / f"{number}.lib").videos.paths) for number in (1, 2, 3)]
    assert sorted(path for part in parts for path in part) == paths_in(home)
    zsar_here("library", "merge", tmp_path / "all.lib", *(tmp_path / f"{number}.lib" for number in (1, 2, 3)))
    assert sorted(Library(tmp_path / "all.lib").videos.paths) == paths_in(home)
    for wrong in ("0/3", "4/3", "x", "1", "1/0"):
        assert "such as 1/8" in zsar_here("library", "add", tmp_path / "1.lib", home, "--shard", wrong, code=2).prose


def test_vectors_go_to_other_tools(zsar_here: Here, home: Path, tmp_path: Path) -> None:
    library = tmp_path / "lib"
    zsar_here("library", "add", library, home, "--window", 0.4, code=3)
    for suffix in (".npz", ".parquet"):
        zsar_here("library", "export", library, "-o", tmp_path / f"out{suffix}")
        assert "exists" in zsar_here("library", "export", library, "-o", tmp_path / f"out{suffix}", code=1).prose
    table = pq.read_table(tmp_path / "out.parquet")
    with np.load(tmp_path / "out.npz") as file:
        arrays = dict(file)
    (name,) = set(table.column_names) - {"path", "start", "end"}
    assert set(arrays) == set(table.column_names)
    np.testing.assert_array_equal(np.stack(table.column(name).to_pylist()).astype(np.float16), arrays[name])
    assert table.column("path").to_pylist() == arrays["path"].tolist()
    assert table.column("start").to_pylist() == arrays["start"].tolist()
    kept = Library(library)
    (block,) = kept.blocks([name])
    np.testing.assert_array_equal(block.vectors[0], arrays[name])
    assert "written as .parquet or .npz" in zsar_here("library", "export", library, "-o", "x.csv", code=2).prose


def test_a_library_of_nothing_is_not_made(zsar_here: Here, home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    failed = zsar_here("library", "add", tmp_path / "lib", tmp_path / "empty", tmp_path / "absent", code=1)
    assert "empty" in failed.prose and "absent" in failed.prose and not (tmp_path / "lib").exists()
    assert "no library" in zsar_here("search", tmp_path / "empty", "running", code=2).prose
    zsar_here("library", "add", tmp_path / "lib", home / "0.mp4")
    zsar_here("library", "remove", tmp_path / "lib", home)
    for asked in (["search", "running"], ["classify", *label_options()], ["localize", *label_options()]):
        assert "lib is empty; 'zsar library add" in zsar_here(asked[0], tmp_path / "lib", *asked[1:], code=2).prose
    assert "is empty" in zsar_here("library", "export", tmp_path / "lib", "-o", tmp_path / "out.npz", code=2).prose
    assert not (tmp_path / "out.npz").exists()


def test_libraries_that_do_not_fit_are_merged_into_nothing(zsar_here: Here, home: Path, tmp_path: Path) -> None:
    for name, *options in (("exact",), ("fast", "--fast")):
        zsar_here("library", "add", tmp_path / name, home / "0.mp4", *options)
    refused = zsar_here("library", "merge", tmp_path / "all", tmp_path / "exact", tmp_path / "fast", code=2)
    assert f"{tmp_path / 'fast'} does not fit: {tmp_path / 'exact'}: --fast is off in this library" in refused.prose
    assert not (tmp_path / "all").exists()


def test_a_new_file_is_digested_once(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    stream = DecodePool.stream

    def watched(pool: DecodePool, paths: Any, choose: Any, *more: Any) -> Any:
        asked.append(choose)
        return stream(pool, paths, choose, *more)

    monkeypatch.setattr(DecodePool, "stream", watched)
    add(tmp_path / "lib", paths_in(home))
    assert asked == [None]  # nobody waits for a digest by the decode process
    library = Library(tmp_path / "lib")
    with classifier() as one:
        kept = {video[0].facts.content for video in stored_videos(library, one) if not isinstance(video, InputError)}
    assert kept == {content_digest(path) for path in paths_in(home) if not path.endswith("bad.mp4")}


def test_names_that_are_no_text_are_exported_as_they_are(home: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe.mp4")
    try:
        os.rename(home / "0.mp4", home / name)
    except OSError:
        pytest.skip("this file system takes no such name")
    add(tmp_path / "lib", paths_in(home))
    write_vectors(Library(tmp_path / "lib"), tmp_path / "out.npz")
    write_vectors(Library(tmp_path / "lib"), tmp_path / "out.parquet")
    with np.load(tmp_path / "out.npz") as arrays:
        assert str(home / name) in arrays["path"].tolist()
    table = pq.read_table(tmp_path / "out.parquet")
    raw = dict(zip(table.column("path").to_pylist(), table.column("path_bytes").to_pylist(), strict=True))
    assert raw.pop(str(home / "\ufffd\ufffd.mp4")) == os.fsencode(home / name)
    assert set(raw.values()) == {None}

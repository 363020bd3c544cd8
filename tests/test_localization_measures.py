"""Average precision of segments: against ActivityNet's rules written out in plain Python, and files read."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from cli_runner import Finished, Runner
from test_report import RUN

from zsar_cli.data.timed import Timed, read_moments, read_results, read_truth
from zsar_cli.errors import InputError, UsageError
from zsar_cli.evaluation.localization import ACTIVITYNET, THUMOS, mean_average_precision
from zsar_cli.records import Prediction, Segment, VideoRecord
from zsar_cli.report.formats import open_writer

THRESHOLDS = tuple(sorted({*THUMOS, *ACTIVITYNET}))


@pytest.fixture
def zsar(zsar_tiny: Runner) -> Runner:
    return zsar_tiny


# --- an independent implementation: no arrays, one threshold at a time ---


def overlap(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = max(a[1], b[1]) - min(a[0], b[0]) if shared else (a[1] - a[0]) + (b[1] - b[0])
    return shared / union


def plain_ap(label, found, truth, threshold):
    results = [
        (one.score, video, (one.start, one.end)) for video in found for one in found[video] if one.label == label
    ]
    results.sort(key=lambda result: result[0], reverse=True)
    true = {video: [(one.start, one.end) for one in truth[video] if one.label == label] for video in truth}
    total = sum(len(spans) for spans in true.values())
    locked, marks = [], []
    for _, video, span in results:
        candidates = sorted(true.get(video, []), key=lambda other: overlap(span, other), reverse=True)
        mark = False
        for other in candidates:
            if overlap(span, other) < threshold:
                break
            if (video, other) in locked:
                continue
            locked.append((video, other))
            mark = True
            break
        marks.append(mark)
    recalls, precisions, hits = [0.0], [0.0], 0
    for count, mark in enumerate(marks, start=1):
        hits += mark
        recalls.append(hits / total)
        precisions.append(hits / count)
    recalls.append(1.0)
    precisions.append(0.0)
    area = 0.0
    for i in range(1, len(recalls)):
        area += (recalls[i] - recalls[i - 1]) * max(precisions[i:])
    return area


def random_case(seed):
    random = np.random.default_rng(seed)
    labels, videos = "abcd", [f"v{i}" for i in range(random.integers(1, 5))]
    truth, found = {}, {}
    for video in videos:
        starts = random.uniform(0, 50, random.integers(0, 6))
        truth[video] = [Timed(str(random.choice(list(labels))), s, s + random.uniform(1, 20)) for s in starts.tolist()]
        shaken = [
            Timed(
                one.label if random.random() < 0.8 else str(random.choice(list("abcde"))),
                one.start + random.normal() * 2,
                one.end + 7 + random.normal() * 2 - 7 * (random.random() < 0.8),
                random.random(),
            )
            for one in truth[video] * int(random.integers(0, 4))
        ]
        found[video] = [one for one in shaken if one.start < one.end]
    truth[videos[0]].append(Timed("a", 1.0, 9.0))
    if random.random() < 0.3:
        found["elsewhere"] = [Timed("a", 0.0, 5.0, random.random())]
    if random.random() < 0.2:
        del found[videos[-1]]
    return found, truth


@pytest.mark.parametrize("seed", range(200))
def test_agrees_with_the_rules_written_out(seed):
    found, truth = random_case(seed)
    precision = mean_average_precision(found, truth)
    labels = {one.label for segments in truth.values() for one in segments}
    assert set(precision.per_class) == labels and precision.thresholds == THRESHOLDS
    for label, values in precision.per_class.items():
        for value, threshold in zip(values, THRESHOLDS, strict=True):
            assert value == pytest.approx(plain_ap(label, found, truth, threshold), abs=1e-6)
    at = [sum(values[i] for values in precision.per_class.values()) / len(labels) for i in range(len(THRESHOLDS))]
    assert [precision.mean_at(threshold) for threshold in THRESHOLDS] == pytest.approx(at, abs=1e-6)
    expected = sum(at[THRESHOLDS.index(threshold)] for threshold in ACTIVITYNET) / 10
    assert precision.mean_over(ACTIVITYNET) == pytest.approx(expected, abs=1e-6)


def test_the_cases_are_neither_all_right_nor_all_wrong():
    means = [mean_average_precision(*random_case(seed)).mean_at(0.5) for seed in range(200)]
    assert 0.2 < np.mean(means) < 0.8 and np.std(means) > 0.1


def test_the_truth_itself_is_perfect_and_a_second_copy_costs_nothing_behind_it():
    truth = {"v": [Timed("a", 0, 4), Timed("a", 10, 20), Timed("b", 3, 9)], "w": []}
    assert mean_average_precision(truth, truth).mean_over(ACTIVITYNET) == 1.0
    twice = {"v": [*truth["v"], *(one._replace(score=0.5) for one in truth["v"])]}
    assert mean_average_precision(twice, truth).mean_over(ACTIVITYNET) == 1.0
    before = {"v": [Timed("a", 0, 4, 1.0), Timed("a", 0, 4, 0.9), Timed("a", 10, 20, 0.8)]}
    assert mean_average_precision(before, truth).per_class["a"][0] == pytest.approx((1 + 2 / 3) / 2)
    assert mean_average_precision({}, truth).mean_at(0.3) == 0.0


def test_what_the_truth_does_not_know_is_named():
    precision = mean_average_precision({"x": [Timed("z", 0, 1)]}, {"v": [Timed("a", 0, 1)]})
    assert (precision.ignored, precision.extra, precision.segments) == (("z",), ("x",), {"a": 1})


# --- files ---

TRUTH = {
    "database": {
        "one": {"subset": "validation", "annotations": [{"label": "a", "segment": [0, 4.5]}]},
        "two": {"subset": "training", "annotations": []},
        "three": {"subset": "training", "annotations": [{"label": "b", "segment": [1, 2]}]},
    }
}
RESULTS = {"results": {"one": [{"label": "a", "score": 0.5, "segment": [0, 4]}], "two": []}}
RECORDS = [
    {"path": "x/one.mp4", "segments": [{"label": "a", "start": 0.0, "end": 4.0, "score": 3.0, "similarity": 0.5}],
     "error": None},
    {"path": "x/two.mp4", "segments": None, "error": {"stage": "open"}},
]


def saved(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def test_truth_is_read_by_subset(tmp_path):
    path = saved(tmp_path / "gt.json", TRUTH)
    assert read_truth(path) == {"one": (Timed("a", 0, 4.5),), "two": (), "three": (Timed("b", 1, 2),)}
    assert read_truth(path, "validation") == {"one": (Timed("a", 0, 4.5),)}
    with pytest.raises(UsageError, match="no annotation of the subset 'testing'"):
        read_truth(path, "testing")


ELAN = """<ANNOTATION_DOCUMENT>
<HEADER><MEDIA_DESCRIPTOR MEDIA_URL="file:///x/{video}.mp4" MIME_TYPE="video/mp4"/></HEADER><TIME_ORDER>
<TIME_SLOT TIME_SLOT_ID="t1" TIME_VALUE="{start}"/><TIME_SLOT TIME_SLOT_ID="t2" TIME_VALUE="{end}"/></TIME_ORDER>
<TIER TIER_ID="actions"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2">
<ANNOTATION_VALUE>{label}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER><TIER TIER_ID="words"/>
</ANNOTATION_DOCUMENT>"""
TABLE = "path,start,end,label\nx/one.mp4,0,4.5,a\nx/two.mp4\nthree.avi,1,2,b\n"


def elan(folder, name, **values):
    folder.mkdir(exist_ok=True)
    return saved(folder / f"{name}.eaf", ELAN.format(**values))


def test_truth_of_every_kind_is_read_alike(tmp_path):
    expected = {"one": (Timed("a", 0, 4.5),), "two": (), "three": (Timed("b", 1, 2),)}
    assert read_truth(saved(tmp_path / "gt.csv", TABLE)) == expected
    assert read_truth(saved(tmp_path / "gt.tsv", TABLE.replace(",", "\t"))) == expected
    one = elan(tmp_path / "eaf", "1", video="one", start=0, end=4500, label="a")
    elan(tmp_path / "eaf", "2", video="three", start=1000, end=2000, label="b")
    with_something = {video: found for video, found in expected.items() if found}
    assert read_truth(one) == {"one": expected["one"]}
    assert read_truth(tmp_path / "eaf") == read_truth(tmp_path / "eaf", tier="actions") == with_something


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("gt.csv", {"subset": "validation"}, r"gt.csv: the subset 'validation' was asked for, and only ActivityNet's"),
        ("eaf", {"subset": "validation"}, "eaf: the subset 'validation' was asked for"),
        ("gt.json", {"tier": "actions"}, r"gt.json: the tier 'actions' was asked for, and only ELAN's .eaf has tiers"),
        ("gt.csv", {"tier": "actions"}, "gt.csv: the tier 'actions' was asked for"),
        ("eaf", {"tier": "words"}, "eaf: has no annotation"),
        ("empty", {}, "empty: has no annotation"),
        ("two.csv", {}, r"two.csv: a/v.mp4 and b/v.mp4 would both be 'v'"),
        ("label.csv", {}, r"label.csv, line 2: its label is 'a', its times None; give both"),
        ("times.csv", {}, r"times.csv, line 2: its label is '', its times \(1.0, 2.0\); give both"),
        ("twice", {}, r"1.eaf and .*2.eaf are both of the video 'one'"),
    ],
)
def test_what_is_no_truth_is_refused(tmp_path, name, asked, message):
    saved(tmp_path / "gt.json", TRUTH)
    saved(tmp_path / "gt.csv", TABLE)
    saved(tmp_path / "two.csv", "path,start,end,label\na/v.mp4,1,2,a\nb/v.mp4,1,2,a\n")
    saved(tmp_path / "label.csv", "path,start,end,label\nv.mp4,,,a\n")
    saved(tmp_path / "times.csv", "path,start,end,label\nv.mp4,1,2,\n")
    (tmp_path / "empty").mkdir()
    elan(tmp_path / "eaf", "1", video="one", start=0, end=4500, label="a")
    for number in (1, 2):
        elan(tmp_path / "twice", str(number), video="one", start=0, end=4500, label="a")
    with pytest.raises(UsageError, match=message):
        read_truth(tmp_path / name, **asked)


@pytest.mark.parametrize(("format", "suffix"), [("csv", "csv"), ("elan", "eaf")])
def test_what_localize_writes_can_be_the_truth(tmp_path, format, suffix):
    segments = (Segment("riding a bike", 0.5, 2.25, 4.0, 0.5, 1.0), Segment("太极拳", 1.0, 7.0, 3.0, 0.5, 5.5))
    target = tmp_path / f"found.{suffix}"
    with open_writer(format, target, overwrite=False, run=RUN) as writer:
        writer.write(VideoRecord("films/a.mp4", segments=segments))
    assert read_truth(target) == {"a": tuple(Timed(one.label, one.start, one.end) for one in segments)}


def test_results_as_a_table_are_what_they_are_as_lines(tmp_path):
    segments = (Segment("- jump", 0.5, 2.25, 4.0, -0.5, 1.0), Segment("太极拳, \"x\"", 1.0, 7.0, 3.0, 0.5, 5.5))
    records = (
        VideoRecord("films/a.mp4", segments=segments),
        VideoRecord("films/nothing.mp4", segments=()),
        VideoRecord.failed(InputError("films/bad.mp4", "open", "no video")),
        VideoRecord("=b.mp4", segments=segments[1:]),
    )
    asked = [VideoRecord("a.mp4", (Prediction("=x", 0.75, 2.5), Prediction("y", 0.25, 1.0))), records[2]]
    for name, written in (("localized", records), ("classified", asked)):
        for format in ("csv", "jsonl"):
            with open_writer(format, tmp_path / f"{name}.{format}", overwrite=False, run=RUN) as writer:
                for record in written:
                    writer.write(record)
        assert read_moments(tmp_path / f"{name}.csv") == read_moments(tmp_path / f"{name}.jsonl") != []
    assert read_results(tmp_path / "localized.csv") == read_results(tmp_path / "localized.jsonl")


def test_any_file_name_comes_back_from_elan(tmp_path):
    names = ("film%41.mp4", "100%25 #1 & <b>.mp4", "a?b;c.mp4", "太极拳 + 1.mp4")
    for number, name in enumerate(names):
        target = tmp_path / f"{number}.eaf"
        with open_writer("elan", target, overwrite=False, run=RUN) as writer:
            writer.write(VideoRecord(f"films/{name}", segments=(Segment("a", 0.5, 2.25, 4.0, 0.5, 1.0),)))
        assert list(read_truth(target)) == [name.removesuffix(".mp4")]


def test_results_of_every_kind_are_read_alike(tmp_path):
    expected = {"one": (Timed("a", 0.0, 4.0, 0.5),), "two": ()}
    assert read_results(saved(tmp_path / "a.json", RESULTS)) == expected
    assert read_results(saved(tmp_path / "b.json", {"schema": "zsar.result/2", "results": RECORDS})) == expected
    assert read_results(saved(tmp_path / "c.jsonl", "".join(json.dumps(one) + "\n" for one in RECORDS))) == expected


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a.json", [1], "its content is no mapping"),
        ("a.json", {"results": [1]}, '"results" is no mapping'),
        ("a.json", {"results": {"v": 3}}, "v: 3 is no list of segments"),
        ("a.json", {"results": {"v": [{"label": "a", "segment": [1]}]}}, "needs a label, a start and an end"),
        ("a.json", {"results": {"v": [{"label": "a", "segment": [3, 1]}]}}, "'a' ends at 1 s, before its start at 3 s"),
        ("a.json", {"results": {"v": [{"segment": [0, 1]}]}}, "needs a label, a start and an end"),
        ("a.jsonl", "{]\n", "line 1: is not readable JSON"),
        ("a.csv", "path,start\n", r"a\.csv: has no column label and no column end"),
        ("a.csv", "path,rank,label,start,end\nv.mp4,1,a,,\n", "zsar localize finds them"),
        ("a.csv", "path,label,start,end\nv.mp4,a,1,x\n", r"a\.csv, line 2: its end is 'x', which is no number"),
        ("a.txt", "a", r"results are read as one of \.json, .* not \.txt; -o FILE\.jsonl writes them"),
        ("a.jsonl", json.dumps({"path": "v.mp4", "segments": None, "error": None}), "zsar localize finds them"),
        ("a.jsonl", "\n".join(json.dumps({"path": f"{p}/v.mp4", "segments": []}) for p in "ab"), "both be 'v'"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, name, value, message):
    with pytest.raises(UsageError, match=message):
        read_results(saved(tmp_path / name, value))


def test_the_command(zsar_here: Callable[..., Finished], tmp_path):
    truth, results = saved(tmp_path / "gt.json", TRUTH), saved(tmp_path / "r.json", RESULTS)
    target = tmp_path / "out.json"
    run = zsar_here("evaluate-localization", results, "--truth", truth, "-o", target, code=0)
    assert run.stdout.startswith("2 classes, 2 segments in 3 videos\n")
    assert f"  mAP at tIoU {'0.50':18}{'50.0%':>7}\n" in run.stdout and f"{'0.95':18}{'0.0%':>7}\n" in run.stdout
    assert run.stderr == "warning: videos without results count as missed: three\n"
    document = json.loads(target.read_text(encoding="utf-8"))
    # 4 / 4.5 is 0.89: right up to 0.85.
    assert document["map"] == pytest.approx([0.5 * (threshold < 0.88) for threshold in THRESHOLDS])
    assert document["mean_activitynet"] == pytest.approx(0.4) and document["mean_thumos"] == pytest.approx(0.5)
    assert [one["label"] for one in document["per_class"]] == ["a", "b"]
    film = elan(tmp_path, "one", video="one", start=0, end=4500, label="a")
    run = zsar_here("evaluate-localization", results, "--truth", film, "--tier", "actions", code=0)
    assert run.stdout.startswith("1 classes, 1 segments in 1 videos\n")
    assert "no annotation" in zsar_here(
        "evaluate-localization", results, "--truth", truth, "--subset", "x", code=2
    ).prose  # fmt: skip


def test_the_command_measures_only_what_both_have(zsar_here: Callable[..., Finished], tmp_path):
    found = {"results": {**RESULTS["results"], "four": [{"label": "a", "segment": [0, 9], "score": 9.0}]}}
    truth, results = saved(tmp_path / "gt.json", TRUTH), saved(tmp_path / "r.json", found)
    arguments = ("evaluate-localization", results, "--truth", truth)
    run = zsar_here(*arguments, code=0)
    assert "count as wrong: four" in run.stderr and "count as missed: three" in run.stderr
    assert f"  mAP at tIoU {'0.50':18}{'25.0%':>7}\n" in run.stdout
    run = zsar_here(*arguments, "--common", "-o", tmp_path / "out.json", code=0)
    assert run.stderr == "left out, in results or truth alone: three, four\n"
    document = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert document["left_out_videos"] == ["three", "four"] and document["extra_videos"] == []
    assert document["videos"] == 2
    others = saved(tmp_path / "o.json", {"results": {"four": []}})
    run = zsar_here("evaluate-localization", others, "--truth", truth, "--common", code=2)
    assert "has no video in which" in run.prose

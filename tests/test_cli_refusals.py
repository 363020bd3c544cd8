"""What a command refuses before it loads anything: torch alone takes seconds, a folder of videos hours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import videos
from cli_runner import Runner

# Every command line in one process in which torch cannot be imported; prints exit code and standard error of each.
WITHOUT_TORCH = """
import contextlib, io, json, sys
sys.modules["torch"] = None
from zsar_cli.__main__ import main
results = []
for arguments in json.load(sys.stdin):
    sys.argv = ["zsar", *arguments]
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            main()
        except SystemExit as end:
            results.append((end.code, said.getvalue()))
print(json.dumps(results))
"""
JOB = ["a.mp4", "-l", "labels.txt"]
TWICE = ["--model", "movinet", "--model", "movinet-a0-stream"]
BOTH = ["--model", "builtin", "--model", "rest-exercises"]
REFUSED: list[tuple[list[str], str]] = [
    (["classify", *JOB, "--bank", "x"], "--bank x: unknown; allowed: extend, replace"),
    (["classify", *JOB, "--bank", "replace"], "--bank replace needs --prototypes: "),
    (["classify", *JOB, "--device", "x"], "--device x: unknown; allowed: auto, cpu, cuda, cuda:N, mps"),
    (["classify", *JOB, "--precision", "x"], "--precision x: unknown; allowed: auto, fp32, bf16, fp16"),
    (["classify", *JOB, "--runtime", "x"], "--runtime x: unknown; allowed: auto, torch, openvino"),
    (["classify", *JOB, "--model", "builtin", "--model", "bultin"], "--model bultin: no such name, folder, .tflite"),
    (["classify", *JOB, *TWICE], "--model movinet-a0-stream, movinet-a0-stream: each model can be given once"),
    (["classify", *JOB, "--model", "some.tflite"], "--model some.tflite: a .tflite file does not name its classes"),
    (["classify", *JOB, *BOTH, "--seen-labels", "labels.txt"], "--seen-labels belongs to one model given as a file"),
    (["classify", *JOB, "--seen-labels", "none.txt"], "none.txt: no such label file"),
    (["classify", *JOB, "--text-encoder", "labs"], "--text-encoder labs: no such name, folder or hub id (org/name); "),
    (["classify", *JOB, "--model", "labse"], "--model labse: is a sentence encoder, which sees no video; give it to"),
    (["classify", *JOB, "--weights", "1,2"], "--weights needs several models"),
    (["classify", *JOB, *BOTH, "--weights", "1,x"], "--weights 1,x: write numbers with commas between them"),
    (["classify", *JOB, *BOTH, "--weights", "1,-1"], "--weights 1.0,-1.0: must be 0 or more, and not all 0"),
    (["classify", *JOB, *BOTH, "--weights", "1,2,3"], "--weights: 2 models need 2 weights, not 3"),
    (["classify", *JOB, "--timeout", "0"], "a time limit of 0 s is not possible: give seconds above 0"),
    (["classify", *JOB, "--decoder", "x"], "--decoder x: unknown; allowed: pyav"),
    (["localize", *JOB, "--onset", "-1"], "onset is -1.0; it must be greater than 0"),
    (["localize", *JOB, "--windows", "2", "--stride", "1"], "stride is 1.0, but windows have no length"),
    (["explain", "-l", "labels.txt", *BOTH],
     "this is done with one model at a time: run it with --model builtin, then with --model rest-exercises"),
    (["evaluate", "data", "--protocol", "half"], "--protocol half needs at least 4 classes, the data set has 2"),
    (["evaluate", "data", "--seen", "none.txt"], "none.txt: no such label file"),
    (["evaluate", "data", "--seen", "labels.txt"], "generalised zero-shot needs videos of seen and of unseen classes"),
    (["evaluate", "data", "--device", "x"], "--device x: unknown"),
    (["evaluate-localization", "r.jsonl", "--truth", "t.csv", "-o", "m.txt"], "m.txt: the measurement is written as"),
    (["export-prototypes", "-o", "b.safetensors", "--model", "x"], "--model x: no such name"),
    (["cut", "none.jsonl", "-o", "cuts", "--timeout", "0"], "a time limit of 0 s is not possible"),
    (["models", "add", "mine", "some.tflite"], "give --seen-labels FILE: a .tflite file does not name its classes"),
]  # fmt: skip


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit code and standard error of every command line."""
    folder = tmp_path_factory.mktemp("refusals")
    for name in ("archery", "swimming"):
        (folder / "data" / name).mkdir(parents=True)
        videos.write_video(folder / "data" / name / "a.mp4", frames=1)
    (folder / "labels.txt").write_text("archery\nswimming\n")
    runner = Runner(folder / "cache", variables={"ZSAR_MODELS_DIR": str(folder / "models")})
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], input=json.dumps([arguments for arguments, _ in REFUSED]),
        cwd=folder, env=runner.environment(), capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    answers = json.loads(found.stdout)
    return {" ".join(arguments): answer for (arguments, _), answer in zip(REFUSED, answers, strict=True)}


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[" ".join(arguments) for arguments, _ in REFUSED])
def test_refused_without_torch(results: dict[str, tuple[int, str]], arguments: list[str], message: str) -> None:
    code, said = results[" ".join(arguments)]
    assert said.startswith(f"error: {message}")
    assert code == 2


def test_a_model_that_is_not_here_is_named_before_another_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("archery\nswimming\n")
    both = ["--model", "builtin", "--model", "clip-vit-b16"]
    lines = [["classify", *JOB, *both], ["classify", *JOB, "--prototypes", "x"]]
    environment = {**Runner(tmp_path / "cache").environment(), "HF_HOME": str(tmp_path / "hub")}
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], input=json.dumps(lines), cwd=tmp_path, env=environment,
        capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    absent = "error: --model clip-vit-b16: not on this machine; run: zsar models pull clip-vit-b16\n"
    assert json.loads(found.stdout) == [[1, absent], [1, "error: x: no such prototype file\n"]]

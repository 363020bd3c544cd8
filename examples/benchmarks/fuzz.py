"""Damaged and hostile files through the real command line: does each get its record, and is nothing else touched?

    python examples/benchmarks/fuzz.py my_clips/          1000 mutations of the clips there, and the bombs
    python examples/benchmarks/fuzz.py my_clips/ --count 100 --decoder decord

Options it does not know are those of `zsar classify`.

Mutations are seeded: bits flipped, ends cut off, blocks swapped, ranges zeroed, headers edited, suffixes exchanged.
The bombs (see bombs.py) claim huge pictures, are programs, or name other files and addresses. Linux only: memory is
read from /proc, and strace, where it is installed, tells which programs were started, which files opened and which
addresses asked. Exit code 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bombs import SECRET, make_bombs

LABELS = ("archery", "riding a bike", "swimming")
URL = "http://127.0.0.1:9"  # the port "discard": whoever asks it is seen by strace
MOST_MEMORY = 1e9  # bytes of resident memory of a decode process
COMMAND, DECODE = "command (torch and the model)", "decode process"
# Reasons that are an exception's name instead of a sentence.
UNEXPECTED = re.compile(r"[A-Z]\w*(Error|Exception|Warning|Exit)\b|fault of zsar")
SUFFIXES = (".mp4", ".mkv", ".avi", ".ts", ".mpg", ".flv", ".wmv", ".h264", ".gif", ".png", ".webp", ".jpg", ".mxf", "")
Mutation = Callable[[bytearray, random.Random], None]


# --- mutations ---


def flip_bits(content: bytearray, rng: random.Random) -> None:
    """One bit in every few thousand bytes."""
    for _ in range(max(1, len(content) // rng.choice((200, 2000, 20000)))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def truncate(content: bytearray, rng: random.Random) -> None:
    """Keep a part from the start."""
    del content[max(1, int(len(content) * rng.random())) :]


def swap_blocks(content: bytearray, rng: random.Random) -> None:
    """Exchange two parts of the same length."""
    length = rng.randrange(1, max(2, len(content) // 4))
    one, two = (rng.randrange(max(1, len(content) - length)) for _ in range(2))
    content[one : one + length], content[two : two + length] = (
        content[two : two + length],
        content[one : one + length],
    )


def zero_range(content: bytearray, rng: random.Random) -> None:
    """Write zeros over a part."""
    start = rng.randrange(len(content))
    length = min(len(content) - start, rng.randrange(1, max(2, len(content) // 4)))
    content[start : start + length] = bytes(length)


def edit_header(content: bytearray, rng: random.Random) -> None:
    """Set a few fields, near one of the ends or behind a name of four letters, to values that headers do not expect."""
    names = [match.start() + 4 for match in re.finditer(rb"[a-z]{4}", bytes(content[:4096] + content[-4096:]))]
    for _ in range(rng.randrange(1, 6)):
        place = rng.choice(names) if names and rng.random() < 0.7 else rng.randrange(min(512, len(content)))
        if place >= 4096:
            place += max(0, len(content) - 8192)
        value = rng.choice((0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, rng.getrandbits(32)))
        field_size = rng.choice((1, 2, 4))
        data = (value & (256**field_size - 1)).to_bytes(field_size, rng.choice(("big", "little")))
        content[place : place + field_size] = data
    if not content:
        content.append(0)


MUTATIONS: tuple[Mutation, ...] = (flip_bits, truncate, swap_blocks, zero_range, edit_header)


def write_mutations(clips: list[Path], folder: Path, count: int, seed: int) -> Iterator[Path]:
    """Write `count` damaged copies, each a function of the seed and its number alone."""
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        clip = rng.choice(clips)
        content = bytearray(clip.read_bytes())
        for mutation in rng.sample(MUTATIONS, rng.choice((1, 1, 2, 3))):
            mutation(content, rng)
        suffix = rng.choice(SUFFIXES) if rng.random() < 0.15 else clip.suffix
        path = folder / f"{number:04}{suffix}"
        path.write_bytes(content)
        yield path


# --- one run of the command line, watched ---


@dataclass
class Watch:
    """Peak resident bytes of each process of a tree, by what it is."""

    root: int
    peaks: dict[tuple[str, int], int] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Look every tenth of a second: the kernel keeps the peaks of what still lives."""
        while not self.done.wait(0.1):
            for pid in self._tree():
                try:
                    status = Path(f"/proc/{pid}/status").read_text()
                    command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
                except OSError:
                    continue
                peak = re.search(r"VmHWM:\s+(\d+) kB", status)
                if peak and "strace" not in command[:20]:
                    kind = DECODE if "zsar_cli.video" in command else COMMAND
                    self.peaks[kind, pid] = int(peak[1]) * 1024

    def _tree(self) -> list[int]:
        parents: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                except (OSError, IndexError):
                    continue
        tree = {self.root}
        while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
            tree |= more
        return sorted(tree)

    def peak(self, kind: str) -> int:
        """Bytes; 0 where no such process was seen."""
        return max((size for (which, _), size in self.peaks.items() if which == kind), default=0)


@dataclass
class Outcome:
    """What came of a run."""

    records: list[dict[str, object]]
    code: int | None
    errors: str
    watch: Watch
    trace: list[str] | None


def classify(inputs: list[Path], work: Path, options: list[str], limit: float) -> Outcome:
    """Run `zsar classify` over the inputs; `code` is None where it did not end within `limit` seconds."""
    names, results, log = work / "inputs.txt", work / "results.jsonl", work / "trace.txt"
    names.write_text("".join(f"{path}\n" for path in inputs))
    strace = shutil.which("strace")
    calls = "trace=execve,execveat,connect,open,openat,openat2"
    before = [strace, "-f", "-qq", "-s", "4096", "--seccomp-bpf", "-e", calls, "-o", str(log)] if strace else []
    labels = [word for name in LABELS for word in ("--label", name)]
    command = [*before, sys.executable, "-m", "zsar_cli", "classify", f"@{names}", *labels]
    command += ["-f", "jsonl", "-o", str(results), "--overwrite", "--no-cache", "--quiet", *options]
    with open(work / "errors.txt", "w") as errors:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": errors, "stderr": errors}
        process = subprocess.Popen(command, start_new_session=True, **pipes)
        watch = Watch(process.pid)
        watcher = threading.Thread(target=watch.run)
        watcher.start()
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # strace, and what it watches
            code = None
        finally:
            watch.done.set()
            watcher.join()
    lines = results.read_text().splitlines() if results.exists() else []
    trace = log.read_text(errors="replace").splitlines() if strace else None
    return Outcome([json.loads(line) for line in lines], code, (work / "errors.txt").read_text(), watch, trace)


# --- the report ---


def judge(outcome: Outcome, inputs: list[Path]) -> dict[str, list[str]]:
    """What is wrong, under the promise it breaks; every list should be empty."""
    answered = Counter(str(record["path"]) for record in outcome.records)
    reasons = [(record["path"], error["reason"]) for record in outcome.records if (error := record["error"])]
    sizes = [size for (kind, _), size in outcome.watch.peaks.items() if kind == DECODE]
    large = [f"{size / 1e6:.0f} MB" for size in sizes if size > MOST_MEMORY]
    wrong = {
        "one record for each": [str(path) for path in inputs if answered[str(path)] != 1],
        "none hangs": ["the command did not end"] if outcome.code is None else [],
        "every failure has its reason": [f"{path}: {why}" for path, why in reasons if UNEXPECTED.search(why)],
        "no fault of zsar, no traceback": re.findall(r".*(?:fault of zsar|Traceback).*", outcome.errors),
        "memory of every decode process below 1 GB": large,
    }
    if outcome.trace is not None:
        started = [line for line in outcome.trace if "execve" in line and sys.executable not in line]
        wrong["no program started"] = [line for line in started if "resumed" not in line]
        wrong["no other file opened"] = [line for line in outcome.trace if "open" in line and SECRET in line]
        wrong["no network call"] = [line for line in outcome.trace if re.search(r"connect\(.*AF_INET", line)]
    return wrong


def print_report(outcome: Outcome, wrong: dict[str, list[str]]) -> None:
    """Counts, peaks, and each promise with what breaks it."""
    stages = Counter(error["stage"] if (error := record["error"]) else "read" for record in outcome.records)
    partial = sum(1 for record in outcome.records if record["partial"])
    print(f"records: {len(outcome.records)}: {dict(sorted(stages.items()))}, {partial} read in part")
    for kind in (COMMAND, DECODE):
        print(f"peak memory of the {kind}: {outcome.watch.peak(kind) / 1e6:.0f} MB")
    if outcome.trace is None:
        print("strace is not installed: programs, files and network were not watched")
    for promise, cases in wrong.items():
        print(f"{promise}: {'yes' if not cases else f'NO, {len(cases)} times'}")
        for case in cases[:10]:
            print(f"    {case[:300]}")


def main() -> int:
    """Make the files, run, report; 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="a folder of video files, searched to its depths")
    parser.add_argument("--count", type=int, default=1000, help="mutations (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations (default 0)")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for each file (default 30)")
    parser.add_argument("--keep", type=Path, help="write the files and results here and leave them")
    arguments, options = parser.parse_known_args()
    clips = sorted(path for path in arguments.clips.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.keep or Path(temporary)).resolve()
        for name in ("bombs", "mutations"):
            (work / name).mkdir(parents=True, exist_ok=True)
        inputs = make_bombs(work / "bombs", URL)
        inputs += write_mutations(clips, work / "mutations", arguments.count, arguments.seed)
        print(f"{len(clips)} clips, {arguments.count} mutations, {len(inputs) - arguments.count} bombs", flush=True)
        options += ["--timeout", str(arguments.timeout)]
        outcome = classify(inputs, work, options, limit=600 + len(inputs) * arguments.timeout)
        wrong = judge(outcome, inputs)
        print_report(outcome, wrong)
    return int(any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main())

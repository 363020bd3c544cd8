"""Rewrite the model.yaml of bundles of the format zsar.bundle/1 in the present one; the other files stay as they are.

    python examples/maintenance/bundle.py FOLDER... [--specialist 0.75]

A bundle of the old format was a specialist at 0.75 without saying so; now its trainer says whether it is one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from zsar_cli.errors import ModelError
from zsar_cli.plain import read_yaml
from zsar_cli.weights.bundle import FORMAT, MANIFEST, check_bundle


def rewrite(folder: Path, specialist: float | None) -> str:
    """Rewrite one; returns its fingerprint, which is computed now and no longer stated."""
    file = folder / MANIFEST
    content = read_yaml(file, ModelError)
    if not isinstance(content, dict) or content.get("format") != "zsar.bundle/1":
        raise ModelError(f"{file} is not of the format zsar.bundle/1")
    content["format"] = FORMAT
    content["settings"]["specialist"] = specialist
    sampling = content["settings"]["clip"]["sampling"]
    content["settings"]["clip"]["sampling"] = {
        "windows": sampling["clips"], "frames": sampling["frames"], "window": None, "stride": None,
        "frame_step": sampling["stride"], "exact": sampling["exact"], "frame_rate": sampling["frame_rate"],
    }  # fmt: skip
    del content["fingerprint"]
    file.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100), encoding="utf-8")
    return str(check_bundle(folder)["fingerprint"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--specialist", type=float)
    given = parser.parse_args()
    for folder in given.folders:
        print(folder, rewrite(folder, given.specialist))

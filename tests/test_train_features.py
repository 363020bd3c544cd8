"""Features of training videos: exact, computed once, kept whole, and failures as values."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_data import write_dataset

from zsar_cli.data.dataset import Item, read_dataset
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.errors import OutputError
from zsar_cli.networks.backbones import Backbone, BackboneConfig
from zsar_cli.store.features import FeatureCache
from zsar_cli.training.arrays import allocate
from zsar_cli.training.features import extract, pack
from zsar_cli.training.settings import ClipConfig
from zsar_cli.video.reader import read_video

CLIP = ClipConfig(frames=2)
DECODING = EmbedSettings(workers=1)


class Eye(nn.Module):
    """Brightness of left and right halves as a feature map: sees mirrors and crops. Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.calls = nn.Parameter(torch.ones(1)), 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        halves = images.mean(dim=1, keepdim=True).unflatten(3, (2, 32)).mean(dim=(2, 4))
        return torch.cat([halves, -halves], dim=1)[:, :, None] * self.weight


def backbone(fingerprint: str = "eye-1") -> tuple[Backbone, Eye]:
    eye = Eye()
    return Backbone(BackboneConfig("efficientnet-lite0", size=64, cells=2), eye, fingerprint), eye


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    data = read_dataset(write_dataset(tmp_path_factory.mktemp("features") / "data", per_class=1))
    return list(data.items)


def test_features_are_those_of_each_view_of_each_video(items: list[Item], tmp_path: Path) -> None:
    net, _ = backbone()
    cache = FeatureCache(tmp_path)
    count: list[int] = []
    videos, failures = extract(items, net, CLIP, DECODING, cache, lambda: count.append(1))
    assert failures == [] and len(count) == len(videos) == 4
    packed = pack(videos, cache, tmp_path / "features.npy")
    assert packed.shape == (4, 4, 2, 2, 2, 2) and packed.dtype == torch.float16
    for row, item in enumerate(items):
        for start, geometry in zip((0, 2), CLIP.geometries(64), strict=True):
            frames = torch.from_numpy(read_video(item.path, CLIP.sampling, geometry).frames)
            with torch.inference_mode():
                torch.testing.assert_close(packed[row, start].float(), net(frames)[0], rtol=1e-2, atol=1e-3)
                torch.testing.assert_close(packed[row, start + 1].float(), net(frames.flip(3))[0], rtol=1e-2, atol=1e-3)
    assert np.load(tmp_path / "features.npy", mmap_mode="r").shape == packed.shape  # it lies on disk


def test_what_is_known_is_not_computed_again(items: list[Item], tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    net, eye = backbone()
    first, _ = extract(items[:2], net, CLIP, DECODING, cache)
    calls = eye.calls
    assert calls == 2 * 2 * 2  # videos, geometries, mirror images
    more, _ = extract(items[:3], net, CLIP, DECODING, cache)
    assert eye.calls == calls * 3 // 2 and more[:2] == first
    for change in (
        {"clip": replace(CLIP, frames=3)},
        {"clip": replace(CLIP, flip=False)},
        {"net": backbone("eye-2")[0]},
    ):
        given: dict[str, Any] = {"net": net, "clip": CLIP, **change}
        other, _ = extract(items[:1], given["net"], given["clip"], DECODING, cache)
        assert set(other[0].keys).isdisjoint(first[0].keys)


def test_a_damaged_entry_is_computed_again_and_a_lost_one_is_named(items: list[Item], tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    net, eye = backbone()
    videos, _ = extract(items[:1], net, CLIP, DECODING, cache)
    expected = pack(videos, cache, tmp_path / "a.npy").clone()
    file = cache.folder / f"{videos[0].keys[1]}.npy"
    file.write_bytes(file.read_bytes()[:-1])
    calls = eye.calls
    extract(items[:1], net, CLIP, DECODING, cache)
    assert eye.calls == calls + 2
    assert torch.equal(pack(videos, cache, tmp_path / "b.npy"), expected)
    assert cache.info()[0] == 2 and cache.clear() > 0 and cache.info() == (0, 0)
    with pytest.raises(OutputError, match="were removed; run again"):
        pack(videos, cache, tmp_path / "c.npy")


@pytest.mark.skipif(not hasattr(os.stat_result, "st_blocks"), reason="the system does not tell")
@pytest.mark.parametrize("can", [True, False])
def test_the_space_of_an_array_is_taken_when_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can: bool
) -> None:
    if not can:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    array = allocate(tmp_path / "a.npy", np.float16, (3, 1000, 1000))
    assert os.stat(tmp_path / "a.npy").st_blocks * 512 >= array.nbytes == 6_000_000
    array[2, 999, 999] = 1.5
    array.flush()
    again = np.load(tmp_path / "a.npy")
    assert again.shape == (3, 1000, 1000) and again.dtype == np.float16 and again.sum() == 1.5


def test_failures_are_values_and_a_video_may_have_two_labels(items: list[Item], tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    bad = [Item(str(tmp_path / name), "red", name) for name in ("bad.mp4", "absent.mp4")]
    twice = replace(items[0], label="another")
    videos, failures = extract([*bad, items[0], twice], backbone()[0], CLIP, DECODING, FeatureCache(tmp_path))
    assert [video.item for video in videos] == [items[0], twice]
    assert [Path(failure.path).name for failure in failures] == ["bad.mp4", "absent.mp4"]


def test_parts_of_a_video_have_features_of_their_own(items: list[Item], tmp_path: Path) -> None:
    net, _ = backbone()
    cache = FeatureCache(tmp_path)
    parts = [replace(items[0], start=start, end=start + 0.04) for start in (0.0, 0.08)]
    behind = replace(items[0], start=70.0, end=80.0)
    videos, failures = extract([items[0], *parts, behind], net, CLIP, DECODING, cache)
    assert [video.item for video in videos] == [items[0], *parts]
    assert ["before the part from 70 to 80 s" in failure.reason for failure in failures] == [True]
    assert len({key for video in videos for key in video.keys}) == 3 * 2 and len({one.content for one in videos}) == 3
    packed = pack(videos, cache, tmp_path / "features.npy")
    for row, part in enumerate(parts, start=1):
        within, geometry = part.source.within, CLIP.geometries(64)[0]
        frames = torch.from_numpy(read_video(part.path, CLIP.sampling, geometry, within=within).frames)
        with torch.inference_mode():
            torch.testing.assert_close(packed[row, 0].float(), net(frames)[0], rtol=1e-2, atol=1e-3)


def test_every_clip_of_a_video_is_a_view(items: list[Item], tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    clip = ClipConfig(frames=1, clips=3, view="centre", flip=False)
    videos, _ = extract(items[:1], backbone()[0], clip, DECODING, cache)
    packed = pack(videos, cache, tmp_path / "features.npy")
    assert packed.shape == (1, 3, 1, 2, 2, 2)
    assert not torch.equal(packed[0, 0], packed[0, 2])

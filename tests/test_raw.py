"""Training on videos themselves: gradients reach the whole backbone, views are what they say, bad files are passed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import CLASSES, CONFIG, SCORING, SHAPE, make_texts
from torch import Tensor
from training_data import write_dataset

from zsar_cli.data.dataset import Item, read_dataset
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.errors import ConfigError, InputError
from zsar_cli.networks.backbones import BackboneConfig, open_backbone
from zsar_cli.networks.rest import RestHead, RestModel
from zsar_cli.training.config import RawConfig
from zsar_cli.training.loop import train
from zsar_cli.training.plan import NUMBERS
from zsar_cli.training.raw import RawClips, Video, augment, look_at, piece
from zsar_cli.training.settings import ClipConfig
from zsar_cli.training.start import Networks
from zsar_cli.training.state import Learner, parameter_groups
from zsar_cli.video.types import Excerpt

BACKBONE = BackboneConfig("resnet18", weights="random", size=32, cells=1)
STILL = RawConfig(crop=1.0, colour=0.0, jitter=0.0)
TRAIN = replace(CONFIG, steps=3, batch=6, match_pairs=2, mixup=0.25, ema=0.0)


class Shades:
    """A `Source` of frames in memory: a class is a shade of red."""

    def __init__(self) -> None:
        self.targets = torch.arange(CLASSES).repeat_interleave(2)
        generator = torch.Generator().manual_seed(1)
        self.frames = torch.randint(0, 256, (12, 2, 36, 36, 3), dtype=torch.uint8, generator=generator)
        self.frames[..., 0] = 40 * self.targets[:, None, None, None].to(torch.uint8)

    def inputs(self, asked: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
        for rows, _ in asked:
            yield self.frames[rows]

    def shown(self, inputs: Tensor, random: Tensor) -> Tensor:
        return augment(inputs, 32, STILL, True, random)

    def plain(self, rows: Tensor) -> Iterator[Tensor]:
        for row in rows.tolist():
            yield self.frames[row, None, None, :, 2:34, 2:34]

    def only(self, rows: Tensor, targets: Tensor) -> Shades:
        some = Shades()
        some.frames, some.targets = self.frames[rows], targets
        return some


def networks(raw: RawConfig = STILL, freeze_norm: bool | None = None) -> Networks:
    torch.manual_seed(1)
    backbone = open_backbone(replace(BACKBONE, freeze_norm=freeze_norm), torch.device("cpu"), torch.float32)
    return Networks(replace(SHAPE, features=512, dropout=0.0), backbone, raw)


def run(
    raw: RawConfig = STILL, config: Any = TRAIN, freeze_norm: bool | None = None
) -> tuple[Any, list[dict[str, float]]]:
    history: list[dict[str, float]] = []
    keep = lambda record, state: history.append(dict(record))  # noqa: E731
    return train(Shades(), make_texts(), networks(raw, freeze_norm), config, SCORING, keep), history


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("parts", [1, 2])
def test_gradients_reach_every_parameter(recompute: bool, parts: int) -> None:
    config = replace(TRAIN, steps=1, accumulation=parts, mixup=0.0)
    learner = run(replace(STILL, recompute=recompute), config)[0].state.learner
    for name, parameter in learner.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_it_learns_what_the_frames_show() -> None:
    config = replace(TRAIN, steps=14, batch=12, learning_rate=1e-3, mixup=0.0)
    result, history = run(replace(STILL, backbone_rate=0.3), config)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"] and not result.state.averaged.backbone.training


def test_parts_of_a_batch_train_as_the_whole_of_it() -> None:
    first, then = (run(STILL, replace(TRAIN, accumulation=parts), True)[1] for parts in (1, 3))
    assert [one["loss"] for one in then] == pytest.approx([one["loss"] for one in first], rel=1e-3)
    assert then[0]["loss"] == pytest.approx(first[0]["loss"], rel=1e-5)


def test_a_frozen_backbone_and_frozen_statistics_stay_as_they_are() -> None:
    start = networks().backbone
    assert start is not None
    frozen = run(replace(STILL, backbone_rate=0.0))[0].state.learner.backbone
    assert all(torch.equal(value, start.state_dict()[name]) for name, value in frozen.state_dict().items())
    for learns in (True, False):
        tuned = run(freeze_norm=not learns)[0].state.learner.backbone
        same = [torch.equal(value, start.state_dict()[name]) for name, value in tuned.state_dict().items()
                if name.endswith(("running_mean", "running_var"))]  # fmt: skip
        assert same and all(same) != learns
        moved = [name for name, value in tuned.named_parameters() if not torch.equal(value, start.state_dict()[name])]
        assert len(moved) == len(list(start.parameters()))


def test_rates_fall_towards_the_input_and_every_parameter_has_one() -> None:
    made = networks(RawConfig(backbone_rate=0.5, layer_decay=0.1))
    learner = Learner(RestModel(made.shape), RestHead(torch.randn(CLASSES, 12)), made.backbone, made.raw)
    groups = parameter_groups(learner, replace(TRAIN, prior_rate=0.01))
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(listed) == sorted(id(parameter) for parameter in learner.parameters())
    share = {id(parameter): group["share"] for group in groups for parameter in group["params"]}
    assert made.backbone is not None
    found = [share[id(next(stage.parameters()))] for stage in made.backbone.stages()]
    assert found == pytest.approx([0.5 * 0.1**power for power in (4, 3, 2, 1, 0)])
    assert share[id(learner.model.video_in.weight)] == 1.0 and share[id(learner.head.prototypes)] == 0.01


def picture() -> torch.Tensor:
    ramp = torch.linspace(0, 200, 36)
    image = torch.stack([ramp.expand(36, 36), ramp[:, None].expand(36, 36), torch.full((36, 36), 90.0)], dim=-1)
    return image.to(torch.uint8).expand(64, 2, 36, 36, 3)  # red grows to the right, green downwards


def seen(raw: RawConfig, flip: bool = False) -> torch.Tensor:
    return augment(picture(), 36, raw, flip, torch.rand(64, NUMBERS, generator=torch.Generator().manual_seed(0)))


def test_views_without_changes_are_the_frames() -> None:
    torch.testing.assert_close(seen(STILL), picture().float(), rtol=0, atol=1e-2)


def test_half_of_the_views_are_mirrored_and_none_upside_down() -> None:
    views = seen(STILL, flip=True)
    slope = views[..., 0].diff(dim=3).mean(dim=(1, 2, 3))
    assert 16 < int((slope < 0).sum()) < 48 and (views[..., 1].diff(dim=2).mean(dim=(1, 2, 3)) > 0).all()


def test_crops_lie_inside_and_keep_what_was_asked_for() -> None:
    views = seen(replace(STILL, crop=0.5))
    width = views[..., 0].amax(dim=(1, 2, 3)) - views[..., 0].amin(dim=(1, 2, 3))
    assert 90 < width.min() < width.max() <= 200  # at least half of the ramp of 200
    assert views[..., 0].amin(dim=(1, 2, 3)).std() > 5
    assert torch.equal(views[:, 0], views[:, 1])  # both frames of a clip alike


def test_colours_change_within_bounds_for_the_whole_clip() -> None:
    views = seen(replace(STILL, colour=0.2))
    change = views.mean(dim=(1, 2, 3, 4)) / picture().float().mean(dim=(1, 2, 3, 4))
    assert 0.8 <= change.min() < 0.9 and 1.1 < change.max() < 1.22  # what is cut off at 0 adds a little
    assert views.min() >= 0 and views.max() <= 255


def test_pieces_lie_in_the_video_and_last_as_long_as_was_asked_for() -> None:
    video = Video(Item("a.mp4", "x", "a.mp4"), "digest", 10.0)
    part = replace(video, item=replace(video.item, start=4.0, end=20.0))
    clip, raw = ClipConfig(frames=4, stride=0.5), RawConfig(jitter=0.5)
    numbers = [(place / 7, length / 3) for place in range(8) for length in range(4)]
    for one, first in ((video, 0.0), (part, 4.0)):
        found = [piece(one, clip, raw, *both) for both in numbers]
        spans = [found_one.within for found_one in found if isinstance(found_one, Excerpt)]
        assert len(spans) == len(numbers) and all(first <= span.start and span.end <= 10.0 for span in spans)
        assert {round(span.end - span.start, 6) for span in spans} == {1.0, 1.666667, 2.333333, 3.0}
        assert min(span.start for span in spans) == first and max(span.end for span in spans) == 10.0
    (whole,) = {piece(video, replace(clip, stride=99.0), raw, *both) for both in numbers}
    assert isinstance(whole, Excerpt) and (whole.within.start, whole.within.end) == (0.0, 10.0)
    assert piece(replace(video, seconds=None), clip, raw, 0.5, 0.5) == "a.mp4"


def clips_of(folder: Path, workers: int = 1, *more: Item) -> RawClips:
    items = [*read_dataset(folder).items, *more]
    videos, failures = look_at(items, EmbedSettings(workers=workers))
    assert not failures
    kept = [video for video in videos if video is not None]
    targets = torch.arange(4).repeat_interleave(2)
    return RawClips(kept, targets, 32, ClipConfig(frames=2), RawConfig(), EmbedSettings(workers=workers))


def test_any_number_of_workers_gives_the_same_clips_and_a_file_that_fails_later_is_passed(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data")
    asked = [(torch.tensor([3, 0, 7]), torch.rand(3, NUMBERS)), (torch.tensor([5]), torch.rand(1, NUMBERS))]
    found = []
    for workers in (1, 3):
        clips = clips_of(data, workers)
        found.append(list(clips.inputs(asked)))
        assert [tuple(part.shape) for part in found[-1]] == [(3, 2, 37, 37, 3), (1, 2, 37, 37, 3)]
        (plain,) = clips.plain(torch.tensor([3, 0]))
        assert plain.shape == (2, 2, 2, 32, 32, 3) and torch.equal(plain[:, 1], plain[:, 0].flip(3))
        clips.close()
    assert all(torch.equal(*both) for both in zip(*found, strict=True))
    clips = clips_of(data)
    gone = Path(clips.videos[1].item.path)  # of the class of row 0
    gone.unlink()
    asked = [(torch.tensor([1, 0]), asked[0][1][[0, 0]])]
    (both,) = clips.inputs(asked)
    assert torch.equal(both[0], both[1])
    clips.only(torch.tensor([0, 1]), torch.tensor([0, 1]))
    alone = clips.only(torch.tensor([1, 2]), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="find failed"):
        list(alone.inputs([(torch.tensor([0]), asked[0][1][:1])]))
    clips.close()


@pytest.mark.parametrize("change", [{"backbone_rate": -1.0}, {"crop": 0.0}, {"layer_decay": 1.5}, {"jitter": 1.0}])
def test_a_value_that_cannot_work_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(STILL, **change)  # type: ignore[arg-type]

"""The cross-modal Transformer: shapes, shared weights, gradients, invariances, and the closed-form start."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from zsar_cli.errors import ConfigError
from zsar_cli.networks.rest import (
    RestConfig,
    RestHead,
    RestModel,
    class_means,
    fourier_positions,
    sentence_embedding,
    video_summary,
)
from zsar_cli.training.losses import (
    alignment_loss,
    consistency_loss,
    discrimination_loss,
    hard_negatives,
    matching_loss,
)
from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.transfer.compose import compose

CONFIG = RestConfig(features=12, text_features=10, space=16, width=16, depth=2, heads=2, dropout=0.0)


def make_model(config: RestConfig = CONFIG) -> RestModel:
    torch.manual_seed(0)
    return RestModel(config)


def grids(count: int = 3, frames: int = 4, side: int = 2) -> torch.Tensor:
    return torch.randn(count, frames, side, side, 12, generator=torch.Generator().manual_seed(1))


def labels(count: int = 3, length: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.randn(count, length, 10, generator=torch.Generator().manual_seed(2))
    keep = torch.ones(count, length, dtype=torch.bool)
    keep[0, 3:] = False
    return tokens, keep


def all_objectives(model: RestModel, head: RestHead) -> torch.Tensor:
    grid, (tokens, keep) = grids(), labels()
    v, t = model.encode_video(grid), model.encode_text(tokens, keep)
    positives = torch.eye(3, dtype=torch.bool)
    videos, wrong = hard_negatives(v @ t.T, positives)
    right = torch.arange(3 + len(videos)) < 3
    videos, wrong = torch.cat([torch.arange(3), videos]), torch.cat([torch.arange(3), wrong])
    return (
        discrimination_loss(v, head.prototypes, torch.arange(3), head.visual_scale)
        + alignment_loss(v, t, positives, head.text_scale)
        + matching_loss(model.match(grid[videos], tokens[wrong], keep[wrong]), right, right)
        + consistency_loss(head.prototypes, t, 0.1)
    )


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_every_parameter(checkpointing: bool) -> None:
    model = make_model(replace(CONFIG, checkpointing=checkpointing))
    head = RestHead(torch.randn(3, 16))
    all_objectives(model, head).backward()
    parameters = [*model.named_parameters(), *head.named_parameters()]
    assert len(parameters) > 30
    for name, parameter in parameters:
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = make_model(replace(CONFIG, checkpointing=checkpointing))
        all_objectives(model, RestHead(torch.ones(3, 16))).backward()
        gradients.append(model.video_in.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_the_three_passes_share_the_blocks() -> None:
    model, grid, (tokens, keep) = make_model(), grids(), labels()
    passes = {
        "video": lambda: model.encode_video(grid),
        "text": lambda: model.encode_text(tokens, keep),
        "both": lambda: model.match(grid, tokens, keep),
    }
    blocks = {name for name, _ in model.named_parameters() if name.startswith(("blocks.", "norm."))}
    assert len(blocks) == 2 * 12 + 2
    for name, run in passes.items():
        model.zero_grad()
        run().square().sum().backward()
        reached = {n for n, p in model.named_parameters() if p.grad is not None and n in blocks}
        assert reached == blocks, name


@pytest.mark.parametrize(("frames", "side", "length"), [(1, 1, 1), (4, 2, 5), (9, 3, 17)])
def test_any_number_of_frames_cells_and_tokens(frames: int, side: int, length: int) -> None:
    model = make_model()
    grid, (tokens, keep) = grids(2, frames, side), labels(2, length)
    keep[:, 0] = True
    assert model.encode_video(grid).shape == (2, 16)
    assert model.encode_text(tokens, keep).shape == (2, 16)
    assert model.match(grid, tokens, keep).shape == (2,)


def test_padding_does_not_matter() -> None:
    model, grid, (tokens, keep) = make_model(), grids(), labels()
    longer = torch.cat([tokens, torch.full((3, 4, 10), 99.0)], dim=1)
    padded = torch.cat([keep, torch.zeros(3, 4, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(model.encode_text(tokens, keep), model.encode_text(longer, padded))
    torch.testing.assert_close(model.match(grid, tokens, keep), model.match(grid, longer, padded))


def test_permuting_labels_and_videos_permutes_outputs() -> None:
    model, grid, (tokens, keep) = make_model(), grids(), labels()
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(model.encode_text(tokens, keep)[order], model.encode_text(tokens[order], keep[order]))
    torch.testing.assert_close(model.encode_video(grid)[order], model.encode_video(grid[order]))
    torch.testing.assert_close(
        model.match(grid, tokens, keep)[order], model.match(grid[order], tokens[order], keep[order])
    )


def test_the_order_of_frames_matters_to_the_transformer_alone() -> None:
    grid = grids()
    model = make_model()
    assert not torch.allclose(model.encode_video(grid), model.encode_video(grid.flip(1)), atol=1e-4)
    ungated = make_model(replace(CONFIG, gate=0.0))
    torch.testing.assert_close(ungated.encode_video(grid), ungated.encode_video(grid.flip(1)))


def test_positions_cover_the_same_range_for_any_count() -> None:
    coarse, fine = fourier_positions(2, 8), fourier_positions(6, 8)
    torch.testing.assert_close(coarse, fine[[1, 4]])  # (0 + 1/2) / 2 = (1 + 1/2) / 6
    assert torch.unique(fourier_positions(32, 8), dim=0).shape[0] == 32


def test_an_equal_label_gets_its_seen_prototype() -> None:
    model, (tokens, keep) = make_model(), labels()
    t = F.normalize(model.encode_text(tokens, keep), dim=1).detach()
    visual = F.normalize(torch.randn(3, 16), dim=1)
    bank = PrototypeBank(("a", "b", "c"), t, visual, model="m", text_encoder="e")
    composed, weights = compose(bank, ("the same as b",), t[1:2], top_k=3, temperature=0.1)
    torch.testing.assert_close(composed.visual, visual[1:2])
    assert weights.tolist() == [[0.0, 1.0, 0.0]]


def test_the_prior_keeps_distances_and_turns_labels_towards_their_videos() -> None:
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(4, 12, generator=generator)
    targets = torch.arange(4).repeat_interleave(10)
    grid = centres[targets][:, None, None, None] + 5 + 0.1 * torch.randn(40, 3, 1, 1, 12, generator=generator)
    summaries = video_summary(grid)
    sentences = F.normalize(torch.randn(4, 10, generator=generator), dim=1)
    model = make_model(replace(CONFIG, gate=0.0, space=24))
    model.set_prior(summaries, targets, sentences)

    v = model.encode_video(grid).detach()
    halves = [half - half.mean(axis=0) for half in np.split(summaries.double().numpy(), 2, axis=1)]
    scaled = np.concatenate([half / np.linalg.norm(half, axis=1).mean() for half in halves], axis=1)
    np.testing.assert_allclose((v @ v.T).numpy(), scaled @ scaled.T, atol=1e-4)  # D = 24 = 2C: nothing is lost

    t = model.text_prior(sentences).detach()
    torch.testing.assert_close(t @ t.T, sentences @ sentences.T, atol=1e-4, rtol=1e-4)
    means = class_means(v, targets, 4)
    right = (F.normalize(t - t.mean(dim=0), dim=1) @ F.normalize(means - means.mean(dim=0), dim=1).T).argmax(dim=1)
    assert right.tolist() == [0, 1, 2, 3]


def test_the_prior_of_few_videos_fills_up_with_orthonormal_directions() -> None:
    model = make_model(replace(CONFIG, features=20))
    model.set_prior(torch.randn(6, 40), torch.tensor([0, 0, 0, 1, 1, 1]), torch.eye(2, 10))
    product = model.video_prior.weight @ model.video_prior.weight.T
    torch.testing.assert_close(product, torch.eye(16), atol=1e-4, rtol=0)


def test_the_summary_is_mean_and_spread_over_time() -> None:
    grid = grids()
    array = grid.double().numpy()
    expected = np.concatenate([array.mean(axis=(1, 2, 3)), array.std(axis=1).mean(axis=(1, 2))], axis=1)
    np.testing.assert_allclose(video_summary(grid).numpy(), expected, atol=1e-5)
    still = grid[:, :1].expand(-1, 4, -1, -1, -1).clone().requires_grad_()
    video_summary(still).sum().backward()
    assert still.grad is not None and torch.isfinite(still.grad).all()


def test_sentence_embedding_is_the_masked_mean() -> None:
    tokens, keep = labels()
    result = sentence_embedding(tokens, keep)
    for row in range(3):
        mean = tokens[row][keep[row]].double().numpy().mean(axis=0)
        np.testing.assert_allclose(result[row].numpy(), mean / np.linalg.norm(mean), rtol=1e-5, atol=1e-6)


def test_scales_are_bounded() -> None:
    head = RestHead(torch.zeros(2, 16), visual_scale=10, text_scale=1e6)
    assert head.visual_scale.item() == pytest.approx(10)
    assert head.text_scale.item() == 100


@pytest.mark.parametrize("change", [{"width": 18}, {"dropout": 1.0}, {"depth": 0}, {"heads": 3}])
def test_a_shape_that_cannot_be_built_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(CONFIG, **change)

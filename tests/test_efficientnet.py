"""Padding as TensorFlow does it, and networks over frames in parts."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from zsar_cli.networks.efficientnet import EfficientNetLite, SameConv, has_one_dnn
from zsar_cli.networks.parts import FRAMES, in_parts


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (9, 9), (17, 12), (12, 33), (64, 65)], ids=str)
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 6])
def test_padding_is_that_of_tensorflow(size: tuple[int, int], kernel: int, stride: int, groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    conv = SameConv(6, 12, kernel, stride, groups).double()
    x = torch.randn(2, 6, *size, generator=generator, dtype=torch.float64)
    # Of the padding that makes ceil(side / stride) outputs, the smaller half goes before, the larger behind.
    total = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in size]
    (top, left), (bottom, right) = [pad // 2 for pad in total], [pad - pad // 2 for pad in total]
    expected = F.conv2d(F.pad(x, (left, right, top, bottom)), conv.weight, conv.bias, stride, groups=groups)
    assert expected.shape[-2:] == tuple(-(-side // stride) for side in size)
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("count", [0, 1, 4])
def test_float32_is_what_torch_computes_on_any_number_of_threads(
    threads: int, layout: torch.memory_format, count: int
) -> None:
    torch.manual_seed(0)
    network = EfficientNetLite("efficientnet-lite0").eval().to(memory_format=layout)  # type: ignore[call-overload]
    images = torch.randn(count, 3, 33, 64).contiguous(memory_format=layout)
    exact = copy.deepcopy(network).double()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            found, expected = network(images), exact(images.double())
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6, check_dtype=False)


@pytest.mark.skipif(not has_one_dnn(), reason="this build of torch lacks the operations of oneDNN")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("threads", [1, 2])
def test_without_gradients_one_dnn_computes_it_and_the_numbers_are_the_same(threads: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    conv, x = SameConv(8, 16, 3, 2, clamps=True).to(dtype), 8 * torch.randn(2, 8, 15, 18, dtype=dtype)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile, torch.no_grad():
            found = conv(x)
    finally:
        torch.set_num_threads(before)
    assert "mkldnn::_convolution_pointwise" in {event.name for event in profile.events()}
    assert found.min() == 0 and found.max() == 6
    torch.testing.assert_close(found, conv(x))


def test_what_is_laid_out_follows_the_weights_the_images_and_the_copies() -> None:
    torch.manual_seed(0)
    conv, x = SameConv(4, 4, 3, 2, clamps=True), torch.randn(2, 4, 9, 9)
    with torch.no_grad():
        first = conv(x)
        conv.weight.mul_(2)
    step = torch.optim.SGD(conv.parameters(), lr=0.5)
    for change in (lambda: conv.load_state_dict({"weight": -conv.weight, "bias": conv.bias}), step.step, lambda: None):
        conv.zero_grad()
        copied = copy.deepcopy(conv)
        conv(x).sum().backward()
        change()
        for one, images in ((conv, x), (conv, x[:1, :, :6]), (copied, x)):
            with torch.no_grad():
                found = one(images)
            torch.testing.assert_close(found, one(images).detach())
            assert not torch.equal(found, first)


def test_the_network_leaves_its_input_alone_and_can_be_trained() -> None:
    torch.manual_seed(0)
    network = EfficientNetLite("efficientnet-lite0")
    images = torch.randn(2, 3, 64, 64)
    before = images.clone()
    network(images).sum().backward()
    assert torch.equal(images, before)
    gradient = network.stem.weight.grad
    assert gradient is not None and gradient.abs().sum() > 0


@pytest.mark.parametrize("count", [0, 1, FRAMES - 1, FRAMES, FRAMES + 1, 3 * FRAMES + 2])
def test_parts_are_of_one_size_and_lose_nothing(count: int) -> None:
    seen = []

    def double(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return images.flatten(1).float() * 2

    images = torch.randint(0, 256, (count, 3, 2, 2), dtype=torch.uint8)
    assert torch.equal(in_parts(double, images), images.flatten(1).float() * 2)
    assert set(seen) <= {FRAMES} or count == 0

"""Body landmarks: the networks against LiteRT's numbers, the geometry against loops, the whole against a drawn body.

The body is drawn from capsules whose ends are the joints, so where the landmarks belong is known.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn

from zsar_cli.errors import ModelError
from zsar_cli.networks import pose
from zsar_cli.networks.blazepose import depth_to_space
from zsar_cli.networks.pose import POSE_POINTS, WEIGHTS, PoseNetwork, open_pose

# Landmarks by number, and the joints of the drawing: x to the right, y down, feet to head 1.0, middle of the hips 0.
JOINTS = {
    0: (0.00, -0.42),  # nose
    11: (0.10, -0.28),  # shoulders: the body's left is on the right of a picture from the front
    12: (-0.10, -0.28),
    13: (0.18, -0.15),  # elbows
    14: (-0.18, -0.15),
    15: (0.23, 0.00),  # wrists
    16: (-0.23, 0.00),
    23: (0.06, 0.00),  # hips
    24: (-0.06, 0.00),
    25: (0.07, 0.21),  # knees
    26: (-0.07, 0.21),
    27: (0.08, 0.43),  # ankles
    28: (-0.08, 0.43),
}
SKIN, SHIRT, JEANS, HAIR, SHOE = (224, 180, 150), (170, 40, 40), (40, 50, 110), (60, 40, 25), (30, 30, 30)
CAPSULES = [  # ends, radius, colour
    *(((sign * 0.06, 0.0), (sign * 0.07, 0.21), 0.045, JEANS) for sign in (-1, 1)),
    *(((sign * 0.07, 0.21), (sign * 0.08, 0.41), 0.038, JEANS) for sign in (-1, 1)),
    *(((sign * 0.08, 0.44), (sign * 0.11, 0.46), 0.024, SHOE) for sign in (-1, 1)),
    *(((sign * 0.06, -0.26), (sign * 0.04, 0.0), 0.055, SHIRT) for sign in (-1, 0, 1)),
    *(((sign * 0.10, -0.28), (sign * 0.18, -0.15), 0.030, SKIN) for sign in (-1, 1)),
    *(((sign * 0.18, -0.15), (sign * 0.23, 0.0), 0.026, SKIN) for sign in (-1, 1)),
    *(((sign * 0.10, -0.28), (sign * 0.14, -0.21), 0.036, SHIRT) for sign in (-1, 1)),
    ((0.0, -0.38), (0.0, -0.32), 0.030, SKIN),
    ((0.0, -0.46), (0.0, -0.44), 0.078, HAIR),
    ((0.0, -0.43), (0.0, -0.40), 0.066, SKIN),
    *(((sign * 0.028, -0.44), (sign * 0.030, -0.44), 0.008, HAIR) for sign in (-1, 1)),
    ((0.0, -0.43), (0.0, -0.41), 0.006, (190, 140, 115)),
    ((-0.02, -0.38), (0.02, -0.38), 0.006, (160, 70, 70)),
]


def placed(point: tuple[float, float], hips: tuple[float, float], tall: float, angle: float) -> NDArray[np.float64]:
    """A point of the drawing in pixels, the body turned clockwise by `angle` radians."""
    x, y = point
    turned = (x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle))
    return np.array(hips) + tall * np.array(turned)


def drawn(
    size: tuple[int, int], hips: tuple[float, float], tall: float, angle: float = 0.0
) -> tuple[Tensor, dict[int, NDArray[np.float64]]]:
    """A frame uint8 [H, W, 3] with a body in it, and its joints in pixels."""
    width, height = size
    frame = np.full((height, width, 3), (150, 170, 190), np.uint8)
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1) + 0.5
    for start, end, radius, colour in CAPSULES:
        a, b = (placed(point, hips, tall, angle) for point in (start, end))
        along = np.clip((grid - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
        distance = np.linalg.norm(grid - (a + along[..., None] * (b - a)), axis=-1)
        frame[distance <= radius * tall] = colour
    return torch.from_numpy(frame), {index: placed(point, hips, tall, angle) for index, point in JOINTS.items()}


def middle(side: int) -> Tensor:
    """float [1, 3, side, side] in 0..255: the body in the middle."""
    frame, _ = drawn((side, side), (side / 2, side / 2), side * 0.8)
    return frame.permute(2, 0, 1)[None].float()


@pytest.fixture(scope="module")
def network() -> PoseNetwork:
    return open_pose(torch.device("cpu"))


class Answers(nn.Module):
    """A landmarker that says the same of every crop: landmark i at pixel (100 + i, 80), z 64, world (0.3, 0, 1)."""

    def __init__(self, presence: float) -> None:
        super().__init__()
        self.presence = presence

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        count = len(crops)
        landmarks = torch.tensor([[100.0 + i, 80, 64, 0, 0] for i in range(39)]).expand(count, -1, -1)
        world = torch.tensor([0.3, 0, 1]).expand(count, 39, 3)
        return landmarks, torch.full((count, 1), self.presence), world, torch.full((count, 39, 64, 64), -9.0)


# (size, middle of the hips, height in pixels, angle in degrees)
CASES: dict[str, tuple[tuple[int, int], tuple[float, float], float, float]] = {
    "small, in a wide frame": ((320, 180), (85, 100), 115, 0),
    "in a tall frame": ((200, 320), (110, 170), 240, 0),
    "leaning": ((240, 240), (120, 120), 170, -40),
    "lying": ((280, 200), (140, 100), 200, 90),
}


@pytest.mark.parametrize("case", CASES)
def test_landmarks_lie_on_the_joints_of_a_drawn_body(case: str, network: PoseNetwork) -> None:
    size, hips, tall, degrees = CASES[case]
    angle = math.radians(degrees)
    frame, joints = drawn(size, hips, tall, angle)
    poses = network(frame[None])
    assert poses.found.tolist() == [True]
    assert poses.points.shape == poses.world.shape == (1, POSE_POINTS, 4)
    for index, joint in joints.items():
        found = poses.points[0, index, :2].numpy() * np.array(size)
        assert np.linalg.norm(found - joint) < 0.07 * tall, f"landmark {index}"
    assert poses.points[0, list(joints), 3].min() > 0.5
    np.testing.assert_array_equal(poses.world[..., 3], poses.points[..., 3])
    nose = poses.world[0, 0, :2].numpy()
    assert 0.4 < np.linalg.norm(nose) < 0.9  # metres above the hips
    np.testing.assert_allclose(nose / np.linalg.norm(nose), [math.sin(angle), -math.cos(angle)], atol=0.1)
    np.testing.assert_allclose(poses.world[0, [23, 24], :3].mean(dim=0), 0, atol=0.03)


# What LiteRT (ai-edge-litert 2.3.0) computes from the published files for the drawn body in the middle.
BOX_365 = [-4.0777, -2.2775, 44.7420, 44.7418, -5.0170, 76.8439, -1.7454, -21.9062, -4.8925, 11.0469, -2.3546, -68.8763]
LANDMARKS = {
    0: [129.6667, 45.3175, -135.2052, 11.5367, 8.7873],
    15: [173.8913, 122.4834, -43.4582, 2.3718, 4.9769],
    27: [144.1840, 208.3593, 90.3164, 5.3231, 7.1093],
    38: [82.9366, 120.9006, -0.0119, -20.5626, 4.3299],
}
WORLD = {0: [0.01343, -0.60614, -0.34931], 15: [0.35327, -0.0597, -0.14952], 27: [0.14367, 0.72853, 0.25378]}
HEAT = {0: (736, 3.1012), 15: (1900, 0.5316), 27: (3428, 1.3399)}  # the hottest cell, row by row, and its value


def test_the_detector_computes_what_litert_does(network: PoseNetwork) -> None:
    with torch.no_grad():
        boxes, scores = (out[0].numpy() for out in network.detector(middle(224) / 127.5 - 1))
    assert boxes.shape == (2254, 12)
    assert scores.argmax() == 365
    np.testing.assert_allclose(boxes[365], BOX_365, atol=0.01)
    np.testing.assert_allclose(scores[[100, 365, 1600, 2000]], [-233.4088, 2.9253, -6.6742, -23.0649], atol=0.01)
    np.testing.assert_allclose([np.abs(boxes).mean(), np.abs(scores).mean()], [35.69455, 68.89627], rtol=1e-4)


def test_the_landmarker_computes_what_litert_does(network: PoseNetwork) -> None:
    with torch.no_grad():
        landmarks, presence, world, heat = (out[0].numpy() for out in network.landmarker(middle(256) / 255))
    np.testing.assert_allclose(landmarks[list(LANDMARKS)], list(LANDMARKS.values()), atol=0.02)
    np.testing.assert_allclose(world[list(WORLD)], list(WORLD.values()), atol=2e-4)
    np.testing.assert_allclose(presence, [0.99931], atol=1e-4)
    for index, (cell, value) in HEAT.items():
        assert heat[index].argmax() == cell
        assert heat[index].max() == pytest.approx(value, abs=0.01)
    means = [np.abs(out).mean() for out in (landmarks, world, heat)]
    np.testing.assert_allclose(means, [63.7882, 0.23663, 16.03334], rtol=1e-4)


def test_depth_to_space_puts_blocks_as_tensorflow_says() -> None:
    given = torch.arange(2 * 12 * 2 * 3).reshape(2, 12, 2, 3)
    made = depth_to_space(given)
    assert made.shape == (2, 3, 4, 6)
    for b, c, y, x in itertools.product(range(2), range(3), range(4), range(6)):
        assert made[b, c, y, x] == given[b, (y % 2 * 2 + x % 2) * 3 + c, y // 2, x // 2]


def test_anchors_are_the_middles_of_cells_two_for_each_layer() -> None:
    expected = []
    for stride, layers in ((8, 1), (16, 1), (32, 3)):  # layers of one stride share their cells
        for y, x in itertools.product(range(224 // stride), repeat=2):
            expected += [((x + 0.5) * stride / 224, (y + 0.5) * stride / 224)] * 2 * layers
    assert len(expected) == 2254
    np.testing.assert_allclose(pose.make_anchors(), expected, atol=1e-6)


def test_the_best_person_is_the_mean_of_boxes_that_overlap_the_best() -> None:
    def box(x: float, size: float, key: float) -> list[float]:
        return [224 * value for value in (x, 0.1, size, size, key, 0.2, key + 0.1, 0.3, 9, 9, 9, 9)]

    boxes = torch.tensor([[
        box(0.00, 0.4, 0.01),  # 0.9, the best
        box(0.10, 0.4, 0.04),  # 0.6: intersection over union 0.6
        box(0.50, 0.4, 0.50),  # 0.8, another person
        box(0.00, 0.4, 0.30),  # 0.2, under the threshold
        box(0.25, 0.4, 0.70),  # 0.7: intersection over union 0.23
        box(0.00, -0.4, 0.90),  # 0.95, but inside out
    ]])  # fmt: skip
    scores = torch.tensor([[0.9, 0.6, 0.8, 0.2, 0.7, 0.95]])
    anchors = torch.tensor([[0.2, 0.3]]).expand(6, 2)
    points, score = pose.best_person(boxes, scores, anchors, threshold=0.3)
    key = (0.9 * 0.01 + 0.6 * 0.04) / 1.5
    np.testing.assert_allclose(points, [[[key + 0.2, 0.5], [key + 0.3, 0.6]]], atol=1e-6)
    np.testing.assert_allclose(score, [0.9])
    assert pose.best_person(boxes, scores / 10, anchors, threshold=0.3)[1] < 0.3


@pytest.mark.parametrize(("up", "degrees"), [((50, 20), 0), ((80, 60), 90), ((50, 100), 180), ((30, 40), -45)])
def test_the_square_turns_with_the_body(up: tuple[int, int], degrees: int) -> None:
    square = pose.body_square(torch.tensor([[[50.0, 60.0], up]]))[0].tolist()
    assert square[:2] == [50, 60]
    assert square[2] == pytest.approx(2.5 * math.dist((50, 60), up), rel=1e-6)
    assert math.cos(square[3]) == pytest.approx(math.cos(math.radians(degrees)), abs=1e-6)
    assert math.sin(square[3]) == pytest.approx(math.sin(math.radians(degrees)), abs=1e-6)


def test_a_crop_takes_each_pixel_from_its_place_in_the_frame() -> None:
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(90.0), indexing="ij")
    frame = torch.stack((x, y, x + y))[None]  # linear, so that bilinear interpolation is exact
    angle = math.radians(30)
    square = torch.tensor([[40.0, 30.0, 32.0, angle]])
    cut = pose.crop(frame, square, 16, outside="border")[0]
    for row, column in itertools.product(range(16), repeat=2):
        u, v = (column / 16 - 0.5) * 32, (row / 16 - 0.5) * 32
        expected = (40 + u * math.cos(angle) - v * math.sin(angle), 30 + u * math.sin(angle) + v * math.cos(angle))
        np.testing.assert_allclose(cut[:, row, column], [*expected, sum(expected)], atol=1e-3)
    outside = torch.tensor([[-100.0, 30.0, 8.0, 0.0]])
    assert pose.crop(frame + 5, outside, 4, outside="zeros").abs().max() == 0
    assert (pose.crop(frame + 5, outside, 4, outside="border")[0, 0] == 5).all()


def test_the_networks_are_given_the_values_they_were_trained_with() -> None:
    made, given = PoseNetwork(), []
    for part in (made.detector, made.landmarker):
        part.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    frame = torch.full((1, 3, 56, 112), 51.0)  # twice as wide as high: bars of 56 rows above and below
    with torch.no_grad():
        made._detect(frame)
        made._place(frame, torch.tensor([[56.0, 28.0, 200.0, 0.5]]))
    detector, landmarker = given
    assert detector.shape == (1, 3, 224, 224)
    assert (detector[:, :, [*range(54), *range(170, 224)]] == -1).all()
    np.testing.assert_allclose(detector[:, :, 58:166, 2:222], 51 / 127.5 - 1, atol=1e-5)
    assert landmarker.shape == (1, 3, 256, 256)
    np.testing.assert_allclose(landmarker, 51 / 255, atol=1e-5)  # the border goes on


def test_landmarks_come_back_from_a_turned_crop() -> None:
    made = PoseNetwork()
    made.landmarker = Answers(presence=0.9)  # type: ignore[assignment]
    square = torch.tensor([[200.0, 100.0, 128.0, math.pi / 2]])  # half a frame pixel for each of the crop's
    points, world, there = made._place(torch.zeros(1, 3, 300, 400), square)
    assert there.tolist() == [True]
    for index in range(POSE_POINTS):
        u, v = (100 + index - 128) / 2, (80 - 128) / 2  # a quarter turn clockwise: right becomes down, down left
        expected = [(200 - v) / 400, (100 + u) / 300, 64 / 2 / 400, 0.5]
        np.testing.assert_allclose(points[0, index], expected, atol=1e-6)
        np.testing.assert_allclose(world[0, index], [0, 0.3, 1, 0.5], atol=1e-6)


def test_landmarks_move_to_the_centre_of_hot_cells_nearby() -> None:
    heat = torch.from_numpy(np.random.default_rng(3).normal(0, 2, (1, 4, 12, 16)).astype(np.float32))
    heat[0, 1] = -1  # never sure
    points = torch.tensor([[[0.5, 0.5], [0.5, 0.5], [1.2, 0.5], [0.01, 0.99]]])
    refined = pose.refine(points, heat)[0]
    for index in (0, 3):
        column, row = int(points[0, index, 0] * 16), int(points[0, index, 1] * 12)
        total = np.zeros(3)
        for y in range(max(row - 3, 0), min(row + 4, 12)):
            for x in range(max(column - 3, 0), min(column + 4, 16)):
                total += np.array([x, y, 1]) / (1 + math.exp(-heat[0, index, y, x]))
        np.testing.assert_allclose(refined[index], total[:2] / total[2] / [16, 12], atol=1e-5)
    np.testing.assert_array_equal(refined[[1, 2]], points[0, [1, 2]])


def test_a_frame_alone_is_the_frame_in_a_batch(network: PoseNetwork) -> None:
    size = (240, 240)
    bodies = [drawn(size, (110 + 10 * i, 120), 170, 0.2 * i)[0] for i in range(2)]
    frames = torch.stack([bodies[0], torch.full_like(bodies[0], 90), bodies[1]])
    together = network(frames)
    assert together.found.tolist() == [True, False, True]
    assert together.points[1].abs().max() == together.world[1].abs().max() == 0
    for row, frame in enumerate(frames):
        alone = network(frame[None].float())
        assert alone.found[0] == together.found[row]
        np.testing.assert_allclose(alone.points[0], together.points[row], atol=1e-5)
        np.testing.assert_allclose(alone.world[0], together.world[row], atol=1e-5)


def test_nobody_is_found_where_nobody_is(network: PoseNetwork) -> None:
    poses = network(torch.zeros(2, 90, 160, 3, dtype=torch.uint8))
    assert poses.found.tolist() == [False, False]
    assert poses.points.shape == poses.world.shape == (2, POSE_POINTS, 4)
    assert poses.points.abs().max() == poses.world.abs().max() == 0


def test_both_networks_must_see_a_person() -> None:
    frame = drawn((160, 160), (80, 80), 120)[0][None]
    made = open_pose(torch.device("cpu"), threshold=0.999)
    assert not made(frame).found.any()
    made.threshold = 0.3
    assert made(frame).found.all()
    made.landmarker = Answers(presence=0.4)  # type: ignore[assignment]
    poses = made(frame)
    assert not poses.found.any()
    assert poses.points.abs().max() == poses.world.abs().max() == 0


def test_the_network_is_frozen_and_knows_its_weights(network: PoseNetwork) -> None:
    assert not network.training
    parameters = list(network.parameters())
    assert {parameter.dtype for parameter in parameters} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in parameters)
    assert network.fingerprint == f"blazepose-{hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:12]}"


def test_the_file_says_where_it_comes_from_and_is_small() -> None:
    assert WEIGHTS.stat().st_size < 9e6
    with safe_open(WEIGHTS, framework="pt") as file:
        source = json.loads(file.metadata()["source"])
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    assert (source["package"], source["version"], source["licence"]) == ("mediapipe", "0.10.14", "Apache-2.0")
    assert sorted(Path(name).name for name in source["sha256"]) == [
        "pose_detection.tflite",
        "pose_landmark_full.tflite",
    ]
    assert kinds == {"F16", "U8"}


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "blazepose.safetensors"
    with pytest.raises(ModelError, match=r"blazepose\.safetensors is missing: pip install --force-reinstall zsar"):
        open_pose(torch.device("cpu"), file=file)
    content = bytearray(WEIGHTS.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"blazepose\.safetensors is damaged .* sha256 .* expected .* pip install"):
        open_pose(torch.device("cpu"), file=file)

"""Landmarks on the body of the main person in a frame, in torch alone.

The steps and their constants are those of MediaPipe's graph `pose_landmark_cpu` for static images (version 0.10.14):

    frame --letterbox 224--> detector --best person--> two key points: middle of the hips, and a point whose distance
    from it is the radius of a circle around the body, in the direction of the head
    --> square around that circle, 1.25 times its size, turned so that the head is up
    --crop 256--> landmarker --> landmarks, refined by its heat maps --> turned and moved back to the frame

The weights are part of this package; examples/maintenance/blazepose.py made the file (see weights.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from zsar_cli.digests import known_sha256
from zsar_cli.errors import ModelError
from zsar_cli.networks.blazepose import DETECTOR_SIDE, LANDMARKER_SIDE, PoseDetector, PoseLandmarker
from zsar_cli.networks.parts import FRAMES

__all__ = ["FINGERPRINT", "POSE_POINTS", "WEIGHTS", "PoseNetwork", "Poses", "open_pose"]

POSE_POINTS = 33
WEIGHTS = Path(__file__).with_name("blazepose.safetensors")
SHA256 = "2cf1360c008f38fd5a8312ae05f6c966c312a39eb2506ae9aa91b1228c208b70"
FINGERPRINT = f"blazepose-{SHA256[:12]}"

SCORE_THRESHOLD = 0.3  # of the detector; MediaPipe's own default is 0.5
PRESENCE_THRESHOLD = 0.5  # of the landmarker
SAME_PERSON = 0.3  # boxes that overlap the best one by more than this are of the same person
ROI_SCALE = 1.25  # side of the crop in diameters of the circle around the body
REFINE_RADIUS = 3  # cells of a heat map around a landmark
REFINE_CONFIDENCE = 0.5  # least heat for which a landmark is moved
CELLS = ((28, 2), (14, 2), (7, 6))  # cells per side, anchors per cell: strides 8, 16 and three times 32


@dataclass(frozen=True)
class Poses:
    """One body for each of N frames. Rows of frames in which nobody was found are zero; visibility is in 0..1.

    Args:
        points: float32 [N, 33, 4]: x, y as shares of the frame's width and height (outside 0..1 where the body goes on
            beyond the frame); z, depth from the middle of the hips in the unit of x, smaller is nearer; visibility.
        world: float32 [N, 33, 4]: x, y, z in metres from the middle of the hips, axes as in `points`; visibility.
        found: bool [N].
    """

    points: Tensor
    world: Tensor
    found: Tensor


class PoseNetwork(nn.Module):
    """See the module. Made by `open_pose`.

    Args:
        threshold: score in 0..1 that a person must reach to be found.
        fingerprint: of the weights.
    """

    anchors: Tensor

    def __init__(self, threshold: float = SCORE_THRESHOLD, fingerprint: str = "") -> None:
        super().__init__()
        self.detector, self.landmarker = PoseDetector(), PoseLandmarker()
        self.register_buffer("anchors", make_anchors(), persistent=False)
        self.threshold, self.fingerprint = threshold, fingerprint

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Poses:
        """uint8 or float [N, H, W, 3], RGB in 0..255, on the network's device."""
        few = FRAMES if frames.device.type == "cpu" else max(len(frames), 1)
        parts = [self._poses(part) for part in torch.split(frames, few)]
        return Poses(
            points=torch.cat([part.points for part in parts]),
            world=torch.cat([part.world for part in parts]),
            found=torch.cat([part.found for part in parts]),
        )

    def _poses(self, frames: Tensor) -> Poses:
        images = frames.permute(0, 3, 1, 2).float()
        squares, found = self._detect(images)
        count = len(images)
        poses = Poses(
            points=images.new_zeros(count, POSE_POINTS, 4),
            world=images.new_zeros(count, POSE_POINTS, 4),
            found=found.new_zeros(count),
        )
        chosen = found.nonzero().squeeze(1)
        if len(chosen):
            points, world, present = self._place(images[chosen], squares[chosen])
            kept = chosen[present]
            poses.points[kept], poses.world[kept], poses.found[kept] = points[present], world[present], True
        return poses

    def _detect(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """float [N, 3, H, W] in 0..255 -> the square [N, 4] around the best person, and whether there is one."""
        height, width = images.shape[-2:]
        side = float(max(height, width))
        whole = images.new_tensor([width / 2, height / 2, side, 0]).expand(len(images), 4)
        letterboxed = crop(images, whole, DETECTOR_SIDE, outside="zeros") / 127.5 - 1
        boxes, scores = self.detector(self._given(letterboxed))
        best, score = best_person(boxes.float(), torch.sigmoid(scores.float()), self.anchors, self.threshold)
        return body_square(to_frame(best - 0.5, whole)), score >= self.threshold

    def _place(self, images: Tensor, squares: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float [M, 3, H, W], [M, 4] -> points and world [M, 33, 4], see `Poses`, and whether anybody is there [M]."""
        height, width = images.shape[-2:]
        crops = crop(images, squares, LANDMARKER_SIDE, outside="border") / 255
        landmarks, presence, metres, heat = (
            out.float()[:, :POSE_POINTS] for out in self.landmarker(self._given(crops))
        )
        visibility = torch.sigmoid(landmarks[..., 3:4])
        local = landmarks[..., :3] / LANDMARKER_SIDE
        in_frame = to_frame(refine(local[..., :2], heat) - 0.5, squares) / images.new_tensor([width, height])
        depth = local[..., 2:] * squares[:, None, 2:3] / width  # z has the scale of x
        points = torch.cat((in_frame, depth, visibility), dim=-1)
        upright = rotate(metres[..., :2], squares[:, 3])
        world = torch.cat((upright, metres[..., 2:], visibility), dim=-1)
        return points, world, presence.squeeze(1) > PRESENCE_THRESHOLD

    def _given(self, images: Tensor) -> Tensor:
        """In the dtype of the weights."""
        return images.to(next(self.parameters()).dtype)


def make_anchors() -> Tensor:
    """Centres [2254, 2] of the anchors' cells: x, y as shares of the detector's image."""
    grids = []
    for cells, anchors in CELLS:
        middle = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(middle, middle, indexing="ij")
        grids.append(torch.stack((x, y), dim=-1).reshape(-1, 1, 2).expand(-1, anchors, 2).reshape(-1, 2))
    return torch.cat(grids)


def best_person(boxes: Tensor, scores: Tensor, anchors: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The two alignment points of the person with the highest score in each image.

    Weighted non-maximum suppression: the mean, by score, over all boxes that reach the threshold and overlap the best
    one (intersection over union).

    Args:
        boxes: [N, A, 12], raw output of the detector.
        scores: [N, A] in 0..1.
        anchors: [A, 2].
        threshold: in 0..1.

    Returns:
        points [N, 2, 2], x, y as shares of the detector's image, and scores [N]. The points mean nothing where the
        score does not reach the threshold.
    """
    boxes = boxes / DETECTOR_SIDE
    centres, sizes = boxes[..., :2] + anchors, boxes[..., 2:4]
    scores = scores.where((sizes >= 0).all(dim=-1), 0)
    score, best = scores.max(dim=1)
    low, high = centres - sizes / 2, centres + sizes / 2
    row = best[:, None, None].expand(-1, 1, 2)
    shared = torch.minimum(high, high.gather(1, row)) - torch.maximum(low, low.gather(1, row))
    overlap = shared.clamp(min=0).prod(dim=-1)
    areas = sizes.prod(dim=-1)
    union = areas + areas.gather(1, best[:, None]) - overlap
    weights = scores * (overlap > SAME_PERSON * union) * (scores >= threshold)
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    key_points = boxes[..., 4:8].reshape(*boxes.shape[:2], 2, 2) + anchors[:, None]
    return (key_points * weights[..., None, None]).sum(dim=1), score


def body_square(points: Tensor) -> Tensor:
    """[N, 2, 2], the middle of the hips and the point above the head, in pixels -> squares [N, 4].

    A square is x, y of its centre, its side (pixels) and the angle (radians, clockwise as y points down) by which its
    upper edge is turned.
    """
    centre, up = points.unbind(1)
    dx, dy = (up - centre).unbind(-1)
    side = 2 * ROI_SCALE * torch.hypot(dx, dy)
    angle = math.pi / 2 - torch.atan2(-dy, dx)
    return torch.cat((centre, side[:, None], angle[:, None]), dim=-1)


def rotate(points: Tensor, angles: Tensor) -> Tensor:
    """Turn x, y [N, P, 2] by [N] radians around the origin."""
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    x, y = points.unbind(-1)
    return torch.stack((cos * x - sin * y, sin * x + cos * y), dim=-1)


def to_frame(points: Tensor, squares: Tensor) -> Tensor:
    """[N, P, 2] in squares, -0.5..0.5 from edge to edge, with squares [N, 4] -> pixels of the frame [N, P, 2]."""
    return rotate(points, squares[:, 3]) * squares[:, None, 2:3] + squares[:, None, :2]


def crop(images: Tensor, squares: Tensor, side: int, outside: str) -> Tensor:
    """Cut squares out, bilinear, without smoothing where it shrinks: the networks were trained so.

    Args:
        images: float [N, 3, H, W].
        squares: [N, 4], see `body_square`.
        side: of the result, in pixels.
        outside: what lies beyond the image: "zeros", or "border" for its nearest pixel.

    Returns:
        float [N, 3, side, side].
    """
    height, width = images.shape[-2:]
    # As OpenCV's warpPerspective in MediaPipe: the corner, not the middle, of an output pixel is looked up, and whole
    # numbers are the middles of input pixels.
    steps = torch.arange(side, device=images.device) / side - 0.5
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    wanted = torch.stack((x, y), dim=-1).reshape(1, -1, 2).expand(len(images), -1, 2)
    pixels = to_frame(wanted, squares)
    grid = (2 * pixels + 1) / images.new_tensor([width, height]) - 1
    return F.grid_sample(images, grid.reshape(-1, side, side, 2), padding_mode=outside, align_corners=False)


def refine(points: Tensor, heat: Tensor) -> Tensor:
    """Move landmarks to the centre of the heat around them, where it is high enough.

    Args:
        points: [N, P, 2], x, y as shares of the crop.
        heat: [N, P, h, w] before the sigmoid.

    Returns:
        [N, P, 2]. Points outside the crop stay where they are.
    """
    height, width = heat.shape[-2:]
    confidence = torch.sigmoid(heat)
    sides = points.new_tensor([width, height])
    cells = (points * sides).trunc()
    columns, rows = (torch.arange(count, device=heat.device) for count in (width, height))
    near_x = (columns - cells[..., 0:1]).abs() <= REFINE_RADIUS
    near_y = (rows - cells[..., 1:2]).abs() <= REFINE_RADIUS
    weights = confidence * (near_y[..., :, None] & near_x[..., None, :])
    inside = ((cells >= 0) & (cells < sides)).all(dim=-1)
    sure = inside & (weights.amax(dim=(-2, -1)) >= REFINE_CONFIDENCE)
    sums = torch.stack(((weights.sum(dim=-2) * columns).sum(dim=-1), (weights.sum(dim=-1) * rows).sum(dim=-1)), dim=-1)
    moved = sums / weights.sum(dim=(-2, -1))[..., None].clamp(min=1e-6) / sides
    return torch.where(sure[..., None], moved, points)


def open_pose(
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    threshold: float = SCORE_THRESHOLD,
    file: Path = WEIGHTS,
) -> PoseNetwork:
    """The network with its weights, frozen.

    Args:
        device: where it computes.
        dtype: of the weights; the geometry around the two networks is float32.
        threshold: score in 0..1 that a person must reach to be found.
        file: the weights.

    Raises:
        ModelError: the file is missing or damaged.
    """
    if not file.is_file():
        raise ModelError(f"{file} is missing: pip install --force-reinstall zsar")
    found = known_sha256(file)
    if found != SHA256:
        raise ModelError(
            f"{file} is damaged or of another version: its sha256 is {found[:16]}..., expected {SHA256[:16]}...; "
            "pip install --force-reinstall zsar"
        )
    network = PoseNetwork(threshold, fingerprint=FINGERPRINT)
    network.load_state_dict(_read_weights(file, {name: value.shape for name, value in network.state_dict().items()}))
    for part in (network.detector, network.landmarker):
        part.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.requires_grad_(False).eval().to(device)


def _read_weights(file: Path, shapes: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """float32 tensors by name; what is stored sparse is its non-zero values and a bit for each place."""
    weights: dict[str, Tensor] = {}
    with safe_open(file, framework="pt") as stored:
        names = set(stored.keys())
        for name, shape in shapes.items():
            values = stored.get_tensor(name).float()
            if f"{name}.places" in names:
                bits = np.unpackbits(stored.get_tensor(f"{name}.places").numpy(), count=shape.numel())
                values = (
                    torch.zeros(shape.numel()).masked_scatter_(torch.from_numpy(bits).bool(), values).reshape(shape)
                )
            weights[name] = values
    return weights

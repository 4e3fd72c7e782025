"""Pictures for people: the camera enlarged beside a bird's-eye view of the scene, with a few words."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from ..geometry import box_corners
from ..road import BUILDINGS, Border, LaneKind, SceneryKind, SignalState
from ..scene import AgentKind, Scene

Colour = tuple[int, int, int]

GRASS: Colour = (72, 92, 62)
ASPHALT: Colour = (84, 86, 92)
PAVEMENT: Colour = (128, 124, 118)
SHOULDER: Colour = (100, 100, 98)
WHITE_LINE: Colour = (205, 207, 210)
CENTRE_LINE: Colour = (226, 190, 70)
ROUTE: Colour = (64, 156, 255)
EGO: Colour = (40, 120, 240)
TEXT: Colour = (240, 240, 240)
LANE_COLOURS = {LaneKind.DRIVING: ASPHALT, LaneKind.JUNCTION: ASPHALT, LaneKind.WALKING: PAVEMENT, LaneKind.SHOULDER: SHOULDER}
LINE_HEIGHT = 18  # pixels of a line of text
SIGNAL_COLOURS: dict[SignalState, Colour] = {
    SignalState.OFF: (120, 120, 120),
    SignalState.RED: (230, 50, 40),
    SignalState.YELLOW: (240, 200, 40),
    SignalState.GREEN: (50, 200, 80),
    SignalState.STOP_SIGN: (150, 20, 30),
}
_SUBPIXEL = 4  # fractional bits of OpenCV's fixed-point coordinates
_AHEAD = 0.68  # part of the picture's height that lies ahead of the ego


class _Canvas:
    """A picture whose up is the ego's forward; it draws shapes given in the world frame."""

    def __init__(self, size: int, metres: float, origin: np.ndarray, heading: float):
        self.image = np.full((size, size, 3), GRASS, np.uint8)
        self.scale = size / metres
        forward = np.array([np.cos(heading), np.sin(heading)])
        left = np.array([-forward[1], forward[0]])
        self._axes = np.stack((-left, -forward), 1) * self.scale
        self._centre = np.array([size / 2, size * _AHEAD])
        self._origin = origin
        self.reach = metres

    def pixels(self, points: np.ndarray) -> np.ndarray:
        return np.rint(((points - self._origin) @ self._axes + self._centre) * 2**_SUBPIXEL).astype(np.int32)

    def near(self, points: np.ndarray) -> np.ndarray:
        """Which shapes [K, V, 2] have a vertex within reach, bool [K]."""
        return (np.abs(points - self._origin).max(-1) < self.reach).any(-1)

    def fill(self, polygons: np.ndarray, colour: Colour) -> None:
        if len(polygons):
            for polygon in self.pixels(polygons):
                cv2.fillPoly(self.image, [polygon], colour, cv2.LINE_AA, _SUBPIXEL)

    def lines(self, polylines: Sequence[np.ndarray] | np.ndarray, colour: Colour, thickness: int = 1) -> None:
        if len(polylines):
            cv2.polylines(self.image, [self.pixels(line) for line in polylines], False, colour, thickness, cv2.LINE_AA, _SUBPIXEL)

    def disc(self, centre: np.ndarray, radius: float, colour: Colour) -> None:
        size = round(radius * self.scale * 2**_SUBPIXEL)
        cv2.circle(self.image, self.pixels(centre).tolist(), size, colour, -1, cv2.LINE_AA, _SUBPIXEL)


def render_birds_eye(scene: Scene, size: int = 256, metres: float = 80.0) -> np.ndarray:
    """Draw a scene [1] from above, the ego's forward up: [size, size, 3] uint8 RGB, `metres` across."""
    scene = scene.to("cpu")
    state = scene.ego.state[0].double().numpy()
    canvas = _Canvas(size, metres, state[:2], float(state[2]))
    _draw_road(canvas, scene)
    _draw_route(canvas, scene)
    _draw_signals(canvas, scene)
    _draw_scenery(canvas, scene)
    _draw_agents(canvas, scene)
    ego = box_corners(scene.ego.position, scene.ego.heading, scene.profile.length, scene.profile.width).numpy()
    canvas.fill(ego, EGO)
    canvas.lines(ego[:, [0, 3]], (255, 255, 255), 2)
    return canvas.image


def render_episode(scene: Scene, frame: Tensor, lines: Sequence[str] = (), height: int = 256) -> np.ndarray:
    """The camera's frame [H, W, 3] beside the bird's-eye view of scene [1], with lines of text: [height, 3 * height, 3] uint8 RGB."""
    camera = frame.cpu().numpy()
    width = round(height * camera.shape[1] / camera.shape[0])
    left = cv2.resize(camera, (width, height), interpolation=cv2.INTER_CUBIC)
    picture = np.concatenate((left, render_birds_eye(scene, height)), 1)
    for row, line in enumerate(lines):
        _write(picture, line, (8, LINE_HEIGHT * (1 + row)))
    return picture


def _write(picture: np.ndarray, line: str, spot: tuple[int, int]) -> None:
    """Write a line of text with a dark rim into a picture [H, W, 3] uint8, in place; its letters begin at `spot` (x, y of the baseline)."""
    top = max(0, spot[1] - LINE_HEIGHT)
    band = picture[top : spot[1] + LINE_HEIGHT // 2]  # the rows that letters and rim can touch
    letters = np.zeros(band.shape[:2], np.uint8)
    cv2.putText(letters, line, (spot[0], spot[1] - top), cv2.FONT_HERSHEY_SIMPLEX, 0.45, 255, 1, cv2.LINE_AA)
    rim = cv2.dilate(letters, np.ones((3, 3), np.uint8))  # a thicker text would be a wider one
    for shape, colour in ((rim, (0, 0, 0)), (letters, TEXT)):
        share = shape[..., None] / 255
        band[:] = np.rint(band * (1 - share) + np.asarray(colour) * share)


def _draw_road(canvas: _Canvas, scene: Scene) -> None:
    road = scene.road
    centre, kind = road.centreline[0].double().numpy(), road.kind[0].numpy()
    near = (kind > 0) & canvas.near(centre)
    centre, kind, width = centre[near], kind[near], road.width[0].double().numpy()[near]
    left, right = _edges(centre, width)
    ribbons = np.concatenate((left, right[:, ::-1]), 1)
    for lane_kind in (LaneKind.WALKING, LaneKind.SHOULDER, LaneKind.DRIVING, LaneKind.JUNCTION):
        canvas.fill(ribbons[kind == lane_kind], LANE_COLOURS[lane_kind])
    junctions = road.junctions[0].double().numpy()
    canvas.fill(junctions[canvas.near(junctions) & (np.abs(junctions).sum((1, 2)) > 0)], ASPHALT)
    for edges, border in ((left, road.left_border), (right, road.right_border)):
        marking = np.where(kind == LaneKind.DRIVING, border[0].numpy()[near], Border.NONE)
        canvas.lines(edges[marking == Border.EDGE], WHITE_LINE)
        canvas.lines(edges[marking == Border.CENTRE], CENTRE_LINE)
        dashed = edges[marking == Border.DASHED]
        canvas.lines(np.concatenate([dashed[:, k : k + 2] for k in range(0, dashed.shape[1] - 1, 2)]), WHITE_LINE)


def _edges(centre: np.ndarray, width: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left and right edges [K, P, 2] of lanes from centrelines [K, P, 2] and widths [K]."""
    direction = np.gradient(centre, axis=1) if len(centre) else centre
    length = np.maximum(np.linalg.norm(direction, axis=-1, keepdims=True), 1e-6)
    normal = np.stack((-direction[..., 1], direction[..., 0]), -1) / length
    offset = normal * width[:, None, None] / 2
    return centre + offset, centre - offset


def _draw_route(canvas: _Canvas, scene: Scene) -> None:
    points = scene.route.points[0].double().numpy()
    near = points[np.abs(points - canvas._origin).max(-1) < canvas.reach]
    if len(near) > 1:
        canvas.lines([near], ROUTE, 2)


def _draw_signals(canvas: _Canvas, scene: Scene) -> None:
    lines, states = scene.road.stop_line[0].double().numpy(), scene.signals[0].numpy()
    shown = (scene.road.signal_lane[0].numpy() >= 0) & canvas.near(lines)
    for line, state in zip(lines[shown], states[shown], strict=True):
        canvas.lines([line], SIGNAL_COLOURS[SignalState(int(state))], 3)


def _draw_scenery(canvas: _Canvas, scene: Scene) -> None:
    boxes, kind = scene.road.scenery[0].double(), scene.road.scenery_kind[0].numpy()
    near = (kind > SceneryKind.NONE) & canvas.near(boxes[:, None, :2].numpy())
    boxes = boxes[torch.from_numpy(near)]
    corners = box_corners(boxes[:, :2], boxes[:, 2], boxes[:, 3], boxes[:, 4]).numpy()
    radius = boxes[:, 4].numpy() / 2
    for row, colour in enumerate(scene.road.scenery_colour[0][near].numpy()):
        if kind[near][row] in BUILDINGS:
            canvas.fill(corners[row][None], _rgb(colour))
        else:
            canvas.disc(corners[row].mean(0), float(radius[row]), _rgb(colour))


def _draw_agents(canvas: _Canvas, scene: Scene) -> None:
    agents = scene.agents
    seen = agents.valid[0]
    if not bool(seen.any()):
        return
    state, kind = agents.state[0][seen].double(), agents.kind[0][seen].numpy()
    corners = box_corners(state[:, :2], state[:, 2], state[:, 5], state[:, 6]).numpy()
    colour, brake = agents.colour[0][seen].numpy(), agents.brake[0][seen].numpy()
    for row in np.flatnonzero(canvas.near(corners)):
        if kind[row] == AgentKind.PEDESTRIAN:
            canvas.disc(corners[row].mean(0), 0.8, _rgb(colour[row]))
            continue
        canvas.fill(corners[row][None], _rgb(colour[row]))
        canvas.lines([corners[row][[0, 3]]], (230, 230, 230))
        if brake[row]:
            canvas.lines([corners[row][[1, 2]]], SIGNAL_COLOURS[SignalState.RED], 2)


def _rgb(colour: np.ndarray) -> Colour:
    red, green, blue = np.clip(colour * 255, 0, 255).astype(int).tolist()
    return red, green, blue

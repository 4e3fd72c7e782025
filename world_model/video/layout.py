"""The layout: what the map and a tracker know of the camera's view, as image channels, and how every pixel moved.

It holds lanes, junctions, verges, pavements, markings, stop lines and 2.5-D scenery from the map, and agents' boxes with kind, parts,
base colour and brake lights; of a renderer only which face is seen in a fine pixel: no shading, no grain, no light. Buildings have bays
and storeys of about 3.2 m, with windows as their kind says, some of them lit, and low ones a pitched roof; trees have round or conical
crowns; the ground is darker under road users and trees; wet roads mirror lamps. It is the condition of the video model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...batched import Batched
from ...bodies import AGENT_REACH, shapes_of
from ...camera import CAMERA, Camera
from ...facades import FOOT, GLASS, window_patterns
from ...lamps import mirrored
from ...light import SHADOW, SLIDES, TREE_SHADE_REACH, triangles, under_boxes
from ...roadside import HEAD_SIZE, KERB_COLOUR, LENS_COLOURS, LENS_REACH, LENSES, PAVEMENT_COLOUR
from ...scene import Appearance, Scene
from . import raster
from .faces import Face
from .ground_light import add_gleam, average_shade, lay_shade
from .mesh import MeshCache, RoadMesh
from .road_users import TABLES, agent_faces
from .sharing import shared
from .signals import signal_faces
from .windows import draw_windows

CHANNELS = (
    "ground", "road", "junction", "edge", "dash", "centre", "stop",
    "body", "cabin", "wheel", "front_lamp", "rear_lamp", "brake_lamp", "person",
    "building", "tree", "pole", "signal", "red", "yellow", "green",
    "colour_r", "colour_g", "colour_b", "normal_x", "normal_y", "normal_z", "inverse_depth", "height",
    "along", "across", "up", "window", "lit", "verge", "pavement", "shade", "facade", "stop_lamp", "display",
)  # fmt: skip
CHANNEL = {name: index for index, name in enumerate(CHANNELS)}
SCENERY_CHANNELS = tuple(CHANNEL[name] for name in ("building", "tree", "pole"))
AGENT_CHANNELS = tuple(CHANNEL[n] for n in ("body", "cabin", "wheel", "front_lamp", "rear_lamp", "brake_lamp", "person"))
SIGNAL_CHANNELS = tuple(CHANNEL[name] for name in ("signal", "red", "yellow", "green"))
MARKING_CHANNELS = tuple(CHANNEL[name] for name in ("edge", "dash", "centre", "stop"))
COVER_CHANNELS = slice(CHANNEL["ground"], CHANNEL["green"] + 1)  # what a pixel shows; they add up to 1, to 0 in the sky
COLOUR = slice(CHANNEL["colour_r"], CHANNEL["colour_b"] + 1)  # base colours, of open ground what it mirrors
REACH = 260.0  # m, how far the layout sees
FARTHER = {Face.TREE: 330.0, Face.BUILDING: 330.0}  # m, how far what stands out against the sky
WALL_REACH = 700.0  # m, walls with windows
NEAREST = 2.5  # m, the depth at which its inverse, kept as a square root, is 1
MAX_MOVING_FACES = 4000
_NEAR = np.full(MAX_MOVING_FACES, REACH, np.float32)  # of faces that move how far they are seen, m
_WIDE = np.full(MAX_MOVING_FACES, 30.0, np.float32)  # and what none of them is longer than, m
SUPERSAMPLING = 3  # as the reference world paints, so that the edges of both cover the same part of a pixel

_FACE_CHANNEL = {
    Face.VERGE: "verge", Face.PAVEMENT: "pavement", Face.KERB: "pavement", Face.ROAD: "road", Face.JUNCTION: "junction",
    Face.EDGE: "edge", Face.DASH: "dash", Face.CENTRE: "centre", Face.STOP: "stop",
    Face.BODY: "body", Face.CABIN: "cabin", Face.WHEEL: "wheel", Face.FRONT_LAMP: "front_lamp", Face.REAR_LAMP: "rear_lamp",
    Face.STOP_LAMP: "stop_lamp", Face.DISPLAY: "display",
    Face.BRAKE_LAMP: "brake_lamp", Face.PERSON: "person", Face.BUILDING: "building", Face.TREE: "tree", Face.POLE: "pole",
    Face.SIGNAL_HOUSING: "signal", Face.SIGNAL_RED: "red", Face.SIGNAL_YELLOW: "yellow", Face.SIGNAL_GREEN: "green",
}  # fmt: skip


@dataclass(frozen=True)
class Layout(Batched):
    """Layout of a view and how its pixels moved since the view before."""

    channels: Tensor  # [B, len(CHANNELS), H, W] uint8, 0 to 255; of depth the square root of NEAREST / depth; see also `raster.motion`
    flow: Tensor  # [B, 2, H, W] float32, where each pixel was in the previous image (u right, v down, pixels; centre of the first: 0.5)


def _rows() -> NDArray[np.uint8]:
    rows = np.zeros((max(Face) + 1, len(CHANNELS)), np.uint8)
    for face, name in _FACE_CHANNEL.items():
        rows[face, CHANNEL[name]] = 255
    rows[[Face.VERGE, Face.PAVEMENT, Face.KERB], CHANNEL["ground"]] = 255  # kinds of it
    rows[Face.STOP_LAMP, CHANNEL["rear_lamp"]] = rows[Face.DISPLAY, CHANNEL["front_lamp"]] = 255  # kinds of these
    rows[Face.KERB, COLOUR] = np.round(255 * (np.array(KERB_COLOUR) - PAVEMENT_COLOUR))  # how much brighter it is
    return rows


_GLASS = np.array(GLASS)
_ROWS = _rows()  # [Face, C] channels of a face of each kind


def _palette(classes: NDArray, normals: NDArray, colours: NDArray) -> NDArray[np.uint8]:
    """Rows [F, C] of layout channels for standing faces."""
    palette = _ROWS[classes]
    palette[:, CHANNEL["normal_x"] : CHANNEL["normal_z"] + 1] = np.round(127.5 + 127.5 * normals)
    palette[:, COLOUR] = np.round(255 * np.clip(colours, 0, 1))
    return palette


@dataclass(frozen=True)
class _View:
    """Which face is nearest in each fine pixel; faces from `fixed` on are those of road users and signals."""

    pose: NDArray[np.float64]  # x, y, heading of the ego
    agents: NDArray[np.float64]  # [N, 8] as `Agents.state`
    buffer: NDArray[np.int32]  # [h, w] index of the face, raster.BACKGROUND where there is none
    inverse_depth: NDArray[np.float32]  # [h, w] of standing faces
    static: NDArray[np.uint8]  # [fixed, C] channels of the faces that stand still
    classes: NDArray[np.int64]  # [n] Face of the others
    normals: NDArray[np.float32]  # [n, 3]
    owner: NDArray[np.int64]  # [n] slot of the road user, or -2 - s of signal s
    colours: NDArray[np.float32]  # [n, 3] in [0, 1]
    lamps: tuple[NDArray[np.float32], NDArray[np.float32]] | None  # on a wet road: faces [k, 4, 3] as it mirrors them, and colours [k, 3]
    mesh: RoadMesh

    @property
    def fixed(self) -> int:
        """Number of faces that stand still."""
        return len(self.static)


def _shade_of_road_users(scene: Scene) -> list[tuple[NDArray[np.float32], float]]:
    """Triangles of ground [K, 3, 2] under the road users of each scene, and how much light gets there."""
    looks = scene.appearance.numpy()
    looks = np.where((looks >= 0) & (looks < len(Appearance)), looks, int(Appearance.OVERCAST))
    valid = scene.agents.valid.numpy()
    slides = SLIDES[looks].repeat(valid.sum(1), 0)
    patches = triangles(under_boxes(scene.agents.state.numpy()[valid], slides))
    each = np.split(patches, 2 * np.cumsum(valid.sum(1))[:-1])
    return [(some, SHADOW[Appearance(look)]) for some, look in zip(each, looks, strict=True)]


class LayoutRasteriser:
    """Draws layouts of scenes for one camera; keeps the meshes of the road maps it saw last."""

    def __init__(self, camera: Camera = CAMERA, supersampling: int = SUPERSAMPLING) -> None:
        self.camera = camera
        self.factor = supersampling
        self._meshes = MeshCache()
        self._palettes: dict[int, tuple[RoadMesh, NDArray[np.uint8], NDArray[np.float32]]] = {}
        fine = camera.scaled(supersampling)
        self._shape = (fine.height, fine.width)
        self._optics = np.asarray([fine.focal, camera.above_ground, camera.forward, camera.pitch])
        self._ground = np.zeros(len(CHANNELS), np.uint8)
        self._ground[CHANNEL["ground"]] = 255

    def _static(self, mesh: RoadMesh) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Of the faces that stand still the channels [fixed, C], and of the solid ones how far they are seen [Q], m."""
        known = self._palettes.get(id(mesh))
        if known is None or known[0] is not mesh:
            if len(self._palettes) > 64:
                self._palettes.clear()
            standing = _palette(mesh.solid_class, mesh.solid_normal, mesh.solid_colour)
            standing[mesh.solid_windows[:, 0] > 0, CHANNEL["facade"]] = 255
            reach = np.array([FARTHER.get(Face(face), REACH) for face in mesh.solid_class], np.float32)
            reach[mesh.solid_windows[:, 0] > 0] = WALL_REACH
            known = (mesh, np.concatenate((_ROWS[mesh.ground_class], standing)), reach)
            self._palettes[id(mesh)] = known
        return known[1], known[2]

    @torch.no_grad()
    def __call__(self, scene: Scene, previous: Scene | None = None) -> Layout:
        """Layout of scenes [B]; `previous` are the same episodes one step before (without it, flow says nothing moved).

        Agents are matched with the previous scene by slot and id; a new one counts as standing in the world.
        """
        batch = scene.batch_size
        height, width = self.camera.height, self.camera.width
        channels = np.empty((batch, len(CHANNELS), height, width), np.uint8)
        flow = np.empty((batch, 2, height, width), np.float32)
        shade = _shade_of_road_users(scene)
        for b in range(batch):  # before threads ask for them
            self._meshes.get(scene.road, b)

        def draw(begin: int, end: int) -> None:
            for b in range(begin, end):
                self._draw(scene, previous, b, shade[b], channels[b], flow[b])

        shared(draw, batch)
        return Layout(torch.from_numpy(channels), torch.from_numpy(flow))

    @torch.no_grad()
    def instances(self, scene: Scene) -> Tensor:
        """What is nearest in each pixel, int64 [B, H, W]: slot n of a road user, -2 - s of signal s, -1 of anything else.

        A pixel of the layout averages several finer ones; this is the finer one right below its centre.
        """
        out = np.empty((scene.batch_size, self.camera.height, self.camera.width), np.int64)
        half = self.factor // 2
        for b in range(scene.batch_size):
            view = self._see(scene, b)
            owner = np.concatenate((view.owner, [-1]))  # the last one is of what does not move
            face = view.buffer[half :: self.factor, half :: self.factor] - view.fixed
            out[b] = owner[np.where(face >= 0, face, len(owner) - 1)]
        return torch.from_numpy(out)

    def _see(self, scene: Scene, b: int) -> _View:
        """Draw which face is nearest in each fine pixel."""
        mesh = self._meshes.get(scene.road, b)
        static, reach = self._static(mesh)
        pose = scene.ego.state[b, :3].double().numpy()
        agents = scene.agents
        quads = np.empty((MAX_MOVING_FACES, 4, 3), np.float32)
        normals = np.empty((MAX_MOVING_FACES, 3), np.float32)
        classes = np.empty(MAX_MOVING_FACES, np.int64)
        owner = np.empty(MAX_MOVING_FACES, np.int64)
        colours = np.empty((MAX_MOVING_FACES, 3), np.float32)
        gleams = np.empty((MAX_MOVING_FACES, 3), np.float32)
        faces = (quads, normals, classes, owner, colours, gleams)
        state = agents.state[b].double().numpy()
        n = agent_faces(
            state, shapes_of(agents.kind[b].numpy(), state[:, 7]), agents.valid[b].numpy(), agents.brake[b].numpy(),
            agents.colour[b].numpy(), TABLES, pose, self.camera.forward, AGENT_REACH, int(Face.REAR_LAMP), int(Face.STOP_LAMP),
            int(Face.BRAKE_LAMP), faces, 0,
        )  # fmt: skip
        n = signal_faces(
            scene.road.signal_head[b].double().numpy(), scene.signals[b].numpy(), pose, self.camera.forward, REACH, LENS_REACH,
            int(Face.SIGNAL_HOUSING), int(Face.SIGNAL_RED), HEAD_SIZE, LENSES, LENS_COLOURS, faces, n,
        )  # fmt: skip
        buffer = np.full(self._shape, raster.BACKGROUND, np.int32)
        inverse_depth = np.zeros(self._shape, np.float32)
        raster.draw_ground(mesh.ground, mesh.ground_extent, 0, pose, self._optics, REACH, buffer)
        drawn = (buffer, inverse_depth)
        raster.draw_solid(mesh.solid, mesh.solid_normal, mesh.solid_extent, len(mesh.ground), pose, self._optics, reach, *drawn)
        raster.draw_solid(quads[:n], normals[:n], _WIDE[:n], len(static), pose, self._optics, _NEAR[:n], *drawn)
        lamps = None
        if int(scene.appearance[b]) == Appearance.RAIN:
            eye = pose[:2] + self.camera.forward * np.array((np.cos(pose[2]), np.sin(pose[2])))
            shining = gleams[:n].any(1) & (((eye - quads[:n, 0, :2]) * normals[:n, :2]).sum(1) > 0)
            lamps = (mirrored(quads[:n][shining]), gleams[:n][shining])
        return _View(pose, state, buffer, inverse_depth, static, classes[:n], normals[:n], owner[:n], colours[:n], lamps, mesh)

    def _draw(
        self,
        scene: Scene,
        previous: Scene | None,
        b: int,
        shade: tuple[NDArray, float],
        channels: NDArray[np.uint8],
        flow: NDArray[np.float32],
    ) -> None:
        view = self._see(scene, b)
        agents, pose, state = scene.agents, view.pose, view.agents
        moving = _palette(view.classes, view.normals, view.colours)
        focal, above, _, pitch = self._optics
        faces = np.empty(channels.shape[1:], np.int32)
        depths = np.empty(channels.shape[1:], np.float32)
        raster.compose(
            view.buffer, view.inverse_depth, view.static, moving, self._ground, above, focal, pitch, self.factor,
            CHANNEL["inverse_depth"], CHANNEL["height"], channels, faces, depths,
        )  # fmt: skip
        if view.lamps is not None:
            add_gleam(*view.lamps, pose, self._optics, self.factor, view.inverse_depth, channels[COLOUR])
        self._shade(view, *shade, channels[CHANNEL["shade"]])
        before = scene if previous is None else previous
        agent_before = state[:, :3].copy()
        if previous is not None:
            same = agents.valid[b] & previous.agents.valid[b] & (previous.agents.id[b] == agents.id[b])
            agent_before[same.numpy()] = previous.agents.state[b, :, :3].double().numpy()[same.numpy()]
        mesh = view.mesh
        glass, light = window_patterns(int(scene.appearance[b]))
        draw_windows(
            view.buffer, len(mesh.ground), mesh.solid, mesh.solid_normal, mesh.solid_colour, mesh.solid_windows,
            glass, _GLASS, FOOT, light, pose, self._optics, self.factor, channels[CHANNEL["building"]], channels[CHANNEL["window"]],
            channels[CHANNEL["lit"]], channels[COLOUR],
        )  # fmt: skip
        raster.motion(
            faces, depths, view.fixed, view.owner, state[:, :3].copy(), agent_before,
            pose, before.ego.state[b, :3].double().numpy(), self._optics, self.factor, flow,
            state[:, 5:8].copy(), channels[CHANNEL["along"] : CHANNEL["up"] + 1],
        )  # fmt: skip

    def _shade(self, view: _View, boxes: NDArray[np.float32], light: float, out: NDArray[np.uint8]) -> None:
        """Darken the ground [H, W] under trees and in triangles [K, 3, 2] under road users, which let through some of the light."""
        layers = np.zeros(self._shape, np.uint8)
        seen = np.array([self._shape[0], -1, self._shape[1], -1])
        lay_shade(view.mesh.shade, TREE_SHADE_REACH, view.pose, self._optics, layers, seen)
        lay_shade(boxes, AGENT_REACH, view.pose, self._optics, layers, seen)
        average_shade(layers, light, view.inverse_depth, seen, self.factor, out)


def unit(channels: Tensor) -> Tensor:
    """Channels of a layout in [0, 1], of some in [0, 1] or of whole numbers up to 255."""
    return channels.float().mul_(1 / 255) if channels.dtype == torch.uint8 else channels


_SKY, _GRASS = (150.0, 190.0, 235.0), (85.0, 125.0, 60.0)
_FLAT = {
    "ground": _GRASS, "road": (80.0, 80.0, 84.0), "junction": (80.0, 80.0, 84.0), "edge": (235.0, 235.0, 235.0),
    "dash": (235.0, 235.0, 235.0), "centre": (240.0, 200.0, 40.0), "stop": (240.0, 240.0, 240.0), "cabin": (25.0, 28.0, 35.0),
    "wheel": (20.0, 20.0, 20.0), "front_lamp": (245.0, 240.0, 210.0), "rear_lamp": (120.0, 10.0, 10.0),
    "brake_lamp": (255.0, 30.0, 20.0), "signal": (15.0, 15.0, 15.0), "red": (255.0, 30.0, 20.0), "yellow": (250.0, 200.0, 30.0),
    "green": (30.0, 220.0, 70.0),
}  # fmt: skip


_BESIDE = {"verge": (115.0, 115.0, 85.0), "pavement": (150.0, 150.0, 145.0)}  # instead of grass


def composite(layout: Layout) -> Tensor:
    """The unlearned picture of a layout: flat colours and base colours, darker in the shade, uint8 [B, H, W, 3]; a baseline, no model."""
    channels = layout.channels.float() / 255
    painted = torch.zeros(channels.shape[0], 3, *channels.shape[2:])
    cover = torch.zeros_like(channels[:, :1])
    for name, colour in _FLAT.items():
        weight = channels[:, CHANNEL[name]].unsqueeze(1)
        painted += weight * torch.tensor(colour).view(1, 3, 1, 1)
        cover += weight
    for name, colour in _BESIDE.items():
        painted += channels[:, CHANNEL[name]].unsqueeze(1) * (torch.tensor(colour) - torch.tensor(_GRASS)).view(1, 3, 1, 1)
    for name in ("body", "person", "building", "tree", "pole"):
        cover += channels[:, CHANNEL[name]].unsqueeze(1)
    painted += 255 * channels[:, COLOUR]
    painted *= 1 - channels[:, [CHANNEL["shade"]]]
    painted += (1 - cover).clamp(0, 1) * torch.tensor(_SKY).view(1, 3, 1, 1)
    return painted.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def without_scenery(channels: Tensor) -> tuple[Tensor, Tensor]:
    """Layout channels [B, C, H, W] (uint8 or float) as for logs that have no scenery, and where any was [B, 1, H, W] bool.

    Buildings, trees, poles and all shade are taken out.
    """
    top = 255 if channels.dtype == torch.uint8 else 1.0
    scenery = channels[:, list(SCENERY_CHANNELS)]
    keep = (scenery.float().sum(1, keepdim=True) < 0.5 * top).to(channels.dtype)
    out = channels * keep
    out[:, [*SCENERY_CHANNELS, *(CHANNEL[name] for name in ("shade", "facade", "window", "lit"))]] = 0
    return out, (scenery > 0).any(1, keepdim=True)

"""The scene graph behind the reference camera: tiles of the landscape shown by distance, road users replaced every frame."""

from __future__ import annotations

import functools
import math
import zlib
from collections import OrderedDict
from typing import Any

import numpy as np

from ..bodies import AGENT_REACH
from ..camera import Camera
from ..lamps import GLEAM, LENS_FACE, LENS_LIT, SIGNAL_GLEAM, mirrored
from ..light import SLIDES, TREE_SHADE_REACH, under_boxes
from ..road import BUILDINGS, RoadMap, SceneryKind
from ..roadside import LENS_COLOURS, LENS_REACH, LENSES
from ..scene import Appearance, Scene
from . import panda, textures
from .atmosphere import FADE_RANGE, LOOKS, Look, haze_ramp
from .bodies import pose_bodies
from .landscape import Landscape, build_landscape
from .meshes import Array, Mesh, face_normals, flat, quads
from .panda import p3d

TILE = 80.0  # m
NEAR, FAR = 0.5, 900.0  # m
FLAT_REACH = {"verge": 250.0, "pavement": 200.0, "road": 400.0, "marking": 150.0, "shade": TREE_SHADE_REACH}  # m
SOLID_REACH, FACADE_REACH = 330.0, 700.0  # m
SUBPIXEL = 0.25  # rendered pixels by which the rasteriser, cutting coordinates to whole pixels, draws too far left and up
KEPT_LANDSCAPES, KEPT_SETS = 48, 8
FLAT_ORDER = ("ground", "verge", "pavement", "road", "marking", "shade", "ground fade", "gleam")  # painted in this order, without depth
STANDING_ORDER = ("facade", "facade fade", "solid")
_GRASS = np.array((0.36, 0.47, 0.24), np.float32)


@functools.cache
def _haze_texture(look: Look) -> Any:
    return panda.texture(np.tile(haze_ramp(look)[None, :, None], (4, 1, 4)), smooth=False, repeat=False)


@functools.cache
def _asphalt_texture() -> Any:
    return panda.texture(textures.asphalt(), smooth=True)


@functools.cache
def _grass_texture(town: bool) -> Any:
    return panda.texture(textures.grass(town), smooth=True)


@functools.cache
def _facade_texture(kind: SceneryKind, appearance: Appearance) -> Any:
    return panda.texture(textures.facade(kind, appearance), smooth=True)


@functools.lru_cache(maxsize=8)
def stage_of(camera: Camera, supersample: int) -> Stage:
    """The stage that all cameras of one size share."""
    return Stage(camera, supersample)


class Stage:
    """Draws one scene at a time into premultiplied blue, green, red and cover."""

    def __init__(self, camera: Camera, supersample: int) -> None:
        self._camera = camera
        self._size = (camera.width * supersample, camera.height * supersample)
        self._buffer, self._target = panda.open_buffer(*self._size)
        lens = p3d.PerspectiveLens()
        lens.set_film_size(camera.width, camera.height)
        lens.set_focal_length(camera.focal)
        lens.set_film_offset(-SUBPIXEL / supersample, SUBPIXEL / supersample)
        lens.set_near_far(NEAR, FAR)
        self._eye = p3d.NodePath(p3d.Camera("eye", lens))
        self._buffer.make_display_region().set_camera(self._eye)
        self._landscapes: OrderedDict[int, Landscape] = OrderedDict()
        self._sets: OrderedDict[tuple[Any, ...], _Set] = OrderedDict()

    def draw(self, scene: Scene, appearance: Appearance) -> np.ndarray:
        """Pixels [kH, kW, 4] uint8 of a scene [1], bottom row first; valid until the next call."""
        stage = self._set(scene.road, appearance)
        x, y, heading = (float(v) for v in scene.ego.state[0, :3])
        ahead = np.array((math.cos(heading), math.sin(heading)))
        eye = np.array((x, y)) + self._camera.forward * ahead
        self._eye.reparent_to(stage.root)
        self._eye.set_pos_hpr(
            float(eye[0]), float(eye[1]), self._camera.above_ground, math.degrees(heading) - 90.0, math.degrees(self._camera.pitch), 0.0
        )
        stage.show(eye, ahead, scene)
        self._buffer.set_active(True)
        panda.engine().render_frame()
        self._buffer.set_active(False)
        return np.frombuffer(self._target.get_ram_image(), np.uint8).reshape(self._size[1], self._size[0], 4)

    def _set(self, road: RoadMap, appearance: Appearance) -> _Set:
        digest = _digest(road)
        key = (digest, appearance)
        if key not in self._sets:
            if digest not in self._landscapes:
                self._landscapes[digest] = build_landscape(road)
            self._sets[key] = _Set(self._landscapes[digest], appearance)
            _forget(self._landscapes, KEPT_LANDSCAPES)
            _forget(self._sets, KEPT_SETS)
        self._sets.move_to_end(key)
        return self._sets[key]


def _digest(road: RoadMap) -> int:
    """A checksum of all that the landscape is built from."""
    drawn = (
        "centreline",
        "width",
        "speed_limit",
        "kind",
        "left_border",
        "right_border",
        "junctions",
        "stop_line",
        "signal_head",
        "signal_lane",
        "scenery",
    )
    value = 0
    for name in (*drawn, "scenery_colour", "scenery_kind"):
        tensor = getattr(road, name).contiguous()
        value = zlib.crc32(str(tuple(tensor.shape)).encode(), zlib.crc32(tensor.numpy(), value))
    return value


def _forget(kept: OrderedDict[Any, Any], most: int) -> None:
    while len(kept) > most:
        kept.popitem(last=False)


class _Set:
    """One landscape in one light, and what moves on it."""

    def __init__(self, landscape: Landscape, appearance: Appearance) -> None:
        self.root = p3d.NodePath("root")
        look = LOOKS[appearance]
        self._look, self._appearance, self._landscape = look, appearance, landscape
        self._fade = self._fade_texture()
        self._layers = {name: self._layer(name) for name in (*FLAT_ORDER, *STANDING_ORDER)}
        self._texture_ground()
        self._tiles = _Tiles()
        for name, mesh in landscape.flat.items():
            self._add(self._layers[name], mesh, look.wet if name == "road" else 1.0, FLAT_REACH[name])
        self._add_shade(landscape.shade)
        self._add(self._layers["solid"], landscape.solid, 1.0, SOLID_REACH)
        for kind, mesh in zip(BUILDINGS, landscape.facades, strict=True):
            self._add_facade(_facade_texture(kind, appearance), mesh)
        self._tiles.finish()
        ground = _ground(look)
        self._grounds = [self._layers[name].attach_new_node(ground) for name in ("ground", "ground fade")]
        self._agents, self._shade, self._gleam = panda.QuadSoup("agents"), panda.QuadSoup("shade", 16), panda.QuadSoup("gleam", 32)
        self._layers["solid"].attach_new_node(self._agents.node)
        self._layers["shade"].attach_new_node(self._shade.node)
        self._layers["gleam"].attach_new_node(self._gleam.node)

    def _fade_texture(self) -> Any:
        """Multiplies everything, cover included, by what haze leaves of it at its depth.

        The renderer loses the cover of what has two textures, so textured things are faded by a second, multiplying pass.
        """
        stage = p3d.TextureStage("fade")
        self.root.set_texture(stage, _haze_texture(self._look))
        self.root.set_tex_gen(stage, p3d.TexGenAttrib.M_eye_position)
        onto_depth = p3d.LMatrix4(0, 0, 0, 0, 1 / FADE_RANGE, 0, 0, 0, 0, 0, 0, 0, 0, 0.5, 0, 1)
        self.root.set_tex_transform(stage, p3d.TransformState.make_mat(onto_depth))
        return stage

    def _layer(self, name: str) -> Any:
        node = self.root.attach_new_node(name)
        if name in FLAT_ORDER:
            node.set_bin("background", FLAT_ORDER.index(name))
            node.set_depth_write(False)
            node.set_depth_test(False)
            node.set_two_sided(True)
        else:
            node.set_bin("fixed", STANDING_ORDER.index(name))
        if name == "shade" or name.endswith("fade"):
            node.set_attrib(
                p3d.ColorBlendAttrib.make(p3d.ColorBlendAttrib.M_add, p3d.ColorBlendAttrib.O_zero, p3d.ColorBlendAttrib.O_incoming_color)
            )
        if name == "gleam":
            node.set_attrib(p3d.ColorBlendAttrib.make(p3d.ColorBlendAttrib.M_add, p3d.ColorBlendAttrib.O_one, p3d.ColorBlendAttrib.O_one))
            node.set_attrib(p3d.ColorWriteAttrib.make(7))
        elif name.endswith("fade"):
            node.set_color(p3d.LColor(1, 1, 1, 1), 1)
            node.set_depth_write(False)
            node.set_depth_offset(1)  # over what was drawn at this very depth
        elif name != "solid":
            node.set_texture_off(self._fade, 1)
        return node

    def _texture_ground(self) -> None:
        """Grain on asphalt and grass, fixed to the world."""
        for name, texture, span in (
            ("ground", _grass_texture(self._landscape.town), textures.GRASS_SPAN),
            ("road", _asphalt_texture(), textures.ASPHALT_SPAN),
        ):
            stage = p3d.TextureStage(name)
            self._layers[name].set_texture(stage, texture)
            self._layers[name].set_tex_gen(stage, p3d.TexGenAttrib.M_world_position)
            self._layers[name].set_tex_scale(stage, 1 / span, 1 / span)

    def _add(self, layer: Any, mesh: Mesh, factor: float, reach: float) -> None:
        self._show_in_tiles([layer], mesh, self._look.shade(mesh.normal) * mesh.albedo * factor, reach)

    def _add_shade(self, mesh: Mesh) -> None:
        self._show_in_tiles([self._layers["shade"]], mesh, np.full_like(mesh.position, self._look.shadow), FLAT_REACH["shade"])

    def _add_facade(self, windows: Any, mesh: Mesh) -> None:
        look = self._look
        light = look.shade(mesh.normal)
        if look.lamps and not look.rain:
            light = light / light.max(1, keepdims=True).clip(1e-3)
        layer = self._layers["facade"].attach_new_node("windows")
        layer.set_texture(p3d.TextureStage("windows"), windows)
        self._show_in_tiles([layer, self._layers["facade fade"]], mesh, light * mesh.albedo, FACADE_REACH)

    def _show_in_tiles(self, layers: list[Any], mesh: Mesh, colour: Array, reach: float) -> None:
        lit = Mesh(mesh.position, colour, mesh.normal, mesh.triangles, mesh.uv)
        for (i, j), tile in lit.tiles(TILE).items():
            node = panda.geom_node(tile, tile.albedo)
            for layer in layers:
                self._tiles.add(layer.attach_new_node(node), i, j, reach)

    def show(self, eye: np.ndarray, ahead: np.ndarray, scene: Scene) -> None:
        """Bring the set into the state of a scene [1] seen from `eye` [2] towards `ahead` [2]."""
        self._tiles.choose(eye, ahead)
        for ground in self._grounds:
            ground.set_pos(float(eye[0]), float(eye[1]), 0.0)
        agents = scene.agents
        state = agents.state[0].numpy()
        offset = state[:, :2] - eye
        depth = offset @ ahead
        near = agents.valid[0].numpy() & (np.hypot(offset[:, 0], offset[:, 1]) < AGENT_REACH) & (depth > -12.0)
        rows = np.flatnonzero(near)
        state = state[rows]
        kinds, brakes, paints = agents.kind[0].numpy()[rows], agents.brake[0].numpy()[rows], agents.colour[0].numpy()[rows]
        corners, colours, shining = pose_bodies(state, kinds, brakes, paints, self._look)
        lens_corners, lens_colours = self._lenses(eye, ahead, scene.signals[0].numpy())
        self._agents.set(np.concatenate((corners, lens_corners)), np.concatenate((colours, lens_colours)))
        dark = flat(under_boxes(state, SLIDES[self._appearance]))
        self._shade.set(dark, np.full((len(dark), 3), self._look.shadow, np.float32))
        if self._look.rain:
            face = np.arange(len(lens_colours)) % LENSES.shape[1]
            lit = (lens_colours.max(1, initial=0) > LENS_LIT) & (face == LENS_FACE)
            faces = np.concatenate((corners[shining], lens_corners[lit]))
            paint = np.concatenate((GLEAM * colours[shining], SIGNAL_GLEAM * lens_colours[lit]))
            seen = ((eye - faces[:, 0, :2]) * face_normals(faces)[:, :2]).sum(1) > 0
            self._gleam.set(mirrored(faces[seen]), paint[seen])

    def _lenses(self, eye: np.ndarray, ahead: np.ndarray, signals: np.ndarray) -> tuple[Array, Array]:
        offset = self._landscape.lens_position - eye
        depth = offset @ ahead
        real = self._landscape.lenses[:, 0, 0, 0, 2] != 0
        rows = np.flatnonzero(real & (depth > 0) & (depth < LENS_REACH))
        corners = self._landscape.lenses[rows].reshape(-1, 4, 3)
        return corners, np.repeat(LENS_COLOURS[signals[rows]].reshape(-1, 3), 3, axis=0)


class _Tiles:
    """Nodes that are shown while they are near enough and not behind."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._where: list[tuple[float, float, float]] = []

    def add(self, node: Any, i: int, j: int, reach: float) -> None:
        node.hide()
        self._nodes.append(node)
        self._where.append(((i + 0.5) * TILE, (j + 0.5) * TILE, reach))

    def finish(self) -> None:
        where = np.array(self._where, np.float64).reshape(-1, 3)
        self._centre, self._reach = where[:, :2], where[:, 2]
        self._shown = np.zeros(len(where), bool)

    def choose(self, eye: np.ndarray, ahead: np.ndarray) -> None:
        offset = self._centre - eye
        shown = (np.hypot(offset[:, 0], offset[:, 1]) < self._reach) & (offset @ ahead > -1.5 * TILE)
        for k in np.flatnonzero(shown != self._shown):
            if shown[k]:
                self._nodes[k].show()
            else:
                self._nodes[k].hide()
        self._shown = shown


def _ground(look: Look) -> Any:
    steps = np.array([-FAR, -400.0, -150.0, -50.0, 0.0, 50.0, 150.0, 400.0, FAR], np.float32)
    a, b = np.meshgrid(steps[:-1], steps[:-1], indexing="ij")
    c, d = np.meshgrid(steps[1:], steps[1:], indexing="ij")
    corners = np.stack((np.stack((a, b), -1), np.stack((c, b), -1), np.stack((c, d), -1), np.stack((a, d), -1)), 2).reshape(-1, 4, 2)
    mesh = quads(flat(corners), _GRASS)
    return panda.geom_node(mesh, mesh.albedo * look.ground)

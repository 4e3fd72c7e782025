"""The one software-rendering engine of a process: offscreen buffers, nodes from meshes, textures."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SimulatorError
from .meshes import Mesh

try:
    from panda3d import core as p3d
except ImportError as error:
    raise SimulatorError("the reference camera needs Panda3D; run: pip install xpeng-world[reference]") from error

_SETTINGS = """
load-display p3tinydisplay
window-type offscreen
audio-library-name null
notify-level-display error
notify-level-tinydisplay error
"""
_pipe: Any = None

VERTEX = np.dtype([("position", "<f4", 3), ("colour", "u1", 4), ("uv", "<f4", 2)])


def engine() -> Any:
    """The process's graphics engine."""
    return p3d.GraphicsEngine.get_global_ptr()


def _offscreen_pipe() -> Any:
    global _pipe
    if _pipe is None:
        p3d.load_prc_file_data("xpeng-world", _SETTINGS)
        _pipe = p3d.GraphicsPipeSelection.get_global_ptr().make_pipe("TinyOffscreenGraphicsPipe", "p3tinydisplay")
        if _pipe is None:
            raise SimulatorError("Panda3D has no software renderer here; reinstall it: pip install --force-reinstall panda3d")
    return _pipe


def open_buffer(width: int, height: int) -> tuple[Any, Any]:
    """An inactive offscreen buffer cleared to transparent black, and the texture its frames are copied to."""
    properties = p3d.FrameBufferProperties()
    properties.set_rgb_color(True)
    properties.set_alpha_bits(8)
    properties.set_depth_bits(24)
    size = p3d.WindowProperties.size(width, height)
    buffer = engine().make_output(_offscreen_pipe(), "camera", 0, properties, size, p3d.GraphicsPipe.BF_refuse_window)
    if buffer is None:
        raise SimulatorError(f"Panda3D opened no offscreen buffer of {width}x{height} pixels; reinstall panda3d")
    target = p3d.Texture("camera")
    buffer.add_render_texture(target, p3d.GraphicsOutput.RTM_copy_ram)
    buffer.set_clear_color(p3d.LColor(0, 0, 0, 0))
    buffer.set_active(False)
    return buffer, target


def texture(texels: npt.NDArray[np.float32], smooth: bool, repeat: bool = True) -> Any:
    """A texture of red, green, blue, alpha texels [H, W, 4] in [0, 1], rows upward; sizes are powers of two."""
    height, width = texels.shape[:2]
    out = p3d.Texture()
    out.setup_2d_texture(width, height, p3d.Texture.T_unsigned_byte, p3d.Texture.F_rgba)
    out.set_ram_image_as(np.ascontiguousarray((texels.clip(0, 1) * 255 + 0.5).astype(np.uint8)).tobytes(), "RGBA")
    wrap = p3d.SamplerState.WM_repeat if repeat else p3d.SamplerState.WM_clamp
    out.set_wrap_u(wrap)
    out.set_wrap_v(wrap)
    out.set_minfilter(p3d.SamplerState.FT_linear_mipmap_nearest if smooth else p3d.SamplerState.FT_nearest)
    out.set_magfilter(p3d.SamplerState.FT_linear if smooth else p3d.SamplerState.FT_nearest)
    return out


def _vertex_format() -> Any:
    array = p3d.GeomVertexArrayFormat()
    array.add_column(p3d.InternalName.get_vertex(), 3, p3d.Geom.NT_float32, p3d.Geom.C_point)
    array.add_column(p3d.InternalName.get_color(), 4, p3d.Geom.NT_uint8, p3d.Geom.C_color)
    array.add_column(p3d.InternalName.get_texcoord(), 2, p3d.Geom.NT_float32, p3d.Geom.C_texcoord)
    layout = p3d.GeomVertexFormat()
    layout.add_array(array)
    return p3d.GeomVertexFormat.register_format(layout)


def vertices(position: npt.NDArray[np.float32], colour: npt.NDArray[np.float32], uv: npt.NDArray[np.float32] | float = 0.0) -> bytes:
    """Vertex rows of positions [V, 3] and lit colours [V, 3] in [0, 1]."""
    rows = np.empty(len(position), VERTEX)
    rows["position"] = position
    rows["colour"][:, :3] = (colour.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    rows["colour"][:, 3] = 255
    rows["uv"] = uv
    return rows.tobytes()


def geom_node(mesh: Mesh, colour: npt.NDArray[np.float32]) -> Any:
    """A node that draws a mesh with lit colours [V, 3]."""
    data = p3d.GeomVertexData("mesh", _vertex_format(), p3d.Geom.UH_static)
    data.unclean_set_num_rows(len(mesh.position))
    data.modify_array_handle(0).copy_data_from(vertices(mesh.position, colour, mesh.uv))
    node = p3d.GeomNode("mesh")
    node.add_geom(_geom(data, mesh.triangles))
    return node


def _geom(data: Any, triangles: npt.NDArray[np.int64]) -> Any:
    primitive = p3d.GeomTriangles(p3d.Geom.UH_static)
    primitive.set_index_type(p3d.Geom.NT_uint32)
    index = primitive.modify_vertices()
    index.unclean_set_num_rows(triangles.size)
    index.modify_handle().copy_data_from(triangles.astype(np.uint32).tobytes())
    geom = p3d.Geom(data)
    geom.add_primitive(primitive)
    return geom


class QuadSoup:
    """A node whose quadrilaterals are replaced every frame."""

    def __init__(self, name: str, step: int = 128) -> None:
        self.node = p3d.GeomNode(name)
        self.node.set_bounds(p3d.OmniBoundingVolume())
        self.node.set_final(True)
        self._step = step
        self._geoms: dict[int, tuple[Any, Any]] = {}

    def set(self, corners: npt.NDArray[np.float32], colours: npt.NDArray[np.float32]) -> None:
        """Show quadrilaterals [Q, 4, 3] in colours [Q, 3]."""
        count = len(corners)
        self.node.remove_all_geoms()
        if not count:
            return
        room = -(-count // self._step) * self._step
        if room not in self._geoms:
            data = p3d.GeomVertexData("soup", _vertex_format(), p3d.Geom.UH_dynamic)
            data.unclean_set_num_rows(4 * room)
            faces = np.array([[0, 1, 2], [0, 2, 3]]) + 4 * np.arange(room)[:, None, None]
            self._geoms[room] = (data, _geom(data, faces.reshape(-1, 3)))
        data, geom = self._geoms[room]
        position = np.zeros((4 * room, 3), np.float32)
        position[: 4 * count] = corners.reshape(-1, 3)
        position[4 * count :] = corners[-1, -1]
        colour = np.zeros((4 * room, 3), np.float32)
        colour[: 4 * count] = np.repeat(colours, 4, axis=0)
        data.modify_array_handle(0).copy_data_from(vertices(position, colour))
        geom.set_vertex_data(data)
        self.node.add_geom(geom)

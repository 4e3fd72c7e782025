from __future__ import annotations

import numpy as np
import pytest
from xpeng_world import polylines
from xpeng_world.reference import meshes


def area(mesh: meshes.Mesh) -> float:
    a, b, c = (mesh.position[mesh.triangles[:, k]] for k in range(3))
    return float(np.cross(b - a, c - a)[:, 2].sum() / 2)


def test_a_polygon_that_is_not_convex_is_covered_once():
    arrow = np.array([(0, 0), (6, 0), (6, 2), (2, 2), (2, 8), (0, 8)], np.float32)
    for points in (arrow, arrow[::-1]):
        assert area(meshes.polygon(points, 0.5)) == pytest.approx(24.0)


def test_tiles_share_out_every_triangle_once():
    line = np.stack((np.linspace(0, 200, 21), np.zeros(21)), 1).astype(np.float32)
    whole = meshes.flats(polylines.ribbon(line, -1.0, 1.0), 0.5)
    tiles = whole.tiles(64.0)
    assert len(tiles) > 3
    assert sum(len(tile.triangles) for tile in tiles.values()) == len(whole.triangles)
    assert sum(area(tile) for tile in tiles.values()) == pytest.approx(area(whole))


def test_box_faces_look_outward():
    faces = meshes.box(-1, 1, -2, 2, 0, 3)
    outward = ((faces.mean(1) - np.array([0, 0, 1.5])) * meshes.face_normals(faces)).sum(1)
    assert (outward > 0.9).all()


def test_lathe_normals_look_outward():
    points, normals, triangles = meshes.lathe(((0.3, 0.0), (0.5, 0.4), (0.0, 1.0)), 6)
    a, b, c = (points[triangles[:, k]] for k in range(3))
    by_winding = np.cross(b - a, c - a)
    assert ((by_winding * normals[triangles[:, 0]]).sum(1) > 0).all()

from __future__ import annotations

import numpy as np
import pytest
from xpeng_world import polylines

BEND = np.array([(0, 0), (10, 0), (10, 10)], np.float32)


def area(polygons: np.ndarray) -> float:
    """Of polygons [n, V, 2], positive where they are counter-clockwise."""
    x, y = polygons[..., 0].astype(float), polygons[..., 1].astype(float)
    return float(0.5 * (x * np.roll(y, -1, -1) - np.roll(x, -1, -1) * y).sum())


def test_a_ribbon_has_its_width_along_a_bend() -> None:
    assert area(polylines.ribbon(BEND, -1.0, 1.0)) == pytest.approx(40.0)
    assert area(polylines.ribbon(BEND, 1.0, 3.0)) == pytest.approx(2 * (2 * 10 - 2 * 2))
    assert polylines.ribbon(BEND[:1], -1.0, 1.0).shape == (0, 4, 2)


def test_cleaning_keeps_bends_and_drops_repeated_and_straight_points() -> None:
    line = np.array([(0, 0), (0, 0), (5, 0), (10, 0), (10, 10), (10, 10)], np.float32)
    assert polylines.clean(line).tolist() == [[0, 0], [10, 0], [10, 10]]


def test_a_piece_keeps_the_bends_between_its_ends() -> None:
    assert polylines.length(BEND) == pytest.approx(20.0)
    assert polylines.piece(BEND, 4.0, 13.0).tolist() == [[4, 0], [10, 0], [10, 3]]


def test_ears_are_clipped_to_the_polygons_area() -> None:
    concave = np.asarray([(0, 0), (4, 0), (4, 4), (2, 1), (0, 4)], np.float32)
    for polygon in (concave, concave[::-1]):
        triangles = polylines.triangulate(polygon)
        assert len(triangles) == 3
        parts = [area(polygon[[triangle]]) for triangle in triangles]
        assert min(parts) > 0  # counter-clockwise
        assert sum(parts) == pytest.approx(10.0)  # the square of 16 less the notch of 4 * 3 / 2

"""Compiled kernels that rasterise polygons into a visibility buffer and turn it into layout channels and motion.

A pixel of the buffer holds the index of the nearest face and its inverse depth. Ground polygons are painted in order (they share
the plane z = 0), standing faces are compared by depth; no standing face reaches below the ground, so the ground never hides one.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

NEAR = 0.25  # m, nothing closer to the camera is drawn
BACKGROUND = -1  # sky or bare ground
SHIFT = 0.25  # fine pixels by which corners move right and down before they are cut to whole ones, as those of the reference world do
_SLACK = 5.0  # m, more than the camera's tilt moves anything towards it


@njit(cache=True, nogil=True, fastmath=True)
def _cut(us, vs, n, low, high):
    """Cut a convex polygon of n corners to low <= u <= high, in place; returns the new count."""
    for side in (-1.0, 1.0):
        limit = side * (high if side > 0 else low)
        beyond = 0
        for i in range(n):
            beyond += side * us[i] > limit
        if beyond == 0:
            continue
        if beyond == n:
            return 0
        old_us, old_vs, count = us[:n].copy(), vs[:n].copy(), 0
        for i in range(n):
            j = i + 1 if i + 1 < n else 0
            a, b = side * old_us[i] - limit, side * old_us[j] - limit
            if a <= 0:
                us[count], vs[count] = old_us[i], old_vs[i]
                count += 1
            if (a <= 0) != (b <= 0):
                share = a / (a - b)
                us[count], vs[count] = side * limit, old_vs[i] + share * (old_vs[j] - old_vs[i])
                count += 1
        n = count
    return n


@njit(cache=True, nogil=True, fastmath=True)
def _fill(points, count, focal, depth_test, face, buffer, inverse_depth):
    """Fill one convex polygon given in camera coordinates [count, 3] (right, down, forward).

    Its corners are cut to whole fine pixels, and pixels on its border belong to it: so the reference world's renderer does it, and what one
    program covers the other covers too.
    """
    height, width = buffer.shape
    cx, cy = width * 0.5, height * 0.5
    clipped = np.empty((8, 3), np.float32)
    n = 0
    for i in range(count):
        j = i + 1 if i + 1 < count else 0
        zi, zj = points[i, 2], points[j, 2]
        if zi > NEAR:
            clipped[n] = points[i]
            n += 1
        if (zi > NEAR) != (zj > NEAR):
            t = (NEAR - zi) / (zj - zi)
            clipped[n, 0] = points[i, 0] + t * (points[j, 0] - points[i, 0])
            clipped[n, 1] = points[i, 1] + t * (points[j, 1] - points[i, 1])
            clipped[n, 2] = NEAR
            n += 1
    if n < 3:
        return
    # plane n.P = d gives 1/z = (n . (x/z, y/z, 1)) / d, affine in the image
    ax, ay, az = points[1, 0] - points[0, 0], points[1, 1] - points[0, 1], points[1, 2] - points[0, 2]
    k = count - 1
    if points[k, 0] == points[k - 1, 0] and points[k, 1] == points[k - 1, 1] and points[k, 2] == points[k - 1, 2]:
        k = count - 2
    bx, by, bz = points[k, 0] - points[0, 0], points[k, 1] - points[0, 1], points[k, 2] - points[0, 2]
    nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    d = nx * points[0, 0] + ny * points[0, 1] + nz * points[0, 2]
    if abs(d) < 1e-9:
        return
    gu, gv, g0 = nx / (d * focal), ny / (d * focal), nz / d
    us, vs = np.empty(12, np.float32), np.empty(12, np.float32)
    for i in range(n):
        us[i] = (cx + focal * clipped[i, 0] / clipped[i, 2]) * (1 - 0.5 / width) + SHIFT
        vs[i] = (cy + focal * clipped[i, 1] / clipped[i, 2]) * (1 - 0.5 / height) + SHIFT
    n = _cut(us, vs, n, 0.0, width - 0.5)
    n = _cut(vs, us, n, 0.0, height - 0.5)
    if n < 3:
        return
    low, high = 1e9, -1e9
    left, right = 1e9, -1e9
    for i in range(n):
        us[i], vs[i] = math.floor(us[i]), math.floor(vs[i])
        low, high = min(low, vs[i]), max(high, vs[i])
        left, right = min(left, us[i]), max(right, us[i])
    if right == left or high == low:
        return
    for row in range(int(low), int(high) + 1):
        start, end = 1e9, -1e9
        for i in range(n):
            j = i + 1 if i + 1 < n else 0
            if vs[i] == row:
                start, end = min(start, us[i]), max(end, us[i])
            if (vs[i] < row) != (vs[j] < row) and vs[j] != row:
                u = us[i] + (row - vs[i]) * (us[j] - us[i]) / (vs[j] - vs[i])
                start, end = min(start, u), max(end, u)
        if end < start:
            continue
        a, b = math.ceil(start), math.floor(end)
        v = row + 0.5
        base = g0 + gv * (v - cy)
        for column in range(a, b + 1):
            w = base + gu * (column + 0.5 - cx)
            if depth_test:
                if w <= inverse_depth[row, column]:
                    continue
                inverse_depth[row, column] = w
            buffer[row, column] = face


@njit(cache=True, nogil=True, inline="always")
def _beside_view(x, y, extent, half_view):
    """Whether a face is out of the picture whose first corner is x m ahead and y m aside and whose others are within `extent` of it."""
    ahead = x + extent + _SLACK
    return ahead < 0 or abs(y) - extent > ahead * half_view


@njit(cache=True, nogil=True, fastmath=True)
def draw_ground(quads, extents, first_index, pose, camera, reach, buffer):
    """Paint ground quads [G, 4, 2] (world) in order; pose = x, y, heading of the ego, camera = focal, height, forward, pitch.

    No corner of a quad is farther from its first one than its extent [G], m.
    """
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    focal, above, forward, pitch = camera[0], camera[1], camera[2], camera[3]
    cp, sp = math.cos(pitch), math.sin(pitch)
    points = np.empty((4, 3), np.float32)
    unused = np.empty((1, 1), np.float32)
    half_view = 0.5 * buffer.shape[1] / focal
    for q in range(quads.shape[0]):
        dx, dy, far = quads[q, 0, 0] - pose[0], quads[q, 0, 1] - pose[1], reach + extents[q]
        if dx * dx + dy * dy > far * far or _beside_view(dx * cos + dy * sin - forward, dy * cos - dx * sin, extents[q], half_view):
            continue
        front = -1e9
        for i in range(4):
            dx, dy = quads[q, i, 0] - pose[0], quads[q, i, 1] - pose[1]
            x = dx * cos + dy * sin - forward
            y = -dx * sin + dy * cos
            points[i, 0] = -y
            points[i, 1] = x * sp + above * cp
            points[i, 2] = x * cp - above * sp
            front = max(front, points[i, 2])
        if front > NEAR:
            _fill(points, 4, focal, False, first_index + q, buffer, unused)


@njit(cache=True, nogil=True, fastmath=True)
def draw_solid(quads, normals, extents, first_index, pose, camera, reach, buffer, inverse_depth):
    """Draw standing faces [Q, 4, 3] (world) within reach [Q] that look at the camera, nearest first by depth test.

    No corner of a face is farther from its first one over the ground than its extent [Q], m.
    """
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    focal, above, forward, pitch = camera[0], camera[1], camera[2], camera[3]
    cp, sp = math.cos(pitch), math.sin(pitch)
    eye_x, eye_y = pose[0] + forward * cos, pose[1] + forward * sin
    points = np.empty((4, 3), np.float32)
    half_view = 0.5 * buffer.shape[1] / focal
    for q in range(quads.shape[0]):
        dx, dy, dz = quads[q, 0, 0] - eye_x, quads[q, 0, 1] - eye_y, quads[q, 0, 2] - above
        if dx * dx + dy * dy > reach[q] * reach[q] or _beside_view(dx * cos + dy * sin, dy * cos - dx * sin, extents[q], half_view):
            continue
        if dx * normals[q, 0] + dy * normals[q, 1] + dz * normals[q, 2] >= 0:
            continue
        front = -1e9
        for i in range(4):
            dx, dy = quads[q, i, 0] - pose[0], quads[q, i, 1] - pose[1]
            x = dx * cos + dy * sin - forward
            y = -dx * sin + dy * cos
            z = quads[q, i, 2] - above
            points[i, 0] = -y
            points[i, 1] = x * sp - z * cp
            points[i, 2] = x * cp + z * sp
            front = max(front, points[i, 2])
        if front > NEAR:
            _fill(points, 4, focal, True, first_index + q, buffer, inverse_depth)


@njit(cache=True, nogil=True, fastmath=True)
def compose(buffer, inverse_depth, static, moving, ground_palette, above, focal, pitch, factor, depth_channel, height_channel, out):
    """Average the palette's rows over blocks of factor x factor pixels into out [C, H, W] uint8.

    Faces below len(static) take their row of static [F, C] uint8, later ones of moving [D, C]; bare ground below the horizon takes
    `ground_palette` [C]; sky stays 0.
    """
    channels = static.shape[1]
    fixed = static.shape[0]
    height, width = out.shape[1], out.shape[2]
    fine_height = buffer.shape[0]
    cp, sp = math.cos(pitch), math.sin(pitch)
    total = np.empty(channels, np.int32)
    line = np.empty((channels, width), np.uint8)  # one row of the picture, which stays in the cache
    area = factor * factor
    part = (1 << 20) // area + 1  # to divide by the area is to multiply with this and shift: faster, and as exact for factors up to 7
    down, ground, rise = np.empty(factor), np.empty(factor), np.empty(factor)  # of each fine row, where nothing stands
    for row in range(height):
        for i in range(factor):
            slope = (row * factor + i + 0.5 - fine_height * 0.5) / focal
            down[i] = slope * cp - sp  # the ray (., slope, 1) meets the ground where depth * down = above
            ground[i] = down[i] / above if down[i] > 0 else 0.0
            rise[i] = max(0.0, above - down[i] / max(ground[i], 1e-4)) if ground[i] > 0 else 0.0
        for column in range(width):
            first = buffer[row * factor, column * factor]
            alike = first >= 0
            near = 0.0
            tall = 0.0
            for i in range(factor):
                for j in range(factor):
                    alike = alike and buffer[row * factor + i, column * factor + j] == first
                    w = inverse_depth[row * factor + i, column * factor + j]
                    if w <= 0:
                        w = ground[i]
                        tall += rise[i]
                    else:
                        tall += max(0.0, above - down[i] / max(w, 1e-4))
                    near = max(near, w)
            if alike and first >= fixed:
                for c in range(channels):
                    line[c, column] = moving[first - fixed, c]
            elif alike:
                for c in range(channels):
                    line[c, column] = static[first, c]
            else:
                total[:] = 0
                for i in range(factor):
                    for j in range(factor):
                        face = buffer[row * factor + i, column * factor + j]
                        if face >= fixed:
                            for c in range(channels):
                                total[c] += moving[face - fixed, c]
                        elif face >= 0:
                            for c in range(channels):
                                total[c] += static[face, c]
                        elif ground[i] > 0:
                            for c in range(channels):
                                total[c] += ground_palette[c]
                for c in range(channels):
                    line[c, column] = (total[c] * part) >> 20
            line[depth_channel, column] = min(255, int(255 * math.sqrt(min(near * 2.5, 1.0))))
            line[height_channel, column] = min(255, int(255 * min(tall / area / 20.0, 1.0)))
        for c in range(channels):
            for column in range(width):
                out[c, row, column] = line[c, column]


@njit(cache=True, nogil=True, fastmath=True)
def nearest(buffer, inverse_depth, factor, faces, depths):
    """The nearest standing face in each block of fine pixels, faces [H, W], and its inverse depth, depths [H, W]; else BACKGROUND and 0."""
    for row in range(faces.shape[0]):
        for column in range(faces.shape[1]):
            face, w = BACKGROUND, np.float32(0.0)
            for i in range(factor):
                for j in range(factor):
                    here = inverse_depth[row * factor + i, column * factor + j]
                    if here > w:
                        w = here
                        face = buffer[row * factor + i, column * factor + j]
            faces[row, column] = face
            depths[row, column] = w


@njit(cache=True, nogil=True, fastmath=True)
def motion(faces, depths, fixed, agent_of_face, agent_now, agent_before, pose_now, pose_before, camera, factor, out, agent_size, place):
    """Where each pixel of the coarse image was in the previous one, out [2, H, W] pixels (u, v): static world and moving boxes.

    faces and depths are those of `nearest`; agent_of_face [D] is the agent's slot, or negative, of face `fixed` and on; agent_now and
    agent_before [N, 3] are x, y, heading. Sky moves with the rotation alone. Pixels of a road user also get their place in its box of
    agent_size [N, 3] (length, width, height): place [3, H, W] is 1 to 255 from rear to front, right to left and bottom to top, else 0.
    """
    height, width = out.shape[1], out.shape[2]
    focal, above, forward, pitch = camera[0], camera[1], camera[2], camera[3]
    cp, sp = math.cos(pitch), math.sin(pitch)
    cos, sin = math.cos(pose_now[2]), math.sin(pose_now[2])
    cos_b, sin_b = math.cos(pose_before[2]), math.sin(pose_before[2])
    coarse = focal / factor
    for row in range(height):
        for column in range(width):
            face, w = faces[row, column], depths[row, column]
            dx = (column + 0.5 - width * 0.5) / coarse
            dy = (row + 0.5 - height * 0.5) / coarse
            if w <= 0:
                down = dy * cp - sp
                w = max(down / above, 1e-4)
            depth = 1.0 / w
            right, low, far = dx * depth, dy * depth, depth
            x = far * cp + low * sp + forward
            z = above + far * sp - low * cp
            y = -right
            wx, wy = pose_now[0] + x * cos - y * sin, pose_now[1] + x * sin + y * cos
            slot = agent_of_face[face - fixed] if face >= fixed else -1
            for k in range(3):
                place[k, row, column] = 0
            if slot >= 0:
                ca, sa = math.cos(agent_now[slot, 2]), math.sin(agent_now[slot, 2])
                ex, ey = wx - agent_now[slot, 0], wy - agent_now[slot, 1]
                lx, ly = ex * ca + ey * sa, -ex * sa + ey * ca
                share = (lx / agent_size[slot, 0] + 0.5, ly / agent_size[slot, 1] + 0.5, z / agent_size[slot, 2])
                for k in range(3):
                    place[k, row, column] = 1 + int(254 * min(max(share[k], 0.0), 1.0))
                cb, sb = math.cos(agent_before[slot, 2]), math.sin(agent_before[slot, 2])
                wx = agent_before[slot, 0] + lx * cb - ly * sb
                wy = agent_before[slot, 1] + lx * sb + ly * cb
            ex, ey = wx - pose_before[0], wy - pose_before[1]
            x = ex * cos_b + ey * sin_b - forward
            y = -ex * sin_b + ey * cos_b
            z -= above
            far = x * cp + z * sp
            if far < NEAR:
                out[0, row, column] = -1e4
                out[1, row, column] = -1e4
            else:
                out[0, row, column] = width * 0.5 + coarse * (-y) / far
                out[1, row, column] = height * 0.5 + coarse * (x * sp - z * cp) / far

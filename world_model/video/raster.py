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
DEPTHS = 2**20 * 900 * 0.5 / (900 - 0.5)  # depths that its renderer tells apart in an inverse depth of 1 / m: 20 bits from 0.5 to 900 m
_SLACK = 5.0  # m, more than the camera's tilt moves anything towards it


@njit(cache=True, nogil=True, inline="always")
def in_view(dx, dy, dz, cos, sin, forward, cp, sp):
    """A point right of, below and before the camera, m, by where it is from the ego (the world's axes) and over the camera.

    cos and sin are those of the ego's heading, cp and sp of the camera's pitch; the camera is `forward` m before the ego.
    """
    x, y = dx * cos + dy * sin - forward, -dx * sin + dy * cos
    return -y, x * sp - dz * cp, x * cp + dz * sp


@njit(cache=True, nogil=True, inline="always")
def fine_pixel(slope, focal, size):
    """Where a ray of some slope to the axis is drawn along a side of `size` fine pixels, of which the whole ones are taken."""
    return (size * 0.5 + focal * slope) * (1 - 0.5 / size) + SHIFT


@njit(cache=True, nogil=True, fastmath=True)
def _cut(us, vs, ws, n, low, high):
    """Cut a convex polygon of n corners (u, v, w) to low <= u <= high, in place; returns the new count."""
    for side in (-1.0, 1.0):
        limit = side * (high if side > 0 else low)
        beyond = 0
        for i in range(n):
            beyond += side * us[i] > limit
        if beyond == 0:
            continue
        if beyond == n:
            return 0
        old_us, old_vs, old_ws, count = us[:n].copy(), vs[:n].copy(), ws[:n].copy(), 0
        for i in range(n):
            j = i + 1 if i + 1 < n else 0
            a, b = side * old_us[i] - limit, side * old_us[j] - limit
            if a <= 0:
                us[count], vs[count], ws[count] = old_us[i], old_vs[i], old_ws[i]
                count += 1
            if (a <= 0) != (b <= 0):
                share = a / (a - b)
                us[count], vs[count] = side * limit, old_vs[i] + share * (old_vs[j] - old_vs[i])
                ws[count] = old_ws[i] + share * (old_ws[j] - old_ws[i])
                count += 1
        n = count
    return n


@njit(cache=True, nogil=True, fastmath=True)
def project(points, count, focal, height, width, us, vs, ws):
    """Corners of a polygon [count, 3] in camera coordinates (right, down, forward) as they are drawn: returns how many there are.

    What lies before `NEAR` or beside the picture is cut off. us and vs [12] become fine pixels, of which `fill` and `_stand` take the
    whole ones as the reference world's renderer does, so that what one program covers the other covers too; ws [12] become inverse depths.
    """
    n = 0
    for i in range(count):
        j = i + 1 if i + 1 < count else 0
        zi, zj = points[i, 2], points[j, 2]
        if zi > NEAR:
            us[n], vs[n], ws[n] = points[i, 0] / zi, points[i, 1] / zi, 1.0 / zi
            n += 1
        if (zi > NEAR) != (zj > NEAR):
            t = (NEAR - zi) / (zj - zi)
            us[n] = (points[i, 0] + t * (points[j, 0] - points[i, 0])) / NEAR
            vs[n] = (points[i, 1] + t * (points[j, 1] - points[i, 1])) / NEAR
            ws[n] = 1.0 / NEAR
            n += 1
    if n < 3:
        return 0
    for i in range(n):
        us[i], vs[i] = fine_pixel(us[i], focal, width), fine_pixel(vs[i], focal, height)
    n = _cut(us, vs, ws, n, 0.0, width - 0.5)
    return _cut(vs, us, ws, n, 0.0, height - 0.5)


@njit(cache=True, nogil=True, fastmath=True)
def fill(us, vs, n, face, buffer, more=False):
    """Fill a convex polygon of n corners, whole fine pixels, with `face`, or add it; those on its border belong to it."""
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
        for column in range(math.ceil(start), math.floor(end) + 1):
            buffer[row, column] = buffer[row, column] + face if more else face


@njit(cache=True, nogil=True, fastmath=True)
def _stand(us, vs, ws, n, face, buffer, inverse_depth):
    """Fill a convex polygon as `fill` does where it is nearer than what is there, by what the reference world's renderer tells apart.

    So of two that share an edge the one that is drawn first has it. It is drawn as triangles whose corners take their depth along to their
    whole pixels, and of which none is drawn that this turns round.
    """
    u0, v0, w0 = us[0], vs[0], ws[0]
    x0, y0 = math.floor(u0), math.floor(v0)
    for k in range(1, n - 1):
        x1, y1, x2, y2 = math.floor(us[k]), math.floor(vs[k]), math.floor(us[k + 1]), math.floor(vs[k + 1])
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area * ((us[k] - u0) * (vs[k + 1] - v0) - (us[k + 1] - u0) * (vs[k] - v0)) <= 0:
            continue
        d1, d2 = (ws[k] - w0) / area, (ws[k + 1] - w0) / area
        gu, gv = d1 * (y2 - y0) - d2 * (y1 - y0), d2 * (x1 - x0) - d1 * (x2 - x0)
        ax, ay, bx, by, cx, cy = x0, y0, x1, y1, x2, y2  # from the top down
        if by < ay:
            ax, ay, bx, by = bx, by, ax, ay
        if cy < ay:
            ax, ay, bx, by, cx, cy = cx, cy, ax, ay, bx, by
        elif cy < by:
            bx, by, cx, cy = cx, cy, bx, by
        long = (cx - ax) / (cy - ay)
        upper = (bx - ax) / (by - ay) if by > ay else 0.0
        lower = (cx - bx) / (cy - by) if cy > by else 0.0
        for row in range(int(ay), int(cy) + 1):
            start = ax + (row - ay) * long
            end = ax + (row - ay) * upper if row < by else bx + (row - by) * lower
            if start > end:
                start, end = end, start
            base = w0 + gv * (row - y0)
            for column in range(math.ceil(start - 1e-4), math.floor(end + 1e-4) + 1):
                w = base + gu * (column - x0)
                there = inverse_depth[row, column]
                if w > there and math.floor(w * DEPTHS) > math.floor(there * DEPTHS):
                    inverse_depth[row, column] = w
                    buffer[row, column] = face


@njit(cache=True, nogil=True, inline="always")
def beside_view(x, y, extent, half_view):
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
    us, vs, ws = np.empty(12, np.float32), np.empty(12, np.float32), np.empty(12, np.float32)
    half_view = 0.5 * buffer.shape[1] / focal
    for q in range(quads.shape[0]):
        dx, dy, far = quads[q, 0, 0] - pose[0], quads[q, 0, 1] - pose[1], reach + extents[q]
        if dx * dx + dy * dy > far * far or beside_view(dx * cos + dy * sin - forward, dy * cos - dx * sin, extents[q], half_view):
            continue
        front = -1e9
        for i in range(4):
            dx, dy = quads[q, i, 0] - pose[0], quads[q, i, 1] - pose[1]
            points[i, 0], points[i, 1], points[i, 2] = in_view(dx, dy, -above, cos, sin, forward, cp, sp)
            front = max(front, points[i, 2])
        if front > NEAR:
            n = project(points, 4, focal, buffer.shape[0], buffer.shape[1], us, vs, ws)
            if n > 2:
                fill(us, vs, n, first_index + q, buffer)


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
    us, vs, ws = np.empty(12, np.float32), np.empty(12, np.float32), np.empty(12, np.float32)
    half_view = 0.5 * buffer.shape[1] / focal
    for q in range(quads.shape[0]):
        dx, dy, dz = quads[q, 0, 0] - eye_x, quads[q, 0, 1] - eye_y, quads[q, 0, 2] - above
        if dx * dx + dy * dy > reach[q] * reach[q] or beside_view(dx * cos + dy * sin, dy * cos - dx * sin, extents[q], half_view):
            continue
        if dx * normals[q, 0] + dy * normals[q, 1] + dz * normals[q, 2] >= 0:
            continue
        front = -1e9
        for i in range(4):
            dx, dy = quads[q, i, 0] - pose[0], quads[q, i, 1] - pose[1]
            points[i, 0], points[i, 1], points[i, 2] = in_view(dx, dy, quads[q, i, 2] - above, cos, sin, forward, cp, sp)
            front = max(front, points[i, 2])
        if front > NEAR:
            n = project(points, 4, focal, buffer.shape[0], buffer.shape[1], us, vs, ws)
            if n > 2:
                _stand(us, vs, ws, n, first_index + q, buffer, inverse_depth)


@njit(cache=True, nogil=True, fastmath=True)
def compose(
    buffer, inverse_depth, static, moving, ground_palette, above, focal, pitch, factor, depth_channel, height_channel, out, faces, depths
):
    """Average the palette's rows over blocks of factor x factor pixels into out [C, H, W] uint8, and tell what stands nearest in each.

    Faces below len(static) take their row of static [F, C] uint8, later ones of moving [D, C]; bare ground below the horizon takes
    `ground_palette` [C]; sky stays 0. The nearest faces [H, W] have inverse depths [H, W], BACKGROUND and 0 where there is none. The depth
    that is told is the mean of what stands in a pixel, and that of the nearest ground where nothing does.
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
            alike = True
            near, stands, roots = 0.0, 0, 0.0
            tall = 0.0
            face, standing = BACKGROUND, np.float32(0.0)
            for i in range(factor):
                for j in range(factor):
                    here = buffer[row * factor + i, column * factor + j]
                    alike = alike and here == first
                    w = inverse_depth[row * factor + i, column * factor + j]
                    if w > standing:
                        face, standing = here, w
                    if w <= 0:
                        near = max(near, ground[i])
                        tall += rise[i]
                    else:
                        tall += max(0.0, above - down[i] / max(w, 1e-4))
                        stands += 1
                        roots += math.sqrt(min(w * 2.5, 1.0))
            faces[row, column], depths[row, column] = face, standing
            if alike and first < 0 and (ground[0] > 0) == (ground[factor - 1] > 0):
                for c in range(channels):
                    line[c, column] = ground_palette[c] if ground[0] > 0 else 0
            elif alike and first >= fixed:
                for c in range(channels):
                    line[c, column] = moving[first - fixed, c]
            elif alike and first >= 0:
                for c in range(channels):
                    line[c, column] = static[first, c]
            else:
                total[:] = 0
                for i in range(factor):
                    for j in range(factor):
                        here = buffer[row * factor + i, column * factor + j]
                        if here >= fixed:
                            for c in range(channels):
                                total[c] += moving[here - fixed, c]
                        elif here >= 0:
                            for c in range(channels):
                                total[c] += static[here, c]
                        elif ground[i] > 0:
                            for c in range(channels):
                                total[c] += ground_palette[c]
                for c in range(channels):
                    line[c, column] = (total[c] * part + (1 << 19)) >> 20
            line[depth_channel, column] = int(255 * (roots / stands if stands > 0 else math.sqrt(min(near * 2.5, 1.0))))
            line[height_channel, column] = min(255, int(255 * min(tall / area / 20.0, 1.0)))
        for c in range(channels):
            for column in range(width):
                out[c, row, column] = line[c, column]


@njit(cache=True, nogil=True, fastmath=True)
def motion(faces, depths, fixed, agent_of_face, agent_now, agent_before, pose_now, pose_before, camera, factor, out, agent_size, place):
    """Where each pixel of the coarse image was in the previous one, out [2, H, W] pixels (u, v): static world and moving boxes.

    faces and depths are those of `compose`; agent_of_face [D] is the agent's slot, or negative, of face `fixed` and on; agent_now and
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

"""The light of the layout: its base colours as each weather lights and fades them, pixel by pixel, learned from pictures.

A layout has colours, normals and depths of faces; what a camera sees of them is their product with light and haze. A network at half the
resolution would have to carry every window through a few channels to multiply it; here that is done where the window is.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from ...scene import Appearance
from .gaze import NOWHERE
from .layout import CHANNEL, CHANNELS, COLOUR, COVER_CHANNELS, MARKING_CHANNELS, NEAREST
from .light_kernel import PANE, light_picture
from .terrain import ground_depths

_OWN = (  # what has no base colour, or shines by itself
    "ground", "verge", "pavement", "road", "junction", "edge", "dash", "centre", "stop", "cabin", "wheel", "window", "lit", "signal",
    "front_lamp", "rear_lamp", "brake_lamp", "stop_lamp", "display", "red", "yellow", "green",
)  # fmt: skip
# what is always painted alike, and lit as what has base colours is
_ALIKE = [CHANNEL[name] for name in ("cabin", "wheel", "signal", "front_lamp", "rear_lamp", "stop_lamp", "display")]
LIT = 4  # images that it makes: three of colours, and what haze leaves of things
_NORMAL = slice(CHANNEL["normal_x"], CHANNEL["normal_z"] + 1)
STANDING = slice(CHANNEL["body"], CHANNEL["green"] + 1)  # what has a normal
_LYING = [CHANNEL[name] for name in ("ground", "verge", "pavement", "road", "junction", *("edge", "dash", "centre", "stop"))]
_ASPHALT = [CHANNEL["road"], CHANNEL["junction"], *MARKING_CHANNELS]  # what mirrors lamps when it is wet
_DEPTH, _SHADE, _FACADE, _WINDOW, _LIT_WINDOW = (
    slice(CHANNEL[name], CHANNEL[name] + 1) for name in ("inverse_depth", "shade", "facade", "window", "lit")
)
_SCALE = 100.0  # m, of depths
_SIDES, _WAVES, _RISES = 8, 9, 3
_BEAM = (32, 64)  # rows and columns of what a camera always sees
_MAPS = 0.3  # how much features of maps are weighed at first
GAIN = 10.0  # of everything over the parameters, as of the sky
_UP = (0.0, 0.0, 0.5 / GAIN)  # where a sun that nothing is known of stands


class LearnedLight(nn.Module):
    """What a layout looks like in each weather: light of faces by where they look, haze before the sky, and a linear rest."""

    sides: Tensor
    level: Tensor
    own: Tensor
    lies: Tensor
    covers: Tensor

    def __init__(self, inputs: int, sky: int = 0, layout: int = len(CHANNELS), ground: int = 0) -> None:
        """Light of so many images: those of the layout first, so many of the open sky next, and so many of the ground at the end.

        The linear rest is of all but the sky. What maps say is weighed at random at first, as both these and their weights would else be 0,
        where neither learns. A picture of its own is added to every one, wherever the camera looks: what headlamps light.
        """
        super().__init__()
        looks = len(Appearance) + 1
        turn = torch.arange(_SIDES) * (2 * math.pi / _SIDES)
        self.register_buffer("sides", torch.stack((torch.cos(turn), torch.sin(turn), torch.zeros(_SIDES)), 1), persistent=False)
        self.register_buffer("level", torch.tensor([[0.0], [0.0], [1.0]]), persistent=False)  # where the ground looks
        self.light = nn.Parameter(torch.zeros(looks, 3, 2 + _SIDES))  # ambient, more from above, and from lamps on all sides
        self.light.data[..., 0] = 0.7 / GAIN
        self.facade = nn.Parameter(torch.zeros(looks, 3, 2 + _SIDES))  # how that of walls with windows differs
        self.shine = nn.Parameter(torch.zeros(looks, 3))  # how much more the wall around counts in a lit window
        self.pane = nn.Parameter(torch.full((looks, 3), 0.5 / GAIN))  # how much darker than that wall a window is
        self.haze = nn.Parameter(torch.full((looks, 1), -1.5 / GAIN))  # logarithm of how much of it there is in `_SCALE`
        self.start = nn.Parameter(torch.full((looks, 1), 0.05 / GAIN))  # where it begins, in `_SCALE`
        self.beyond = nn.Parameter(torch.zeros(looks, 3, _WAVES))  # what haze looks like, as waves over the azimuth
        self.beyond.data[..., 0] = 0.7 / GAIN
        self.rest = nn.Parameter(torch.zeros(looks, 6, inputs))  # of three colours, and of what base colours count more
        self.register_buffer("own", torch.ones(inputs), persistent=False)
        self.own[:layout] = 0.0  # light alone tells what has base colours
        self.own[[CHANNEL[name] for name in _OWN]] = 1.0
        self._sky = slice(layout, layout + sky)  # images of it
        self.own[self._sky] = 0.0
        self.beam = nn.Parameter(torch.zeros(looks, 3, *_BEAM))
        self.sun = nn.Parameter(torch.tensor([_UP, (0.0, 0.0, 0.0)]).repeat(looks, 1, 1))  # where one more lamp stands, and its colour
        self.base = nn.Parameter(torch.zeros(looks, 3, len(_ALIKE)))  # base colours that the layout leaves unsaid
        self.above = nn.Parameter(torch.zeros(looks, 3, _RISES + sky))  # how the open sky differs from haze, by height and by features
        for weights in (self.above.data[..., _RISES:], self.rest.data[:, :3, inputs - ground :]):
            nn.init.normal_(weights, std=_MAPS / GAIN)
        self.register_buffer("lies", torch.zeros(inputs), persistent=False)  # of `own` what is ground
        self.lies[_LYING] = self.lies[inputs - ground :] = 1.0
        self.register_buffer("covers", torch.zeros(3, inputs), persistent=False)  # what stands, ground, and asphalt of that
        self.covers[0, STANDING] = self.covers[1, COVER_CHANNELS] = self.covers[2, _ASPHALT] = 1.0
        self.covers[1, STANDING] = 0.0

    def forward(self, images: Tensor, looks: Tensor, appearance: Tensor, out: Tensor | None = None, column: int = 0) -> Tensor:
        """Colours [B, 3, H, W], from 0 to 1 for white, and how much of a pixel is things that haze leaves to be seen [B, 1, H, W].

        Args:
            images: [B, inputs, H, W], a layout in [0, 1] and further ones.
            looks: [B, 4, H, W] where pixels look, see `gaze.gaze`.
            appearance: [B] Appearance or UNKNOWN_APPEARANCE.
            out: where the result is written, if given.
            column: of the camera's picture, twice as wide as high, at which a crop of it begins.
        """
        made = self._plain(images, looks, appearance)
        made = torch.cat((made[:, :3] + self._beam(appearance, column, images.shape[2:]), made[:, 3:]), 1)
        return made if out is None else out.copy_(made)

    def _beam(self, appearance: Tensor, column: int, size: torch.Size) -> Tensor:
        """What is added to pictures of so many rows and columns, [B, 3, H, W]."""
        rows, columns = size
        chosen = nn.functional.embedding(appearance, self.beam.flatten(1))  # sums gradients in the same order every time
        whole = nn.functional.interpolate(GAIN * chosen.view(-1, *self.beam.shape[1:]), (rows, 2 * rows), mode="bilinear")
        return whole[..., column : column + columns]

    def compiled(self, layout: Tensor, images: Tensor, looks: Tensor, appearance: Tensor, column: int, out: Tensor) -> Tensor:
        """What `forward` says of a uint8 layout and the further images, one picture after the other in one thread, written into `out`."""
        windows = torch.stack((self.shine, self.pane), 1)
        parameters = (
            self.base, self.sun, self.rest, self.light, self.facade, windows, self.haze, self.start, self.beyond, self.above,
        )  # fmt: skip
        weights = [(GAIN * parameter).detach().numpy() for parameter in parameters]
        sums = torch.cat((torch.stack((self.own * self.lies, self.own * (1 - self.lies))), self.covers)).numpy()
        sides, whole = self.sides.numpy()[:, :2], looks.float().contiguous().numpy()
        places = tuple(part.start for part in (COLOUR, _NORMAL, _DEPTH, _SHADE, _FACADE, _WINDOW, _LIT_WINDOW, self._sky))
        alike = np.full(self.own.numel(), -1)
        alike[_ALIKE] = np.arange(len(_ALIKE))
        there, which = appearance.unique(return_inverse=True)
        beams = self._beam(there, column, images.shape[2:]).contiguous().numpy()  # of each weather once
        ground = ground_depths(images.shape[2], images.device).numpy()
        each = zip(layout.numpy(), images.numpy(), whole, appearance.tolist(), which.tolist(), out.numpy(), strict=True)
        for known, more, gazes, look, row, place in each:
            base, sun, rest, light, facade, windows, (haze,), (start,), beyond, above = (parameter[look] for parameter in weights)
            fog = (math.exp(haze) / _SCALE, start * _SCALE, NEAREST)
            seen = (known, more, more.view(np.int32), gazes, (alike, base), sun)
            light_picture(*seen, rest, sums, light, facade, windows, fog, beyond, above, beams[row], ground, sides, places, NOWHERE, place)
        return out

    def _plain(self, images: Tensor, looks: Tensor, appearance: Tensor) -> Tensor:
        batch, _, height, width = images.shape
        of = lambda parameter: GAIN * parameter[appearance]
        column = lambda parameter: of(parameter).unsqueeze(2)
        flat = images.flatten(2)
        sky = nn.functional.pad(self.above[..., _RISES:], (self._sky.start, self.own.numel() - self._sky.stop))
        weights = (of(self.rest[:, :3] * (self.own * self.lies)), of(self.rest * (self.own * (1 - self.lies))), of(sky))
        sums = torch.bmm(torch.cat((*weights, self.covers.expand(batch, -1, -1)), 1), flat)
        ground, colour, more, clouds, standing, lying, asphalt = sums.split((3, 3, 3, 3, 1, 1, 1), 1)
        solid = standing > 0
        normals = (2 * flat[:, _NORMAL] - standing) / standing.clamp_min(0.05)
        normals = torch.where(solid, normals, self.level)  # kerbs have a base colour and lie
        facing = torch.cat((torch.ones_like(standing), normals[:, 2:], torch.matmul(self.sides, normals).relu_()), 1)
        windowed = torch.where(solid, flat[:, _FACADE] / standing.clamp_min(0.05), 0.0)
        light = torch.addcmul(torch.bmm(of(self.light), facing), windowed, torch.bmm(of(self.facade), facing))
        where, sunlight = of(self.sun).split(1, 1)
        light = torch.baddbmm(light, sunlight.transpose(1, 2), torch.bmm(where, normals).relu_())
        through = lambda depth: torch.exp(-column(self.haze).exp() * (depth / _SCALE - column(self.start)).relu())
        left = through(NEAREST / flat[:, _DEPTH].square().clamp_min(1e-6))
        # behind what stands is ground as far away as that is in this row, and what shades a pixel shades the ground of it
        row = through(ground_depths(height, images.device).view(1, 1, -1, 1).expand(-1, -1, -1, width).flatten(2))
        left_of_ground = torch.where(solid, row, left)
        lit_ground = left_of_ground * (1 - (flat[:, _SHADE] / lying.clamp_min(0.05)).clamp_max(1.0))
        around = (1 - column(self.pane) * flat[:, _WINDOW]).clamp_min(PANE)  # what a base colour is of that of the wall
        more = torch.addcmul(more, column(self.shine), flat[:, _LIT_WINDOW] / around)
        # what wet asphalt mirrors has come through the rain in the layout, and nothing shades it
        mirrored = asphalt.masked_fill(solid, 0.0)
        things = torch.addcmul(ground * lit_ground + colour * left, flat[:, COLOUR], mirrored)
        base = torch.baddbmm(flat[:, COLOUR], of(self.base), flat[:, _ALIKE])
        things = torch.addcmul(things, base, light * (1 + more) * (1 - mirrored) * torch.where(solid, left, lit_ground))
        left = (left * standing + left_of_ground * lying).view(batch, 1, height, width)
        behind = torch.bmm(of(self.beyond), _waves(looks)).unsqueeze(2).expand(-1, -1, height, -1)
        lit = torch.addcmul(behind, left, behind, value=-1.0) + (things + clouds).view(batch, 3, height, width)
        fixed = looks.device.type != "cpu"  # graphs of a GPU want fixed shapes
        rows = height if fixed else int((looks[:, 1] > NOWHERE).any(2).any(0).sum())
        lit[:, :, :rows] += self._rises(left[:, :, :rows], looks[:, 1:2, :rows], appearance)
        return torch.cat((lit, left), 1)

    def _rises(self, left: Tensor, height: Tensor, appearance: Tensor) -> Tensor:
        """How the sky differs from haze by its height [B, 1, h, W], without clouds, as much as is seen of it behind things."""
        seen = (1 - left).clamp_min(0) * (height > NOWHERE)
        rise = height.clamp_min(-1.0)
        powers = torch.cat((seen, seen * rise, seen * rise.square()), 1)
        return torch.bmm(GAIN * self.above[appearance][..., :_RISES], powers.flatten(2)).view(len(left), 3, *left.shape[2:])


def _waves(looks: Tensor) -> Tensor:
    """A constant and four waves [B, _WAVES, W] of the azimuth of columns; the constant alone where it is unknown."""
    azimuth, known = math.pi * looks[:, 0, 0], (looks[:, 1, :1, 0] > NOWHERE).to(looks.dtype)
    waves = [wave(k * azimuth) * known for k in range(1, 1 + _WAVES // 2) for wave in (torch.cos, torch.sin)]
    return torch.stack((torch.ones_like(azimuth), *waves), 1)

"""The denoiser: a pixel-space U-Net that predicts the clean frame from a noisy one, the layout and the warped previous frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from ...scene import Appearance
from . import painter_kernels, terrain, winograd
from .kernel_math import kernels_suit
from .layout import CHANNELS, unit
from .lighting import LIT, LearnedLight
from .sky import FEATURES, SkyMap

NUMBERS = ("steering", "pedal", "speed", "acceleration", "yaw_rate", "action_known", "ego_known", "layout_known")
UNKNOWN_APPEARANCE = len(Appearance)


_PAINTED = 3 + 3 + 1  # images before the layout: the noisy frame, the warped one, and where that was seen
HOLD = (0.7, 0.9)  # share of the warped frame from which on it begins to stand alone, and from which on it does


@dataclass
class DenoiserConfig:
    """Size of a denoiser."""

    widths: list[int] = field(default_factory=lambda: [32, 64, 128])  # channels at 1/2, 1/4, 1/8 of the resolution
    depths: list[int] = field(default_factory=lambda: [2, 2, 3])  # blocks at each of them, on the way down and up
    condition_width: int = 128
    layout_channels: int = len(CHANNELS)
    warp: bool = True  # whether the previous frame comes moved by the known motion; without, an ablation
    sky: bool = True  # whether there is a learned panorama of the sky
    ground: bool = True  # whether there are learned maps of the ground
    light: bool = True  # whether the layout comes in learned light, too, and may stand for what is painted
    spans: bool = False  # whether it is told how far a step of the sampler goes, as shortcut training needs
    context: int = 1  # previous frames that it is shown
    hold: bool = True  # whether it can leave the warped frame as it is, see `blended`


@dataclass
class Condition:
    """What the denoiser is told besides the noisy frame; images in [-1, 1], layout in [0, 1]."""

    warped: Tensor  # [B, 3 * n, H, W] the n frames before, the newest first, moved to where things are now; zeros where there is none
    seen: Tensor  # [B, 1, H, W] 1 where the warped frame has content
    layout: Tensor  # [B, C, H, W], or uint8 of 255 times that
    numbers: Tensor  # [B, len(NUMBERS)] scaled to about [-1, 1]
    appearance: Tensor  # [B] Appearance or UNKNOWN_APPEARANCE
    context_noise: Tensor  # [B] in [0, 1], how corrupted the warped frame is
    gaze: Tensor  # [B, 4, H, W] where pixels look, see `gaze.gaze`
    column: int = 0  # of the camera's picture at which these begin, if they are crops


class Modulation(nn.Module):
    """Scale and shift of channels from the condition vector; starts as the identity."""

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        self.linear.bias.data.zero_()

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """What channels are multiplied by, and what is added, [B, channels] each, under condition [B, condition]."""
        scale, shift = self.linear(condition).chunk(2, dim=1)
        return 1 + scale, shift


class Block(nn.Module):
    """Residual block: normalise, modulate, convolve twice."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(max(1, channels // 16), channels)
        self.modulation = Modulation(condition, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        self.second.bias.data.zero_()  # type: ignore[union-attr]

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map [B, channels, h, w] to the same shape; without gradients the result may take the place of x."""
        y = active(self.norm, x, *self.modulation(condition))
        if kernels_suit(x) and winograd.suits(x, self.first.weight, self.second.weight):
            return winograd.convolved(self.first, self.second, y, x)
        return self.second(silu(self.first(y))).add_(x)


class PixelSpace:
    """Painters whose sampler paints pixels; others have an autoencoder for these three."""

    def canvas(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape of what is sampled for a frame of this size in pixels."""
        return 3, height, width

    def encode(self, frames: Tensor) -> Tensor:
        """What is sampled, of frames [B, 3, H, W] in [-1, 1]."""
        return frames

    def decode(self, painted: Tensor) -> Tensor:
        """Frames [B, 3, H, W] of what is sampled."""
        return painted


class FrameDenoiser(PixelSpace, ModelMixin, ConfigMixin):
    """Predicts x0 [B, 3, H, W] in [-1, 1] from x_t at noise level t; H and W must be multiples of 8.

    The prediction is painted by the network and blended, pixel by pixel, with the warped previous frame where that was in view.
    """

    config_name = "config.json"  # type: ignore[assignment]

    @register_to_config
    def __init__(
        self,
        widths: list[int] | None = None,
        depths: list[int] | None = None,
        condition_width: int = 128,
        layout_channels: int = len(CHANNELS),
        warp: bool = True,
        sky: bool = False,
        spans: bool = False,
        context: int = 1,
        hold: bool = False,
        ground: bool = False,
        light: bool = False,
    ) -> None:
        super().__init__()
        self.warp, self.spans, self.context, self.hold = warp, spans, context, hold
        self.layout_channels = layout_channels
        self.sky_map = SkyMap() if sky else None
        self.ground_maps = terrain.GroundMaps() if ground else None
        widths = widths or DenoiserConfig().widths
        depths = depths or DenoiserConfig().depths
        self.embed_numbers = nn.Linear(len(NUMBERS) + (3 if spans else 2) * 8, condition_width)
        self.embed_appearance = nn.Embedding(len(Appearance) + 1, condition_width)
        self.condition = nn.Sequential(nn.SiLU(), nn.Linear(condition_width, condition_width), nn.SiLU())
        clouds, ground_features = FEATURES if sky else 0, 2 * terrain.FEATURES if ground else 0
        told = layout_channels + clouds + 3 * (context - 1) + ground_features  # as of `told_images`
        self.lighting = LearnedLight(told, clouds, layout_channels, ground_features) if light else None
        self.stem = nn.Conv2d(4 * (3 + 3 + 1 + told + (LIT if light else 0)), widths[0], 1)
        self.down_blocks = nn.ModuleList()
        self.downs = nn.ModuleList()
        self.up_blocks = nn.ModuleList()
        self.ups = nn.ModuleList()
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            self.down_blocks.append(nn.ModuleList(Block(width, condition_width) for _ in range(depth)))
            if i + 1 < len(widths):
                self.downs.append(nn.Conv2d(width, widths[i + 1], 2, stride=2))
        for i in reversed(range(len(widths) - 1)):
            self.ups.append(nn.Conv2d(widths[i + 1], 4 * widths[i], 1))
            self.up_blocks.append(nn.ModuleList(Block(widths[i], condition_width) for _ in range(depths[i])))
        self.out_norm = nn.GroupNorm(1, widths[0])
        self.out = nn.Conv2d(widths[0], 4 * (5 if light else 4), 3, padding=1)
        nn.init.zeros_(self.out.weight)
        self.out.bias.data.zero_()  # type: ignore[union-attr]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-arg]

    def forward(self, noisy: Tensor, level: Tensor, condition: Condition, span: Tensor | None = None) -> Tensor:
        """Predict the clean frame.

        Args:
            noisy: [B, 3, H, W], (1 - t) x0 + t noise.
            level: [B] t in [0, 1]; 1 is pure noise.
            condition: images of the same size.
            span: [B] how far the sampler's step goes, for a painter with `spans`; where it is 0 or not given, the mean of all clean
                frames that fit is painted, else one of them.
        """
        squares = self.stem.weight.view(self.stem.out_channels, -1, 2, 2)  # as the stem of `pixel_unshuffle(x, 2)`, which need not be made
        if kernels_suit(noisy) and condition.layout.dtype == torch.uint8 and squares.dtype == torch.float32:
            layout, images = condition.layout[:, : self.layout_channels], self._around(noisy, condition)
            x = painter_kernels.stem(images, layout, _PAINTED, squares, self.stem.bias)  # type: ignore[arg-type]
        else:
            images = gathered(noisy, condition, self.layout_channels, self.sky_map, self.context, self.ground_maps, self.lighting)
            x = nn.functional.conv2d(images, squares, self.stem.bias, stride=2).contiguous(memory_format=torch.channels_last)
        lit = images[:, -LIT:-1] if self.lighting is not None else None
        vector = vectors(level, condition, span, self.spans).to(images.dtype)
        vector = self.condition(self.embed_numbers(vector) + self.embed_appearance(condition.appearance))
        compiled = kernels_suit(x)
        skips = []
        for i, blocks in enumerate(self.down_blocks):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, vector)
            if i < len(self.downs):
                skips.append(x)
                x = self.downs[i](x)
        for up, blocks in zip(self.ups, self.up_blocks, strict=True):
            raised = painter_kernels.raised if compiled else _raised
            x = raised(up, x, skips.pop())  # type: ignore[arg-type]
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, vector)
        x = self.out(active(self.out_norm, x))
        if compiled:
            return painter_kernels.blend(x, condition.warped[:, :3], condition.seen, lit, HOLD if self.hold else None)
        return blended(nn.functional.pixel_shuffle(x, 2), condition, self.hold, lit)

    def _around(self, noisy: Tensor, condition: Condition) -> Tensor:
        """All images that the painter is given, as of `gathered`, but for the layout, which stays bytes."""
        layout, past = condition.layout[:, : self.layout_channels], condition.warped[:, 3 : 3 * self.context]
        above = past[:, :0] if self.sky_map is None else self.sky_map(condition.gaze, layout)
        below = past[:, :0] if self.ground_maps is None else self.ground_maps(condition.gaze, layout)
        images = (noisy, condition.warped[:, :3], condition.seen, above, past, below)
        light = LIT * (self.lighting is not None)
        out = torch.empty(len(noisy), sum(image.shape[1] for image in images) + light, *noisy.shape[2:])
        torch.cat(images, 1, out=out[:, : out.shape[1] - light])
        if self.lighting is not None:
            self.lighting.compiled(layout, out[:, _PAINTED:-LIT], condition.gaze, condition.appearance, condition.column, out[:, -LIT:])
        return out

    def lit(self, layout: Tensor, gaze: Tensor, appearance: Tensor, maps: bool = False, column: int = 0) -> Tensor:
        """The layout [B, C, H, W] uint8 as its light alone paints it, colours [B, 3, H, W] in [0, 1]; see `Condition`.

        Gradients reach the maps of the sky and the ground with `maps` alone.
        """
        assert self.lighting is not None
        with torch.set_grad_enabled(maps and torch.is_grad_enabled()):
            layout = unit(layout[:, : self.layout_channels])
            past = layout.new_zeros(len(layout), 3 * (self.context - 1), *layout.shape[2:])
            told = told_images(layout, gaze, past, self.sky_map, self.ground_maps)
        return self.lighting(told, gaze, appearance, column=column)[:, :3]


def told_images(layout: Tensor, gaze: Tensor, past: Tensor, sky: SkyMap | None, ground: terrain.GroundMaps | None) -> Tensor:
    """The layout in [0, 1], what is learned of the sky and of the ground there, and between these earlier frames; [B, C, H, W]."""
    above = [] if sky is None else [sky(gaze, layout)]
    below = [] if ground is None else [ground(gaze, layout)]
    return torch.cat((layout, *above, past, *below), 1)


def gathered(
    noisy: Tensor,
    condition: Condition,
    layout_channels: int,
    sky: SkyMap | None,
    context: int,
    ground: terrain.GroundMaps | None = None,
    light: LearnedLight | None = None,
) -> Tensor:
    """All images that a painter is given, [B, C, H, W]; the first `layout_channels` of the layout, for weights that know no later ones."""
    painted = [noisy, condition.warped[:, :3], condition.seen]
    layout, past, none = condition.layout[:, :layout_channels], condition.warped[:, 3 : 3 * context], noisy[:, :0]
    if torch.is_grad_enabled():
        told = told_images(unit(layout), condition.gaze, past, sky, ground)
        with torch.no_grad():  # light learns from pictures alone, see `fit_light`; it would make up for how little of it is taken
            lit = none if light is None else light(told, condition.gaze, condition.appearance, column=condition.column)
        return torch.cat((*painted, told, lit), 1)
    above = lambda layout: sky(condition.gaze, layout) if sky is not None else none
    below = lambda layout: ground(condition.gaze, layout) if ground is not None else none
    kind, learned = noisy.device.type, (FEATURES * (sky is not None), 2 * terrain.FEATURES * (ground is not None))
    sizes = [*(image.shape[1] for image in painted), layout_channels, learned[0], past.shape[1], learned[1], LIT * (light is not None)]
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else noisy.dtype
    out = torch.empty(len(noisy), sum(sizes), *noisy.shape[2:], dtype=dtype, device=noisy.device)
    places = out.split(sizes, 1)
    layout = unit(layout)
    for place, image in zip(places[:-1], (*painted, layout, above(layout), past, below(layout)), strict=True):
        place.copy_(image)
    if light is not None:
        light(out[:, sum(sizes[: len(painted)]) : -LIT], condition.gaze, condition.appearance, places[-1], condition.column)
    return out


def blended(x: Tensor, condition: Condition, hold: bool, lit: Tensor | None = None) -> Tensor:
    """Frames [B, 3, H, W] of what a network says [B, 4, H, W]: its painting, and how much of the warped frame is kept below it.

    With `lit` [B, 3, H, W] it says a fifth thing: how much of that the layout in its light replaces.

    With `hold`, the warped frame alone is left where most of it is kept. A sigmoid does not come near 1 for the little that one step gains,
    and of what a network keeps 0.9 of, half is lost in 7 frames, though the car stands still.
    """
    warped = condition.warped[:, :3]
    keep = torch.sigmoid(x[:, 3:4]) * condition.seen
    painted = torch.addcmul(x[:, :3], keep, warped)
    if lit is not None:
        painted = torch.lerp(painted, lit.to(painted.dtype) * 2 - 1, x[:, 4:5].to(painted.dtype))
    if not hold:
        return painted
    return torch.lerp(painted, warped, ((keep - HOLD[0]) * (1 / (HOLD[1] - HOLD[0]))).clamp(0, 1))


def active(norm: nn.GroupNorm, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    """SiLU of normalised x [B, C, h, w], of it times `scale` plus `shift` [B, C] where these are given."""
    if kernels_suit(x):
        return painter_kernels.norm_silu(norm, x, scale, shift)
    x = norm(x)
    return silu(x if scale is None else torch.addcmul(shift[:, :, None, None], x, scale[:, :, None, None]))  # type: ignore[index]


def _raised(up: nn.Conv2d, x: Tensor, skip: Tensor) -> Tensor:
    return nn.functional.pixel_shuffle(up(x), 2).add_(skip)


def silu(x: Tensor) -> Tensor:
    """SiLU, in place where no gradient is asked for."""
    return nn.functional.silu(x, inplace=not torch.is_grad_enabled())


def vectors(level: Tensor, condition: Condition, span: Tensor | None, spans: bool) -> Tensor:
    """All numbers that a painter is given, [B, N]."""
    parts = [condition.numbers, fourier(level), fourier(condition.context_noise)]
    if spans:
        parts.append(fourier(torch.zeros_like(level) if span is None else span))
    return torch.cat(parts, -1)


def fourier(value: Tensor) -> Tensor:
    """Features [B, 8] of a number [B] in [0, 1]."""
    angle = value.unsqueeze(-1) * torch.tensor([0.5, 1.0, 2.0, 4.0], device=value.device) * torch.pi
    return torch.cat((torch.sin(angle), torch.cos(angle)), -1)

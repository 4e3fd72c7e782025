"""From scenes to frames: layout, warp and sampler behind two calls, `first` and `next`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from ...camera import CAMERA, Camera
from ...errors import CheckpointError, ConfigError
from ...scene import Scene
from .denoiser import UNKNOWN_APPEARANCE, Condition, FrameDenoiser
from .gaze import gaze
from .layout import CHANNELS, Layout, LayoutRasteriser, without_scenery
from .pipeline import FramePipeline, episode_noise, new_scheduler
from .precision import resolve_precision
from .sharing import shared
from .sizes import load_painter
from .warp import carry, ego_motion, plane_flow

FORMAT = 1  # version of a world model's folder
EMPTY = 128  # of 255, where nothing was seen: about 0 for the model
OTHER_NOISE = 104_729  # salt of a second painting's noise
LayoutLevel = Literal["full", "no_scenery", "none"]
LAYOUT_LEVELS = ("full", "no_scenery", "none")
WITHOUT_SCENERY = 0.5  # how much of a layout is known without its scenery


def numbers_of(actions: Tensor, ego: Tensor | None, layout_known: float | Tensor) -> Tensor:
    """The denoiser's numbers [B, 8] from actions [B, 2] and ego states [B, 7] (None for logs without them).

    `layout_known` is 1 where all of the layout is shown, WITHOUT_SCENERY where the scenery is not, 0 where nothing is: an empty part of
    a whole layout is known to be empty, and a model that cannot tell keeps ghosts of trees that it once imagined there.
    """
    batch = actions.shape[0]
    known = torch.ones(batch, 1, device=actions.device)
    motion = torch.zeros(batch, 3, device=actions.device)
    if ego is not None:
        motion = torch.stack((ego[:, 3] / 20, ego[:, 4] / 5, ego[:, 6] * 2), -1)
    layout = known * (layout_known.view(-1, 1).float() if isinstance(layout_known, Tensor) else float(layout_known))
    return torch.cat((actions, motion, known, known * float(ego is not None), layout), -1)


def to_model(frame: Tensor) -> Tensor:
    """Frames uint8 [B, H, W, 3] to [B, 3, H, W] in [-1, 1]."""
    return frame.permute(0, 3, 1, 2).float() / 127.5 - 1


def with_past(image: Tensor, context: int) -> Tensor:
    """Previous frames [B, 3 * n, H, W], the newest first, with zeros for those missing: [B, 3 * context, H, W]."""
    missing = 3 * context - image.shape[1]
    return torch.nn.functional.pad(image, (0, 0, 0, 0, 0, missing)) if missing else image


def to_frame(image: Tensor) -> Tensor:
    """Images [B, 3, H, W] in [-1, 1] to frames uint8 [B, H, W, 3]."""
    return ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def shown_layout(layout: Layout, scene: Scene, previous: Scene | None, level: str, camera: Camera = CAMERA) -> Layout:
    """What a model is shown of a layout; where something is hidden, pixels move as those of an empty world do.

    Args:
        layout: of `scene`, whole.
        scene: [B].
        previous: the scene before, or None.
        level: "full", "no_scenery" or "none".
        camera: the pinhole.
    """
    if level == "full":
        return layout
    motion = ego_motion((previous or scene).ego.state, scene.ego.state)
    empty = plane_flow(motion, camera)
    if level == "none":
        return Layout(torch.zeros_like(layout.channels), empty)
    kept, hidden = without_scenery(layout.channels)
    return Layout(kept, torch.where(hidden, empty, layout.flow))


class FrameGenerator:
    """The learned camera: paints what the ego sees of a scene, remembering how it looked one step before.

    Args:
        pipeline: trained denoiser and scheduler.
        steps: sampler steps a frame; 1 or 2 for training policies, 4 for evaluation.
        camera: the pinhole it was trained with.
        layout: how much of the layout the model is shown.
        precision: "float32", "bfloat16", or "auto": bfloat16 on processors that compute in it, where painting takes a third less time.
        shortcut: paint one of the frames that could be there in as few `steps` as are asked for, and not their mean; for weights that
            were trained with `train-world shortcut=`.

    Raises:
        ConfigError: an unknown layout level or precision, no steps, or a shortcut with weights that were not trained for it.
    """

    def __init__(
        self,
        pipeline: FramePipeline,
        steps: int = 1,
        camera: Camera = CAMERA,
        layout: LayoutLevel = "full",
        precision: str = "float32",
        shortcut: bool = False,
    ) -> None:
        if layout not in LAYOUT_LEVELS:
            raise ConfigError(f"unknown layout level '{layout}'; known: {', '.join(LAYOUT_LEVELS)}")
        if steps < 1:
            raise ConfigError(f"a frame needs at least 1 sampler step, not {steps}")
        if shortcut and not pipeline.denoiser.spans:
            raise ConfigError("these weights know no shortcuts; train some with `xpeng-world train-world shortcut=0.25`")
        self.pipeline = pipeline
        self.pipeline.denoiser.eval()
        self.steps = steps
        self.camera = camera
        self.layout_level = layout
        self.precision = resolve_precision(precision, str(self.device))
        self.shortcut = shortcut
        self._rasterise = LayoutRasteriser(camera)

    @property
    def device(self) -> torch.device:
        """Where the denoiser's weights are."""
        return next(self.pipeline.denoiser.parameters()).device

    @property
    def context(self) -> int:
        """Previous frames that the painter looks at."""
        return int(self.pipeline.denoiser.context)

    @torch.no_grad()
    def first(self, scene: Scene, seed: Tensor) -> Tensor:
        """Frames uint8 [B, H, W, 3] of scenes nobody has seen yet, painted from the layout alone; seed [B]."""
        layout = self._rasterise(scene, None)

        def paint(part: slice) -> Tensor:
            some = seed[part]
            blank, actions = torch.zeros(len(some), 3, self.camera.height, self.camera.width), torch.zeros(len(some), 2)
            condition = self.condition(layout[part], scene[part], None, blank, actions)
            return to_frame(self._paint(condition, some, torch.zeros_like(some)))

        return self._all(paint, len(seed))

    @torch.no_grad()
    def next(self, previous: Scene, scene: Scene, frame: Tensor, actions: Tensor, seed: Tensor, step: Tensor) -> Tensor:
        """Frames of `scene`, one step after `previous` was seen as `frame`.

        Args:
            previous: [B].
            scene: [B], after the actions.
            frame: uint8 [B, H, W, 3] of `previous`; what this returned for it, if painters look at more than one.
            actions: [B, 2] that led from one to the other.
            seed: [B] int64, the episodes' own.
            step: [B] int64, the index of `scene` in its episode.

        Returns:
            uint8 [B, H, W, 3]; of painters that look at n frames [B, H, W, 3 * n], with those before the new one moved along.
        """
        return self._next(previous, scene, frame, actions, seed, step)

    @torch.no_grad()
    def next_twice(
        self, previous: Scene, scene: Scene, frame: Tensor, actions: Tensor, seed: Tensor, step: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What `next` returns, and a second painting that differs in its noise alone."""
        both = self._next(previous, scene, frame, actions, seed, step, twice=True)
        return both[..., :-3].contiguous(), both[..., -3:].contiguous()

    def _next(
        self, previous: Scene, scene: Scene, frame: Tensor, actions: Tensor, seed: Tensor, step: Tensor, twice: bool = False
    ) -> Tensor:
        """What `next` returns; painted `twice`, the second painting's three channels come last."""
        layout = self._rasterise(scene, previous)

        def paint(part: slice) -> Tensor:
            condition = self.condition(layout[part], scene[part], previous[part], to_model(frame[part]), actions[part])
            painted = self._with_past(self._paint(condition, seed[part], step[part]), condition)
            if not twice:
                return painted
            return torch.cat((painted, to_frame(self._paint(condition, seed[part], step[part], OTHER_NOISE))), -1)

        return self._all(paint, len(frame))

    @torch.no_grad()
    def next_unseen(self, frame: Tensor, actions: Tensor, motion: Tensor, seed: Tensor, step: Tensor) -> Tensor:
        """The frames after `frame` [B, H, W, 3] of a drive whose scene nobody knows; frames before them as of `next`.

        Args:
            frame: uint8.
            actions: [B, 2].
            motion: [B, 3] how the camera is taken to have moved, see `warp.ego_motion`; zero leaves the frame where it is.
            seed: [B] int64, the episodes' own.
            step: [B] int64, the index of the new frame.
        """

        def paint(part: slice) -> Tensor:
            before, batch = with_past(to_model(frame[part]), self.context), len(frame[part])
            carried, seen = carry(before, plane_flow(motion[part], self.camera), self.pipeline.denoiser.warp)
            condition = Condition(
                warped=(carried * seen).to(self.device),
                seen=seen.to(self.device),
                layout=torch.zeros(batch, len(CHANNELS), *before.shape[2:], device=self.device),
                numbers=numbers_of(actions[part], None, False).to(self.device),
                appearance=torch.full((batch,), UNKNOWN_APPEARANCE, device=self.device),
                context_noise=torch.zeros(batch, device=self.device),
                gaze=gaze(torch.full((batch, 3), torch.nan), self.camera).to(self.device),
            )
            return self._with_past(self._paint(condition, seed[part], step[part]), condition)

        return self._all(paint, len(frame))

    def _all(self, paint: Callable[[slice], Tensor], count: int) -> Tensor:
        """What is painted of some frames, of all of them; on a processor some in each thread."""
        if self.device.type != "cpu":
            return paint(slice(None))
        parts = shared(lambda begin, end: paint(slice(begin, end)), count)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def no_past(self, frame: Tensor) -> Tensor | None:
        """The frames before `frame` [B, H, W, 3] where there were none, for painters that look at more than one."""
        missing = 3 * (self.context - 1)
        return frame.new_full((*frame.shape[:-1], missing), EMPTY) if missing else None

    def _with_past(self, image: Tensor, condition: Condition) -> Tensor:
        return to_frame(torch.cat((image, condition.warped[:, :-3].cpu()), 1))

    def _paint(self, condition: Condition, seed: Tensor, step: Tensor, salt: int = 0) -> Tensor:
        canvas = self.pipeline.denoiser.canvas(self.camera.height, self.camera.width)
        noise = episode_noise(seed.tolist(), step.tolist(), canvas, salt).to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"):
            return self.pipeline(condition, noise, self.steps, self.shortcut).cpu()

    def condition(self, layout: Layout, scene: Scene, previous: Scene | None, before: Tensor, actions: Tensor) -> Condition:
        """What the denoiser is told of scenes [B] and their whole layout, given the frames before [B, 3 * n, H, W] in [-1, 1].

        The newest frame comes first.
        """
        device, before = self.device, with_past(before, self.context)
        layout = shown_layout(layout, scene, previous, self.layout_level, self.camera)
        warped, seen = carry(before, layout.flow, self.pipeline.denoiser.warp)
        if previous is None:
            warped, seen = torch.zeros_like(warped), torch.zeros_like(seen)
        known = torch.full((scene.batch_size,), 0.0 if self.layout_level == "none" else WITHOUT_SCENERY)
        if self.layout_level == "full":
            known[(scene.road.scenery_kind > 0).any(-1)] = 1.0  # a map without any scenery is one whose scenery nobody recorded
        return Condition(
            warped=(warped * seen).to(device),
            seen=seen.to(device),
            layout=layout.channels.to(device),
            numbers=numbers_of(actions, scene.ego.state, known).to(device),
            appearance=scene.appearance.to(device),
            context_noise=torch.zeros(scene.batch_size, device=device),
            gaze=gaze(scene.ego.state[:, :3], self.camera).to(device),
        )

    def save(self, folder: str | Path, scene: bool = True) -> None:
        """Write the pipeline (safetensors, JSON) and the format version to a folder; `scene`: whether it was trained on any."""
        folder = Path(folder)
        self.pipeline.save_pretrained(folder, safe_serialization=True)  # type: ignore[attr-defined]
        page = {"format": FORMAT, "steps": self.steps} | ({} if scene else {"scene": False})
        (folder / "world.json").write_text(json.dumps(page, indent=1) + "\n")

    @classmethod
    def load(cls, folder: str | Path, steps: int | None = None, device: str = "cpu", **options: object) -> FrameGenerator:
        """Load a trained world model.

        Raises:
            CheckpointError: the folder is missing, incomplete, or of another version.
        """
        folder = Path(folder)
        meta_path = folder / "world.json"
        if not meta_path.is_file():
            raise CheckpointError(f"no world model in '{folder}': world.json is missing; train one with `xpeng-world train-world`")
        try:
            meta = json.loads(meta_path.read_text())
            if meta.get("format") != FORMAT:
                raise CheckpointError(f"'{folder}' holds a world model of format {meta.get('format')}; this version reads {FORMAT}")
            denoiser = load_painter(folder / "denoiser")
            scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise CheckpointError(f"the world model in '{folder}' cannot be read: {str(error).splitlines()[0]}") from error
        pipeline = FramePipeline(denoiser.to(device), scheduler)
        return cls(pipeline, steps=steps or int(meta.get("steps", 1)), **options)  # type: ignore[arg-type]


def untrained(size_config: dict | None = None, **options: object) -> FrameGenerator:
    """A generator with fresh weights, for tests and for the start of training."""
    return FrameGenerator(FramePipeline(FrameDenoiser(**(size_config or {})), new_scheduler()), **options)  # type: ignore[arg-type]


__all__: Sequence[str] = ("LAYOUT_LEVELS", "UNKNOWN_APPEARANCE", "FrameGenerator", "LayoutLevel", "numbers_of", "shown_layout", "untrained")

"""The learned world: physics moves the ego, traffic answers, signals follow their programmes, and the generator paints the frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from ..camera import CAMERA
from ..scenario import TRIES, Scenario, attempts, circumstances, draw_scenario, misfit
from ..scenarios import Misfit, Script, place
from ..scene import DT, Scene
from ..vehicles import bicycle_step, check_actions
from ..world import WorldState
from .scripted import ScriptedMemory, begin_scripted, step_scripted
from .starts import StartBank
from .traffic import Traffic, make_traffic

if TYPE_CHECKING:
    from .guards import Guards

SHIPPED = Path(__file__).resolve().parents[1] / "weights" / "small"


class Generator(Protocol):
    """What paints frames [B, H, W, 3] uint8; see `world_model.video`."""

    def no_past(self, frame: Tensor) -> Tensor | None:
        """What stands for the frames before the first one, where the painter looks at any."""
        ...

    def first(self, scene: Scene, seed: Tensor) -> Tensor:
        """The first frame of episodes."""
        ...

    def next(self, previous: Scene, scene: Scene, frame: Tensor, actions: Tensor, seed: Tensor, step: Tensor) -> Tensor:
        """The frame of `scene` after `frame`, which showed `previous`; `step` is the index of `scene` in its episode."""
        ...

    def next_twice(
        self, previous: Scene, scene: Scene, frame: Tensor, actions: Tensor, seed: Tensor, step: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What `next` returns, and a second painting that differs in its noise alone."""
        ...


class LearnedWorld:
    """World of B episodes side by side that needs no simulator; states are values.

    Args:
        generator: paints frames; None gives black ones.
        traffic: moves the other road users.
        starts: where episodes begin; None leaves only `reset_from`.
        profile: the ego's vehicle.
        guards: watch whether the pictures can still be believed; need a generator.
    """

    def __init__(
        self, generator: Generator | None, traffic: Traffic, starts: StartBank | None, profile: str = "sedan", guards: Guards | None = None
    ) -> None:
        self.generator, self.traffic, self.starts, self.profile = generator, traffic, starts, profile
        self.guards = guards if generator is not None else None

    @classmethod
    def load(
        cls,
        path: str | Path = SHIPPED,
        camera: bool = True,
        traffic: str = "learned",
        profile: str = "sedan",
        guards: bool = False,
        traffic_options: Mapping[str, Any] | None = None,
        **generator: Any,
    ) -> LearnedWorld:
        """Build the world from a folder of weights.

        Args:
            path: folder with the generator and the start bank.
            camera: whether to paint frames; black ones are much faster.
            traffic: name for `make_traffic`.
            profile: name for `vehicle_profile`.
            guards: whether to watch the pictures, see `world_model.guards`; a step then takes more than twice as long.
            traffic_options: further arguments of the traffic, as `{"style": "pushy"}` of the learned one.
            generator: further options of `FrameGenerator.load`, such as the sampler's `steps`.

        Raises:
            CheckpointError: weights or start bank that are missing, damaged or of another version.
            ConfigError: an unknown name.
        """
        moved = make_traffic(traffic, path, **(traffic_options or {}))
        painter = None
        if camera:
            from .video.generator import FrameGenerator

            painter = FrameGenerator.load(path, **generator)
        watching = None
        if guards and camera:
            from .guards import Guards

            watching = Guards.load(path)
        return cls(painter, moved, StartBank.load(path), profile, watching)

    def reset(self, seeds: Sequence[int], scenario: Mapping[str, Any] | None = None) -> WorldState:
        """Begin one episode per seed from the start bank.

        Raises:
            ConfigError: an unknown scenario key or value, or one that the start bank does not hold.
        """
        openings = [self._open(int(seed), scenario) for seed in seeds]
        scripts = [script for _, _, script in openings if script is not None]
        script = Script.cat(scripts) if scripts else None
        return self.reset_from(Scene.cat([scene for _, scene, _ in openings]), None, seeds, script)

    def describe(self, seed: int, scenario: Mapping[str, Any] | None = None) -> Scenario:
        """The circumstances of the episode that `reset([seed], scenario)` begins.

        Raises:
            ConfigError: an unknown scenario key or value, or one that the start bank does not hold.
        """
        drawn = draw_scenario(int(seed), scenario)
        if drawn.incident is None:
            return (self.starts or StartBank()).describe(drawn, circumstances(scenario))
        return self._open(int(seed), scenario)[0]

    def _open(self, seed: int, scenario: Mapping[str, Any] | None) -> tuple[Scenario, Scene, Script | None]:
        """An episode's circumstances, its opening scene [1] and the script of its scenario, if it has one."""
        starts, fixed = self.starts or StartBank(), circumstances(scenario)
        drawn = draw_scenario(seed, scenario)
        if drawn.incident is None:
            return starts.describe(drawn, fixed), starts.draw(drawn, fixed, self.profile), None
        reason = ""
        for drawn in attempts(seed, scenario):
            scene = starts.draw(drawn, fixed, self.profile)
            drawn = starts.describe(drawn, fixed)
            try:
                return dataclasses.replace(drawn, seed=seed), scene, place(scene, drawn.incident)  # type: ignore[arg-type]
            except Misfit as error:
                reason = str(error)
        raise misfit(drawn, reason, TRIES)

    @torch.no_grad()
    def reset_from(self, scenes: Scene, frame: Tensor | None, seeds: Sequence[int], script: Script | None = None) -> WorldState:
        """Begin episodes from given scenes [B], logged ones for instance; frames [B, H, W, 3] and a script [B] may come along."""
        seed = torch.as_tensor([int(s) for s in seeds], dtype=torch.int64, device=scenes.time.device)
        memory: Any
        if script is None:
            agents, memory = self.traffic.reset(scenes, seed)
        else:
            agents, memory = begin_scripted(self.traffic, scenes, script, seed)
        scenes = dataclasses.replace(scenes, agents=agents)
        if frame is None:
            frame = self.generator.first(scenes, seed) if self.generator is not None else _black(scenes)
        if self.guards is not None:
            memory = self.guards.begin(memory, scenes, frame)
        past = None if self.generator is None else self.generator.no_past(frame)
        return WorldState(scenes, frame, seed, torch.zeros_like(seed), memory, past)

    @torch.no_grad()
    def step(self, state: WorldState, actions: Tensor) -> WorldState:
        """Advance by DT under actions [B, 2] in [-1, 1].

        Raises:
            ActionError: actions of the wrong shape, not finite, or out of range.
        """
        scene, seed, step = state.scene, state.seed, state.step
        check_actions(actions, step.shape[0])
        actions = actions.detach().to(scene.ego.state)
        ego = bicycle_step(scene.ego, actions, scene.profile, DT)
        before = state.memory if self.guards is None else state.memory.traffic
        memory: Any
        if isinstance(before, ScriptedMemory):
            agents, memory = step_scripted(self.traffic, scene, ego, before, seed, step)
        else:
            agents, memory = self.traffic.step(scene, ego, before, seed, step)
        time = scene.time + DT
        following = dataclasses.replace(scene, ego=ego, agents=agents, signals=scene.road.signals_at(time), time=time)
        if self.generator is None:
            return WorldState(following, state.frame, seed, step + 1, memory)
        if self.guards is None:
            pictures = self.generator.next(scene, following, state.pictures, actions, seed, step + 1)
        else:
            pictures, other = self.generator.next_twice(scene, following, state.pictures, actions, seed, step + 1)
            memory = self.guards.look(state.memory, memory, following, pictures[..., :3], other)
        return WorldState.painted(following, pictures, seed, step + 1, memory)

    def doubts(self, state: WorldState) -> dict[str, Tensor]:
        """How near each guard is to its threshold [B], above 1 past it; empty without guards."""
        return {} if self.guards is None else self.guards.doubts(state.memory)


def _black(scene: Scene) -> Tensor:
    return torch.zeros(scene.time.shape[0], CAMERA.height, CAMERA.width, 3, dtype=torch.uint8, device=scene.time.device)

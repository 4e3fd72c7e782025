"""The car network: a small vision-and-state network with continuous actions, for imitation, reinforcement and distillation."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError
from ..scene import Scene
from ..world import EGO_OBSERVATION, ROUTE_AHEAD_POINTS, Observation
from .pictures import PictureMemory, check_lag

FORMAT = 1  # version of a car network's folder
EGO_SCALE = (20.0, 4.0, 0.3, 0.5, 20.0)  # of EGO_OBSERVATION, SI units
ROUTE_SCALE = 40.0  # m


@dataclass
class CarNetConfig:
    """Size of a car network."""

    widths: tuple[int, ...] = (24, 36, 48, 64)  # channels after each halving of the picture
    camera_features: int = 192
    state_features: int = 96
    features: int = 192
    lag: int = 0  # frames of 0.1 s that a second picture lies back; 0: the present one alone is seen

    def __post_init__(self) -> None:
        """Check the lag."""
        check_lag(self.lag)


SIZES = {
    "micro": CarNetConfig(widths=(16, 20, 24, 24), camera_features=32, state_features=40, features=48),  # 45 thousand parameters
    "small": CarNetConfig(),  # 516 thousand
    "small2": CarNetConfig(lag=4),  # 518 thousand; sees the picture of 0.4 s ago as well
}


class CarFeatures(nn.Module):
    """What the network makes of an observation: features [B, features]."""

    ego_scale: Tensor

    def __init__(self, config: CarNetConfig) -> None:
        super().__init__()
        self.lag = config.lag
        layers: list[nn.Module] = []
        before = channels = 6 if config.lag else 3
        for i, width in enumerate(config.widths):
            layers += [nn.Conv2d(before, width, 5 if i == 0 else 3, stride=2, padding=2 if i == 0 else 1), nn.ReLU()]
            before = width
        self.camera = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(config.camera_features), nn.ReLU())
        inputs = len(EGO_OBSERVATION) + 2 * ROUTE_AHEAD_POINTS
        self.state = nn.Sequential(
            nn.Linear(inputs, config.state_features), nn.ReLU(), nn.Linear(config.state_features, config.state_features), nn.ReLU()
        )
        self.fuse = nn.Sequential(nn.Linear(config.camera_features + config.state_features, config.features), nn.ReLU())
        self.register_buffer("ego_scale", torch.tensor(EGO_SCALE), persistent=False)
        with torch.no_grad():
            self.camera(torch.zeros(1, channels, 64, 128))

    def forward(self, camera: Tensor, ego: Tensor, route: Tensor, earlier: Tensor | None = None) -> Tensor:
        """Map what the car sees to features [B, features].

        The convolutions get the present picture and, with a lag, its difference from the earlier one: zero wherever nothing has moved.

        Args:
            camera: [B, 3, H, W] in [0, 1].
            ego: [B, 5], SI units.
            route: [B, 20, 2], m.
            earlier: the camera `lag` frames ago, the episode's first one before that; left out without a lag.

        Raises:
            ConfigError: a network with a lag and no earlier picture, or the other way round.
        """
        if (earlier is None) == bool(self.lag):
            need = f"needs the picture of {self.lag} frames ago as `earlier`" if self.lag else "has lag=0 and takes no `earlier` picture"
            raise ConfigError(f"this car network {need}; `CarPolicy` keeps it from step to step")
        state = torch.cat((ego / self.ego_scale, (route / ROUTE_SCALE).flatten(1)), -1)
        seen = camera - 0.5 if earlier is None else torch.cat((camera - 0.5, camera - earlier), 1)
        return self.fuse(torch.cat((self.camera(seen), self.state(state)), -1))


class CarNet(nn.Module):
    """Mean actions [B, 2] in [-1, 1] from what the car sees."""

    def __init__(self, config: CarNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or CarNetConfig()
        self.features = CarFeatures(self.config)
        self.action = nn.Linear(self.config.features, 2)
        nn.init.normal_(self.action.weight, std=0.01)
        nn.init.zeros_(self.action.bias)

    def forward(self, camera: Tensor, ego: Tensor, route: Tensor, earlier: Tensor | None = None) -> Tensor:
        """Actions [B, 2], not clipped; arguments and errors as of `CarFeatures`."""
        return self.action(self.features(camera, ego, route, earlier))

    def save(self, folder: str | Path, facts: dict[str, Any] | None = None, half: bool = False) -> None:
        """Write `model.safetensors` (in float16 if `half`; it is read as float32 all the same) and `config.json` with size and `facts`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        kind = torch.float16 if half else torch.float32
        tensors = {name: tensor.detach().to("cpu", kind).contiguous() for name, tensor in self.state_dict().items()}
        aside = folder / f".model.{os.getpid()}"
        save_file(tensors, aside)
        os.replace(aside, folder / "model.safetensors")
        size = asdict(self.config)
        if not self.config.lag:  # a network of one picture is written as it was before there were others
            del size["lag"]
        meta = {"format": "xpeng-world-car", "version": FORMAT, "config": size, "facts": facts or {}}
        aside = folder / f".config.{os.getpid()}"
        aside.write_text(json.dumps(meta, indent=1) + "\n")
        os.replace(aside, folder / "config.json")

    @classmethod
    def load(cls, folder: str | Path) -> CarNet:
        """Read a network that `save` wrote.

        Raises:
            CheckpointError: files that are missing, damaged or of another version.
        """
        folder = Path(folder)
        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise CheckpointError(f"no car network in '{folder}': {name} is missing; train one with `xpeng-world train-policy`")
        try:
            meta = json.loads((folder / "config.json").read_text())
            if meta.get("format") != "xpeng-world-car" or meta.get("version") != FORMAT:
                raise CheckpointError(f"'{folder}' holds a car network of version {meta.get('version')}; this code reads {FORMAT}")
            sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in meta["config"].items()}
            net = cls(CarNetConfig(**sizes))
            net.load_state_dict(load_file(folder / "model.safetensors"))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ConfigError, SafetensorError) as error:
            raise CheckpointError(f"the car network in '{folder}' cannot be read: {str(error).splitlines()[0]}") from error
        return net.eval()


class CarPolicy:
    """A car network that drives: its mean action, clipped."""

    privileged = False

    def __init__(self, net: CarNet, name: str = "car") -> None:
        self.net = net.eval()
        self.name = name

    @classmethod
    def load(cls, folder: str | Path) -> CarPolicy:
        """The policy of a folder, named after it."""
        if not Path(folder).is_dir():
            raise ConfigError(f"no folder '{folder}' with a car network")
        return cls(CarNet.load(folder), Path(folder).name)

    def initial_memory(self, seeds: Sequence[int]) -> PictureMemory | None:
        """The pictures of the last `lag` frames, of which there are none yet; None without a lag."""
        lag = self.net.config.lag
        return PictureMemory.empty(len(seeds), lag) if lag else None

    @torch.no_grad()
    def act(
        self, observation: Observation, memory: PictureMemory | None = None, scene: Scene | None = None
    ) -> tuple[Tensor, PictureMemory | None]:
        """Actions [B, 2] in [-1, 1] and the next memory.

        Raises:
            ConfigError: no memory for a network with a lag.
        """
        earlier = None
        if memory is not None:
            earlier, memory = memory.see(observation.camera)
        pictures = [None if t is None else t.permute(0, 3, 1, 2).float() / 255 for t in (observation.camera, earlier)]
        actions = self.net(pictures[0], observation.ego, observation.route, pictures[1])
        return actions.clamp(-1, 1), memory

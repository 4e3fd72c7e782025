"""The car network: a small convolutional driver that sees what the car sees, and its folder of weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..camera import CAMERA
from ..errors import CheckpointError
from ..scene import Scene
from ..world import EGO_OBSERVATION, ROUTE_AHEAD_POINTS, Observation

FORMAT = "xpeng-world-car"
VERSION = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
EGO_SCALE = (15.0, 3.0, 0.3, 0.5, 15.0)  # of EGO_OBSERVATION, so that usual values are about 1
ROUTE_SCALE = 40.0  # m
STATE = len(EGO_OBSERVATION) + 1 + 4 * ROUTE_AHEAD_POINTS  # numbers of `state_numbers`


@dataclass(frozen=True)
class CarConfig:
    """Size of the car network."""

    channels: tuple[int, ...] = (16, 32, 64, 64)  # of the strided convolutions
    features: int = 256  # of the camera encoder
    hidden: int = 256  # of the driver


class CarNet(nn.Module):
    """Camera, ego numbers and route to an action.

    The camera goes through strided convolutions (`encode`), the rest through `state_numbers`; both together through the
    driver, a small perceptron. PPO may train the driver alone on stored features.
    """

    def __init__(self, config: CarConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CarConfig()
        layers: list[nn.Module] = []
        before = 3
        for depth, channels in enumerate(config.channels):
            kernel = 5 if depth == 0 else 3
            layers += [nn.Conv2d(before, channels, kernel, stride=2, padding=kernel // 2), nn.SiLU()]
            before = channels
        cells = (CAMERA.height >> len(config.channels)) * (CAMERA.width >> len(config.channels))
        self.encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * cells, config.features), nn.LayerNorm(config.features))
        width = config.hidden
        self.driver = nn.Sequential(nn.Linear(config.features + STATE, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.head = nn.Linear(width, 2)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def encode(self, camera: Tensor) -> Tensor:
        """Features [B, features] of pictures [B, H, W, 3] uint8."""
        picture = camera.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        return self.encoder(picture)

    def inputs(self, camera: Tensor, ego: Tensor, route: Tensor) -> Tensor:
        """What the driver sees: [B, features + STATE]."""
        return torch.cat((self.encode(camera), state_numbers(ego, route)), -1)

    def forward(self, camera: Tensor, ego: Tensor, route: Tensor) -> Tensor:
        """Actions [B, 2], about within [-1, 1].

        Args:
            camera: [B, H, W, 3] uint8.
            ego: [B, 5] EGO_OBSERVATION in SI units.
            route: [B, ROUTE_AHEAD_POINTS, 2] in the ego frame, m.
        """
        return self.head(self.driver(self.inputs(camera, ego, route)))

    def save(self, folder: str | Path, about: dict[str, Any] | None = None) -> None:
        """Write the weights and the configuration into a folder, with what is to be known `about` them."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{WEIGHTS}.partial"
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, str(partial))
        partial.replace(folder / WEIGHTS)
        content = {"format": FORMAT, "version": VERSION, "config": asdict(self.config), "about": about or {}}
        partial = folder / f".{CONFIG}.partial"
        partial.write_text(json.dumps(content, indent=1))
        partial.replace(folder / CONFIG)

    @classmethod
    def load(cls, folder: str | Path) -> CarNet:
        """Read a network from its folder.

        Raises:
            CheckpointError: a file is missing or damaged, or of another kind or version.
        """
        folder = Path(folder)
        try:
            content = json.loads((folder / CONFIG).read_text())
            kind, version = content["format"], int(content["version"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"'{folder}' holds no car network ({CONFIG}: {error}); train one with `train_imitation`") from None
        if kind != FORMAT or version != VERSION:
            raise CheckpointError(f"'{folder}' holds a {kind} of version {version}, not a {FORMAT} of version {VERSION}; train it again")
        try:
            config = content["config"]
            net = cls(CarConfig(**{**config, "channels": tuple(config["channels"])}))
            net.load_state_dict(load_file(str(folder / WEIGHTS)))
        except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
            said = str(error).splitlines()[0]
            raise CheckpointError(f"'{folder}' holds a damaged car network ({said}); copy or train it again") from None
        return net.eval()


def state_numbers(ego: Tensor, route: Tensor) -> Tensor:
    """Ego and route as numbers of about unit size [B, STATE].

    Besides scaled values these are, for every point of the route, the curvature of the arc to it and the share of the steering
    authority at this speed that the arc would take, as steering is relative to that (see `vehicles.steering_authority`).
    """
    speed = ego[:, 0:1]
    x, y = route[..., 0], route[..., 1]
    curvature = 2 * y / (x.square() + y.square()).clamp_min(4.0)
    numbers = (
        ego / ego.new_tensor(EGO_SCALE),
        (ego[:, 2:3] * speed.square() / 15.0).clamp(-2, 2),
        (x / ROUTE_SCALE).clamp(-3, 3),
        (y / ROUTE_SCALE).clamp(-3, 3),
        (5 * curvature).clamp(-2, 2),
        (curvature * speed.square() / 5.0).clamp(-2, 2),
    )
    return torch.cat(numbers, -1)


class CarPolicy:
    """A car network as a policy; it remembers nothing and sees only the observation."""

    privileged = False

    def __init__(self, net: CarNet, name: str = "car") -> None:
        self.net, self.name = net.eval(), name

    @classmethod
    def load(cls, folder: str | Path) -> CarPolicy:
        """The policy in a folder, named after it.

        Raises:
            CheckpointError: see `CarNet.load`.
        """
        return cls(CarNet.load(folder), Path(folder).name)

    def initial_memory(self, seeds: Sequence[int]) -> None:
        """Nothing."""
        return None

    @torch.no_grad()
    def act(self, observation: Observation, memory: None = None, scene: Scene | None = None) -> tuple[Tensor, None]:
        """Actions [B, 2] in [-1, 1]."""
        return self.net(observation.camera, observation.ego, observation.route).clamp(-1, 1), None

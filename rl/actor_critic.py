"""The car network as Stable-Baselines3 wants a policy: its features, its mean action, and a value head of its own."""

from __future__ import annotations

from typing import Any

import gymnasium
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from ..policies.car import CarFeatures, CarNet, CarNetConfig


class CarExtractor(BaseFeaturesExtractor):
    """`CarFeatures` behind Stable-Baselines3's dictionary observations."""

    def __init__(self, observation_space: gymnasium.Space, config: CarNetConfig) -> None:
        super().__init__(observation_space, config.features)
        self.net = CarFeatures(config)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Features [B, F]; the camera comes as [B, 3, H, W] or [B, H, W, 3], in [0, 1] or in grey levels."""
        camera = observations["camera"].float()
        if camera.shape[1] != 3:
            camera = camera.permute(0, 3, 1, 2)
        return self.net(camera / 255, observations["ego"], observations["route"])


class Heads(nn.Module):
    """Features as they are for the actor; a perceptron for the critic that leaves the features alone."""

    def __init__(self, features: int, width: int = 128) -> None:
        super().__init__()
        self.latent_dim_pi, self.latent_dim_vf = features, width
        self.value = nn.Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Latents of actor and critic."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        """Latent of the actor."""
        return features

    def forward_critic(self, features: Tensor) -> Tensor:
        """Latent of the critic."""
        return self.value(features.detach())


class CarActorCritic(ActorCriticPolicy):
    """Gaussian policy around a car network's actions; `load_net` starts it from an imitated one."""

    def __init__(self, *args: Any, config: CarNetConfig | None = None, **kwargs: Any) -> None:
        self._config = config or CarNetConfig()
        kwargs |= {"features_extractor_class": CarExtractor, "features_extractor_kwargs": {"config": self._config}}
        kwargs |= {"normalize_images": False, "ortho_init": False}
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        critic = [*self.mlp_extractor.parameters(), *self.value_net.parameters()]
        known = {id(parameter) for parameter in critic}
        actor = [parameter for parameter in self.parameters() if id(parameter) not in known]
        groups = [{"params": actor, "critic": False}, {"params": critic, "critic": True}]
        self.optimizer = self.optimizer_class(groups, lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = Heads(self.features_dim)  # type: ignore[assignment]

    @property
    def car(self) -> CarFeatures:
        """The car network's features within this policy."""
        extractor: Any = self.features_extractor
        return extractor.net

    def load_net(self, net: CarNet) -> None:
        """Take over the weights of a car network."""
        self.car.load_state_dict(net.features.state_dict())
        self.action_net.load_state_dict(net.action.state_dict())

    def to_net(self) -> CarNet:
        """The actor as a car network of its own."""
        net = CarNet(self._config)
        net.features.load_state_dict(self.car.state_dict())
        net.action.load_state_dict(self.action_net.state_dict())
        return net.eval()

    def train_parts(self, actor: bool, camera: bool) -> None:
        """Choose what learns: actor and critic or the critic alone, with or without the camera's convolutions."""
        for parameter in (*self.car.parameters(), *self.action_net.parameters(), self.log_std):
            parameter.requires_grad_(actor)
        for module in self.car.camera.modules():
            if isinstance(module, nn.Conv2d):
                for parameter in module.parameters():
                    parameter.requires_grad_(actor and camera)

    def set_exploration(self, steering: float, pedal: float) -> None:
        """Set the standard deviations of the actions."""
        with torch.no_grad():
            self.log_std.copy_(torch.tensor([steering, pedal]).log())


def gaussian_std(policy: CarActorCritic) -> float:
    """Mean standard deviation of the policy's exploration."""
    return float(policy.log_std.detach().exp().mean())

"""The car network as Stable-Baselines3 wants a policy: its features, its mean action, and a value head of its own."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from torch import Tensor, nn

from ..policies.car import CarFeatures, CarNet, CarNetConfig
from ..policies.pictures import PictureMemory

MOST_BRAKING = 7.0  # m/s2, of the passenger car
MOST_ACCELERATION = 3.0 / MOST_BRAKING  # its strongest acceleration, as a share of that
PRIVILEGED_SCALE = 20.0  # m and m/s to about 1


def pedal_to_acceleration(pedal: Tensor) -> Tensor:
    """The acceleration that a pedal in [-1, 1] asks for, as a share of the hardest braking: [-1, 1] to [-1, MOST_ACCELERATION]."""
    return torch.where(pedal > 0, pedal * MOST_ACCELERATION, pedal)


def acceleration_to_pedal(acceleration: Tensor) -> Tensor:
    """Inverse of `pedal_to_acceleration`."""
    return torch.where(acceleration > 0, acceleration / MOST_ACCELERATION, acceleration)


class AccelerationActions(VecEnvWrapper):
    """Environments that take steering and acceleration, as `CarActorCritic` gives them, in place of steering and pedal."""

    def __init__(self, venv: VecEnv) -> None:
        low, high = np.array([-1, -1], np.float32), np.array([1, MOST_ACCELERATION], np.float32)
        super().__init__(venv, action_space=gymnasium.spaces.Box(low, high))

    def reset(self) -> VecEnvObs:
        """Begin all episodes."""
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        """Hand actions [B, 2] on as steering and pedal."""
        pedal = acceleration_to_pedal(torch.as_tensor(actions[:, 1])).numpy()
        self.venv.step_async(np.stack((actions[:, 0], pedal), -1).clip(-1, 1))

    def step_wait(self) -> VecEnvStepReturn:
        """What the environments return."""
        return self.venv.step_wait()


class EarlierPictures(VecEnvWrapper):
    """Environments whose observations have one more entry, `earlier`: the camera `lag` frames ago, the first one at an episode's start."""

    def __init__(self, venv: VecEnv, lag: int) -> None:
        spaces = dict(venv.observation_space.spaces)  # type: ignore[attr-defined]
        super().__init__(venv, observation_space=gymnasium.spaces.Dict({**spaces, "earlier": spaces["camera"]}))
        self._lag = lag
        self._memory = PictureMemory.empty(self.num_envs, lag)

    def reset(self) -> VecEnvObs:
        """Begin all episodes."""
        self._memory = PictureMemory.empty(self.num_envs, self._lag)
        return self._see(self.venv.reset())

    def step_wait(self) -> VecEnvStepReturn:
        """What the environments return, with the earlier pictures; a `terminal_observation` has its own episode's."""
        observation, reward, done, infos = self.venv.step_wait()
        over = np.flatnonzero(done).tolist()
        for row in over:
            last = infos[row]["terminal_observation"]
            infos[row]["terminal_observation"] = {**last, "earlier": self._memory.frames[row, 0].numpy()}
        if over:
            self._memory = self._memory.put(over, PictureMemory.empty(len(over), self._lag))
        return self._see(observation), reward, done, infos

    def _see(self, observation: Any) -> VecEnvObs:
        earlier, self._memory = self._memory.see(torch.from_numpy(observation["camera"]))
        return {**observation, "earlier": earlier.numpy()}


class CarExtractor(BaseFeaturesExtractor):
    """`CarFeatures` behind Stable-Baselines3's dictionary observations; privileged facts, where there are any, follow them."""

    def __init__(self, observation_space: gymnasium.Space, config: CarNetConfig) -> None:
        privileged = observation_space.spaces.get("privileged")  # type: ignore[attr-defined]
        super().__init__(observation_space, config.features + (privileged.shape[0] if privileged else 0))
        self.net = CarFeatures(config)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Features [B, F]; pictures, one or with a lag two, come as [B, 3, H, W] or [B, H, W, 3] in grey levels."""
        pictures = [observations[name].float() for name in ("camera", "earlier") if name in observations]
        camera, *earlier = [p if p.shape[1] == 3 else p.permute(0, 3, 1, 2) for p in pictures]
        features = self.net(camera / 255, observations["ego"], observations["route"], *(p / 255 for p in earlier))
        if "privileged" in observations:
            features = torch.cat((features, observations["privileged"] / PRIVILEGED_SCALE), -1)
        return features


class Heads(nn.Module):
    """The car's features for the actor; for the critic a perceptron on them, detached, and on what only a critic may know."""

    def __init__(self, features: int, privileged: int, width: int = 192) -> None:
        super().__init__()
        self.latent_dim_pi, self.latent_dim_vf = features, width
        self._split = (features, privileged)
        inputs = features + privileged
        self.value = nn.Sequential(nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Latents of actor and critic."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        """Latent of the actor."""
        return features.split(self._split, -1)[0]

    def forward_critic(self, features: Tensor) -> Tensor:
        """Latent of the critic."""
        return self.value(features.detach())


class CarActorCritic(ActorCriticPolicy):
    """Gaussian policy around a car network's actions, with a critic that may know more; `load_net` starts it from an imitated one.

    Its actions are steering and acceleration as a share of `MOST_BRAKING` (see `pedal_to_acceleration`): a pedal brakes harder than it
    accelerates, so noise on the pedal itself would slow the car, and a policy that learns to make up for that would drive too fast
    without the noise. The noise of successive steps is correlated, so that it leads somewhere; each action's own distribution is the
    Gaussian's.
    """

    def __init__(self, *args: Any, config: CarNetConfig | None = None, noise_memory: float = 0.0, **kwargs: Any) -> None:
        self._config = config or CarNetConfig()
        self._noise_memory = noise_memory
        self._noise: Tensor | None = None
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
        car = self._config.features
        self.mlp_extractor = Heads(car, self.features_dim - car)  # type: ignore[assignment]

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Distribution:
        pedal = self.action_net(latent_pi)
        mean = torch.cat((pedal[..., :1], pedal_to_acceleration(pedal[..., 1:])), -1)
        return self.action_dist.proba_distribution(mean, self.log_std)

    def forward(self, obs: Any, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions [B, 2], values [B, 1] and log-probabilities [B] of observations."""
        latent_pi, latent_vf = self.mlp_extractor(self.extract_features(obs))
        distribution = self._get_action_dist_from_latent(latent_pi)
        mean = distribution.mode()
        actions = mean if deterministic else mean + self.log_std.exp() * self._next_noise(mean)
        return actions, self.value_net(latent_vf), distribution.log_prob(actions)

    def _next_noise(self, like: Tensor) -> Tensor:
        """Standard normal noise [B, 2], correlated with the last call's by `noise_memory` (a first-order autoregression)."""
        fresh = torch.randn_like(like)
        if self._noise is None or self._noise.shape != fresh.shape:
            self._noise = fresh
        else:
            memory = self._noise_memory
            self._noise = memory * self._noise + (1 - memory**2) ** 0.5 * fresh
        return self._noise

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

    def set_exploration(self, steering: float, acceleration: float) -> None:
        """Set the standard deviations of the actions."""
        with torch.no_grad():
            self.log_std.copy_(torch.tensor([steering, acceleration]).log())


def gaussian_std(policy: CarActorCritic) -> float:
    """Mean standard deviation of the policy's exploration."""
    return float(policy.log_std.detach().exp().mean())

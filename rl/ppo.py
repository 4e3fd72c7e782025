"""PPO of the car network in a world, from an imitated start, with Stable-Baselines3."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from ..envs import Sb3VecEnv
from ..errors import CheckpointError, ConfigError
from ..policies.car import CarNet
from ..training_state import load_state, read_meta, save_state
from ..world_model.video.precision import resolve_precision
from .actor_critic import MOST_BRAKING, AccelerationActions, CarActorCritic, EarlierPictures, gaussian_std

STATE_KIND, STATE_VERSION = "ppo", 1


@dataclass
class PpoConfig:
    """Everything a run of PPO depends on."""

    init: str = "runs/imitation/weights"  # folder of the imitated car network; "none" starts from nothing
    out: str = "runs/ppo"
    world: str = "learned"
    reward: str = "default"
    split: str = "train"  # road networks to drive on
    seed: int = 0
    steps: int = 40_960  # environment steps in the whole run
    num_envs: int = 16
    episode_steps: int = 300
    rollout: int = 128  # steps of each environment between two updates
    batch_size: int = 512
    epochs: int = 5
    learning_rate: float = 1e-4  # of the actor at the start; falls to a tenth over the run
    critic_learning_rate: float = 1e-3
    gamma: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.15
    target_kl: float = 0.015
    entropy: float = 0.0
    exploration_steering: float = 0.05  # standard deviation of the steering at the start
    exploration_acceleration: float = 0.7  # m/s2, standard deviation of the acceleration at the start
    noise_memory: float = 0.8  # correlation of the noise of successive steps
    privileged: bool = True  # whether the critic sees what the car cannot
    value_warmup: int = 2  # rollouts that train the critic alone
    train_camera: bool = False  # whether the camera's convolutions learn too
    precision: str = "auto"  # of the learned world's painter: float32, bfloat16 or auto
    minutes: float = 0.0  # stop and keep the state after this long; 0: no limit
    threads: int = 2
    resume: bool = True


class TwoRatePpo(PPO):
    """PPO whose critic learns at a rate of its own: it starts from nothing while the actor starts from a driver."""

    critic_learning_rate: float = 0.0

    def _update_learning_rate(self, optimizers: Any) -> None:
        super()._update_learning_rate(optimizers)
        for group in self.policy.optimizer.param_groups:
            if group.get("critic"):
                group["lr"] = self.critic_learning_rate


class Progress(BaseCallback):
    """Warms the critic up, keeps the state, and ends a run whose time is over."""

    def __init__(self, config: PpoConfig, done: int) -> None:
        super().__init__()
        self.config, self.done, self.rollouts = config, done, 0
        self.started = time.monotonic()

    def _on_rollout_start(self) -> None:
        config = self.config
        if self.rollouts:
            save_ppo(self.model, config)  # type: ignore[arg-type]
        rollouts_before = self.done // (config.rollout * config.num_envs)
        policy = self.model.policy
        policy.train_parts(actor=rollouts_before + self.rollouts >= config.value_warmup, camera=config.train_camera)  # type: ignore[operator, union-attr]
        self.rollouts += 1
        self.logger.record("train/exploration", gaussian_std(policy))  # type: ignore[arg-type]

    def _on_step(self) -> bool:
        minutes = self.config.minutes
        return not minutes or time.monotonic() - self.started < 60 * minutes


def train_ppo(config: PpoConfig, env: VecEnv | None = None) -> Path:
    """Train a car network by reinforcement; returns its folder.

    Args:
        config: the run.
        env: environments of its own kind, in place of `config.world`.

    Raises:
        ConfigError: numbers that do not fit together.
        CheckpointError: a start or a state that cannot be used.
    """
    torch.set_num_threads(config.threads)
    if config.rollout * config.num_envs % config.batch_size:
        raise ConfigError(f"batch_size={config.batch_size} must divide rollout * num_envs = {config.rollout * config.num_envs}")
    own = env is None
    env = env or Sb3VecEnv(
        config.num_envs,
        world=config.world,
        reward=config.reward,
        max_episode_steps=config.episode_steps,
        privileged=config.privileged,
        scenario={"split": config.split},
        world_options={} if config.world == "reference" else {"precision": resolve_precision(config.precision, "cpu")},
    )
    try:
        return _train(config, env)
    finally:
        if own:
            env.close()


def _train(config: PpoConfig, env: VecEnv) -> Path:
    out = Path(config.out)
    start = None if config.init == "none" else CarNet.load(config.init)
    if start is not None and start.config.lag:
        env = EarlierPictures(env, start.config.lag)
    model = TwoRatePpo(
        CarActorCritic,
        AccelerationActions(env),
        learning_rate=lambda left: config.learning_rate * max(left, 0.1),
        n_steps=config.rollout,
        batch_size=config.batch_size,
        n_epochs=config.epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip,
        ent_coef=config.entropy,
        max_grad_norm=0.5,
        target_kl=config.target_kl,
        tensorboard_log=str(out / "tensorboard"),
        policy_kwargs={"config": start.config if start else None, "noise_memory": config.noise_memory},
        seed=config.seed,
        device="cpu",
    )
    model.critic_learning_rate = config.critic_learning_rate
    model.policy.set_exploration(config.exploration_steering, config.exploration_acceleration / MOST_BRAKING)  # type: ignore[operator]
    if start is not None:
        model.policy.load_net(start)  # type: ignore[operator]
    done = _restore(model, config) if config.resume else 0
    env.seed(config.seed * 1_000_003 + done)
    if done < config.steps:
        model.learn(config.steps - done, callback=Progress(config, done), reset_num_timesteps=False, tb_log_name=f"seed{config.seed}")
    save_ppo(model, config)
    return out / "weights"


def save_ppo(model: PPO, config: PpoConfig) -> None:
    """Write the car network and the state to resume from."""
    out = Path(config.out)
    policy: Any = model.policy
    facts = {"trained_by": "ppo", "world": config.world, "steps": model.num_timesteps, "seed": config.seed, "reward": config.reward}
    policy.to_net().save(out / "weights", facts)
    meta = {"format": STATE_KIND, "version": STATE_VERSION, "steps": model.num_timesteps, "config": asdict(config)}
    save_state(out / "state", {"policy": policy}, policy.optimizer, meta)


def _restore(model: PPO, config: PpoConfig) -> int:
    """Load the run's state, if there is one; returns the environment steps done. Episodes begin anew."""
    folder = Path(config.out) / "state"
    meta = read_meta(folder, STATE_KIND, STATE_VERSION)
    if meta is None:
        return 0
    for key in ("seed", "world", "reward"):
        if meta["config"][key] != getattr(config, key):
            raise CheckpointError(f"'{folder}' is a run with {key}={meta['config'][key]}; choose another out= or set resume=false")
    load_state(folder, {"policy": model.policy}, model.policy.optimizer)
    model.num_timesteps = int(meta["steps"])
    return model.num_timesteps

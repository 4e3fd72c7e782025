"""Vehicle profiles and the kinematic bicycle model that moves the ego."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .batched import Batched
from .errors import ActionError, ConfigError
from .geometry import wrap_angle
from .scene import Ego

GRAVITY = 9.81  # m/s2


@dataclass(frozen=True)
class VehicleProfile(Batched):
    """What the bicycle model and the rules need to know of the ego's vehicle; every field is a tensor [B]."""

    length: Tensor  # m
    width: Tensor  # m
    height: Tensor  # m
    wheelbase: Tensor  # m
    rear_axle: Tensor  # m from the rear axle forward to the centre of the box
    max_steering: Tensor  # rad, road wheel angle at walking pace
    steering_rate: Tensor  # rad/s
    max_lateral_acceleration: Tensor  # m/s2 that full steering asks for at speed
    max_acceleration: Tensor  # m/s2
    max_braking: Tensor  # m/s2, positive
    pedal_lag: Tensor  # s, first-order lag of acceleration
    max_speed: Tensor  # m/s


PROFILES: dict[str, dict[str, float]] = {
    "sedan": {
        "length": 4.8, "width": 1.9, "height": 1.5, "wheelbase": 2.9, "rear_axle": 1.45, "max_steering": 0.55,
        "steering_rate": 0.7, "max_lateral_acceleration": 5.0, "max_acceleration": 3.0, "max_braking": 7.0,
        "pedal_lag": 0.25, "max_speed": 40.0,
    },
    "van": {
        "length": 5.9, "width": 2.05, "height": 2.5, "wheelbase": 3.6, "rear_axle": 1.75, "max_steering": 0.6,
        "steering_rate": 0.6, "max_lateral_acceleration": 4.0, "max_acceleration": 2.2, "max_braking": 6.0,
        "pedal_lag": 0.3, "max_speed": 36.0,
    },
}  # fmt: skip


def vehicle_profile(name: str = "sedan", batch_size: int = 1) -> VehicleProfile:
    """Return the named profile, repeated over the batch.

    Raises:
        ConfigError: no profile has that name.
    """
    if name not in PROFILES:
        raise ConfigError(f"unknown vehicle profile '{name}'; known: {', '.join(PROFILES)}")
    return VehicleProfile(**{key: torch.full((batch_size,), value) for key, value in PROFILES[name].items()})


def check_actions(actions: Tensor, batch_size: int) -> None:
    """Refuse actions that no vehicle can carry out.

    Raises:
        ActionError: not of shape [B, 2], not finite, or outside [-1, 1].
    """
    if tuple(actions.shape) != (batch_size, 2):
        raise ActionError(f"actions have shape {list(actions.shape)}; this world of {batch_size} needs [{batch_size}, 2]")
    if not bool(torch.isfinite(actions).all()):
        raise ActionError("an action is NaN or infinite; check the policy's output before stepping the world")
    if bool((actions.abs() > 1 + 1e-6).any()):
        raise ActionError(f"an action of {float(actions.abs().max()):.3g} is outside [-1, 1]; clip it to the action space")


def steering_authority(speed: Tensor, profile: VehicleProfile) -> Tensor:
    """Road wheel angle [B] in rad that full steering (action 1) asks for at a speed [B] in m/s.

    It falls with the square of the speed, so that full steering never asks for more than the profile's lateral acceleration.
    """
    limited = torch.atan(profile.wheelbase * profile.max_lateral_acceleration / speed.square().clamp_min(1e-3))
    return torch.minimum(profile.max_steering, limited)


def bicycle_step(ego: Ego, actions: Tensor, profile: VehicleProfile, dt: float) -> Ego:
    """Advance the ego by one step of the kinematic bicycle model about the centre of its box.

    Args:
        ego: state of every field [B].
        actions: [B, 2] in [-1, 1]: steering (positive to the left) and pedal (positive accelerates, negative brakes).
        profile: [B].
        dt: step, s.

    Steering follows at a limited rate, acceleration with a first-order lag; the vehicle never rolls backwards.
    Source: R. Rajamani, Vehicle Dynamics and Control, section 2.2.
    """
    steer_action, pedal = actions[:, 0].clamp(-1, 1), actions[:, 1].clamp(-1, 1)
    wanted_steering = steer_action * steering_authority(ego.speed, profile)
    step = profile.steering_rate * dt
    steering = ego.steering + torch.minimum(torch.maximum(wanted_steering - ego.steering, -step), step)

    wanted_acceleration = torch.where(pedal >= 0, pedal * profile.max_acceleration, pedal * profile.max_braking)
    blend = 1 - torch.exp(-dt / profile.pedal_lag)
    acceleration = ego.acceleration + blend * (wanted_acceleration - ego.acceleration)
    speed = torch.minimum((ego.speed + acceleration * dt).clamp_min(0), profile.max_speed)
    acceleration = torch.where((speed <= 0) & (acceleration < 0), torch.zeros_like(acceleration), acceleration)

    mean_speed = 0.5 * (ego.speed + speed)
    slip = torch.atan(profile.rear_axle / profile.wheelbase * torch.tan(steering))
    yaw_rate = mean_speed / profile.rear_axle * torch.sin(slip)
    course = ego.heading + slip + 0.5 * yaw_rate * dt
    position = ego.position + (mean_speed * dt).unsqueeze(-1) * torch.stack((torch.cos(course), torch.sin(course)), -1)
    return Ego.of(
        x=position[..., 0],
        y=position[..., 1],
        heading=wrap_angle(ego.heading + yaw_rate * dt),
        speed=speed,
        acceleration=acceleration,
        steering=steering,
        yaw_rate=yaw_rate,
    )

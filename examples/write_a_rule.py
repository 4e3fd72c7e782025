"""Write a driving rule, put it into a reward design, and see what it says of a drive."""

import tempfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import xpeng_world  # noqa: F401

RULE = '''
from torch import Tensor
from xpeng_world.rewards import rule
from xpeng_world.scene import Track


@rule(kind="term", unit="1", low=0.0, high=1.0, source="this example", neutral=1.0)
def calm_wheel(track: Track, *, full_rad: float = 0.1) -> Tensor:
    """1 with the wheels straight, 0 at `full_rad` and more; [B, T]."""
    return (1 - track.ego.steering.abs() / full_rad).clamp(0, 1)
'''
DESIGN = """
description: progress with a calm wheel
scale: 0.1
terms:
  relative_progress: {weight: 1.0}
factors:
  RULE_FILE: {strength: 0.5}
"""


def main(world: str = "learned", steps: int = 30) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        rule_file = Path(folder) / "calm_wheel.py"
        rule_file.write_text(RULE)
        design = Path(folder) / "calm.yaml"
        design.write_text(DESIGN.replace("RULE_FILE", str(rule_file)))
        env = gym.make("XPengWorld-v0", world=world, reward=str(design))
        env.reset(seed=3)
        total = 0.0
        for step in range(steps):
            action = np.array([0.3 * np.sin(step / 5), 0.3], np.float32)
            _, reward, terminated, truncated, info = env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        env.close()
    print(f"return {total:.2f}; rules at the end: { {name: round(float(v), 2) for name, v in info['rules'].items()} }")
    return {name: float(value) for name, value in info["rules"].items()}


if __name__ == "__main__":
    main()

"""Eight futures of one moment: the same scene driven on with eight different actions, in one batch, as one picture.

python examples/eight_futures.py [OUT.png]
"""

import sys

import gymnasium
import numpy as np
import torch
import xpeng_world  # noqa: F401  (registers the environment)
from xpeng_world.evaluation.pictures import write_strip
from xpeng_world.policies import load_policy

SECONDS = 3
PLANS = {  # steering and pedal
    "hard left": (0.5, 0.0), "left": (0.15, 0.2), "straight": (0.0, 0.2), "right": (-0.15, 0.2),
    "hard right": (-0.5, 0.0), "full speed": (0.0, 1.0), "brake": (0.0, -0.4), "stop": (0.0, -1.0),
}  # fmt: skip


def main(out: str = "eight_futures.png") -> None:
    env = gymnasium.make("XPengWorld-v0", max_episode_steps=-1).unwrapped
    env.reset(seed=11, options={"split": "test", "family": "city"})
    expert = load_policy("expert")
    for _ in range(40):  # four seconds into an episode
        action, _ = expert.act(None, None, env.scene)
        observation, *_ = env.step(action[0].numpy())
    futures = env.branch(len(PLANS))
    actions = np.array(list(PLANS.values()), np.float32)
    rows = {name: [torch.from_numpy(observation["camera"])] for name in PLANS}
    rewards, terminated = np.zeros(len(PLANS)), np.zeros(len(PLANS), bool)
    for step in range(1, 10 * SECONDS + 1):
        seen, reward, terminated, _, _ = futures.step(actions)
        rewards += reward
        if step % 10 == 0:
            for k, name in enumerate(PLANS):
                rows[name].append(torch.from_numpy(seen["camera"][k]))
    for k, name in enumerate(PLANS):
        print(f"{name:>11}: reward {rewards[k]:+8.2f}{'  crashed or left the road' if terminated[k] else ''}")
    print(write_strip(out, rows, ["now", *(f"{second} s" for second in range(1, SECONDS + 1))]))


if __name__ == "__main__":
    main(*sys.argv[1:])

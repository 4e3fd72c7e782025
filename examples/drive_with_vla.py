"""Let a VLA drive in the learned world and print what it thinks before it acts.

Run: python examples/drive_with_vla.py [VLA folder] [world]
"""

import sys

import gymnasium as gym
import torch
import xpeng_world
from xpeng_world.policies.vla.policy import VlaPolicy
from xpeng_world.world import Observation


def as_policies_see(seen):
    """The environment's observation as a batch of one."""
    camera, ego, route = (torch.as_tensor(seen[name]).unsqueeze(0) for name in ("camera", "ego", "route"))
    return Observation(camera, ego, route.reshape(1, -1, 2))


def main(folder=None, world="learned", steps=30, seed=7):
    policy = VlaPolicy.load(folder, mode="slow") if folder else VlaPolicy.shipped(mode="slow")
    env = gym.make("XPengWorld-v0", world=world)
    seen, _ = env.reset(seed=seed)
    memory, thoughts, total = policy.initial_memory([seed]), [], 0.0
    for step in range(steps):
        action, memory = policy.act(as_policies_see(seen), memory)
        thoughts.append(" ".join(policy.model.tokenizer.convert_ids_to_tokens(policy.last.ids[0].tolist())))
        if step % 10 == 0:
            print(f"{step / 10:.0f} s  steering {action[0, 0]:+.2f}  pedal {action[0, 1]:+.2f}  {thoughts[-1]}")
        seen, reward, terminated, truncated, _ = env.step(action[0].numpy())
        total += reward
        if terminated or truncated:
            break
    env.close()
    print(
        f"{len(thoughts)} decisions, {policy.unparsable} that could not be read, reward {total:.2f}, xpeng_world {xpeng_world.__version__}"
    )
    return thoughts, total


if __name__ == "__main__":
    main(*sys.argv[1:])

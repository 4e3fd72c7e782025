"""Improve an imitated VLA by GRPO inside the learned world, then compare how both drive one episode.

Run: python examples/train_grpo.py [VLA folder] [out] [rounds]
Imitate first: xpeng-world train-policy policy=vla out=runs/vla
"""

import sys

from xpeng_world.envs import make_world
from xpeng_world.envs.core import DrivingLoop
from xpeng_world.policies import load_policy
from xpeng_world.rewards import load_design
from xpeng_world.rl.grpo import GrpoConfig, train_grpo
from xpeng_world.world import observe


def earned(policy, world, seed=7, steps=50):
    loop = DrivingLoop(make_world(world), load_design("default"), steps)
    running, memory = loop.reset([seed], {"split": "validation", "density": "dense"}), policy.initial_memory([seed])
    done = False
    while not done:
        action, memory = policy.act(observe(running.state), memory)
        running, outcome = loop.step(running, action)
        done = bool(outcome.done)
    return float(running.total)


def main(start="runs/vla/weights", out="runs/example_grpo", rounds="60", world="learned", **settings):
    improved = train_grpo(GrpoConfig(init=start, out=out, world=world, rounds=int(rounds), **settings))
    print(f"wrote {improved}; watch with: tensorboard --logdir {out}")
    rewards = {name: earned(load_policy(folder), world) for name, folder in (("start", start), ("after GRPO", improved))}
    for name, reward in rewards.items():
        print(f"{name}: reward {reward:.2f} in one episode of 5 s at most; one episode shows little, score with `xpeng-world eval`")
    return improved, rewards


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Imitate the expert on recorded clips, then improve the car network by PPO inside the learned world.

Run: python examples/train_ppo.py [recordings] [out] [minutes of imitation] [environment steps of PPO]
Record first: xpeng-world record out=runs/logs episodes=100
"""

import sys

import torch
from xpeng_world.policies import load_policy
from xpeng_world.rl.imitation import ImitationConfig, train_imitation
from xpeng_world.rl.ppo import PpoConfig, train_ppo
from xpeng_world.world import Observation


def main(recordings="runs/logs", out="runs/example", minutes="10", steps="30720"):
    imitated = train_imitation(ImitationConfig(data=recordings, out=f"{out}/imitation", minutes=float(minutes)))
    improved = train_ppo(PpoConfig(init=str(imitated), out=f"{out}/ppo", world="learned", steps=int(steps)))
    print(f"wrote {improved}; watch with: tensorboard --logdir {out}")
    straight = Observation(
        camera=torch.zeros(1, 64, 128, 3, dtype=torch.uint8),
        ego=torch.tensor([[8.0, 0.0, 0.0, 0.0, 13.9]]),
        route=torch.stack((torch.arange(4.0, 84.0, 4.0), torch.zeros(20)), -1)[None],
    )
    for name in (imitated, improved):
        policy = load_policy(name)
        action, _ = policy.act(straight, policy.initial_memory([0]))
        print(f"{name}: steering {float(action[0, 0]):+.3f}, pedal {float(action[0, 1]):+.3f} at 8 m/s on a straight road")


if __name__ == "__main__":
    main(*sys.argv[1:])

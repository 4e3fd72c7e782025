"""Drive one episode through Gymnasium with a few lines of steering, and keep it as an animation.

Run: python examples/drive_with_gym.py [XPengWorld-v0 | XPengReference-v0] [drive.gif]
"""

import sys

import gymnasium
import imageio.v3 as imageio
import numpy as np
import xpeng_world  # noqa: F401  (registers the environments)


def drive(observation):
    """Follow the route, slower in bends; lights and other cars are not its concern."""
    speed, _, _, _, limit = observation["ego"]
    route = observation["route"].reshape(20, 2)  # points, 4 m apart, ahead of the car
    x, y = route[int(speed / 8) + 1]
    curvature = 2 * y / (x**2 + y**2)
    wheelbase, lateral_acceleration = 2.9, 5.0  # of the sedan; full steering asks for no more
    most = min(0.55, np.arctan(wheelbase * lateral_acceleration / max(speed, 0.1) ** 2))
    bend = np.abs(np.diff(np.unwrap(np.arctan2(*np.diff(route[:9], axis=0).T[::-1])))).max() / 4
    wanted = min(limit, np.sqrt(2.0 / max(bend, 1e-3)))
    return np.clip([np.arctan(wheelbase * curvature) / most, 0.4 * (wanted - speed)], -1, 1).astype(np.float32)


def main(name="XPengWorld-v0", out="drive.gif"):
    env = gymnasium.make(name, render_mode="rgb_array")
    observation, info = env.reset(seed=3, options={"split": "test", "family": "city", "density": "sparse"})
    print("scenario:", info["scenario"])
    pictures, over = [], False
    while not over:
        observation, _, terminated, truncated, info = env.step(drive(observation))
        pictures.append(env.render())
        over = terminated or truncated
    print(f"{info['stats']['length']} steps, return {info['stats']['return']:.2f}, ended: {info.get('ended', 'time limit')}")
    for rule, value in info["stats"]["rules"].items():
        print(f"  {rule:24s} {value:8.3f} on average")
    imageio.imwrite(out, pictures[::2], duration=200, loop=0)
    print(f"wrote {out}")
    env.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

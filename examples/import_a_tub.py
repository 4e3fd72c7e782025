"""Import a DonkeyCar tub, train a small world on it, and keep a strip of what it dreams."""

import sys
from pathlib import Path

from xpeng_world.data import import_donkeycar
from xpeng_world.world_model.video.train import TrainWorldConfig, train_world


def main(tub: str, out: str = "runs/tub", samples: int = 20_000, size: str = "small") -> Path:
    report = import_donkeycar(tub, f"{out}/logs")
    print(report)
    config = TrainWorldConfig(data=f"{out}/logs", out=f"{out}/world", size=size, samples=samples, warmup=20, streams=32)
    weights = train_world(config)
    print(f"weights in {weights}; pictures with `tensorboard --logdir {out}/world/tensorboard`")
    return weights


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python examples/import_a_tub.py PATH_OF_TUB")
    main(sys.argv[1])

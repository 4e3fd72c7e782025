"""Stands for the project's commands: what they write follows from their words and inputs, they resume, and can be made to die."""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

command, *words = sys.argv[1:]
keys = dict(word.split("=", 1) for word in words)
out = Path(keys["out"])
out.mkdir(parents=True, exist_ok=True)
stage = out.name.removesuffix(".partial")


def log(text):
    with open("calls.log", "a") as file:
        file.write(f"{stage} {command} {text}\n")


def die_here(moment):
    """Once, where FAKE_DEATH says so."""
    if os.environ.get("FAKE_DEATH") == f"{stage}:{moment}" and not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)


if command == "record":
    log("begins")
    if keys.get("episodes") == "13":
        print("xpeng-world: unlucky", file=sys.stderr)
        sys.exit(2)
    content = f"{keys.get('episodes')} {keys.get('seed')}"
    (out / "train-000000.tar").write_text(content)
    (out / "index.json").write_text(json.dumps([content]))
    (out / ".hidden").write_text(str(os.getpid()))
    (out / "metrics.json").write_text(str(os.getpid()))
elif command == "train-policy":
    state = out / "state.json"
    step, value = json.loads(state.read_text()) if state.exists() else (0, "")
    log(f"begins at {step}")
    files = sorted(p for p in Path(keys["data"]).rglob("*") if p.suffix in (".tar", ".safetensors"))
    data = b"".join(p.read_bytes() for p in files).decode()
    while step < int(keys.get("steps", 6)):
        die_here(step)
        step, value = step + 1, hashlib.sha256(f"{value}{data}{step}{keys.get('seed')}".encode()).hexdigest()
        state.write_text(json.dumps([step, value]))
    (out / "weights").mkdir(exist_ok=True)
    (out / "weights" / "model.safetensors").write_text(value)
elif command == "eval":
    log("begins")
    value = int(hashlib.sha256((Path(keys["policy"]) / "model.safetensors").read_bytes()).hexdigest(), 16) % 1000 / 10
    figure = {"value": value, "low": value - 1, "high": value + 1, "n": 3}
    names = ("epdms", "no_at_fault_collision", "traffic_light", "ego_progress", "mean_speed_mps")
    record = {"command": "eval", "commit": "c", "machine": "m", "threads": 1, "seeds": [0], "seconds": os.getpid()}
    (out / "metrics.json").write_text(json.dumps({**record, "metrics": dict.fromkeys(names, figure)}))
    (out / "strip_0.png").write_bytes(b"a picture")
log("ends")

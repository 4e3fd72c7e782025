import importlib.util
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("XPENG_WORLD_DATA", ROOT / ".." / "shared" / "data"))


def example(name: str):
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_write_a_rule_pays_by_the_new_rule() -> None:
    values = example("write_a_rule").main(steps=12)
    (name,) = [name for name in values if "calm_wheel" in name]
    assert 0 <= values[name] < 1


def test_drive_with_gym_keeps_an_animation(tmp_path, capsys) -> None:
    example("drive_with_gym").main(out=str(tmp_path / "drive.gif"))
    assert "return" in capsys.readouterr().out
    assert (tmp_path / "drive.gif").stat().st_size > 10_000


def test_eight_futures_are_one_picture(tmp_path, capsys) -> None:
    example("eight_futures").main(str(tmp_path / "futures.png"))
    lines = capsys.readouterr().out.splitlines()
    rewards = {line.split(":")[0].strip(): float(line.split("reward")[1].split()[0]) for line in lines if "reward" in line}
    assert len(rewards) == 8
    assert len(set(rewards.values())) > 4
    assert (tmp_path / "futures.png").stat().st_size > 50_000


@pytest.mark.skipif(not (DATA / "donkey_tub").is_dir(), reason="the DonkeyCar tub is not here; set XPENG_WORLD_DATA")
def test_import_a_tub_trains_a_world_without_a_scene(tmp_path) -> None:
    weights = example("import_a_tub").main(str(DATA / "donkey_tub"), out=str(tmp_path), samples=96, size="tiny")
    assert (weights / "denoiser" / "diffusion_pytorch_model.safetensors").is_file()


@pytest.mark.filterwarnings("ignore")
def test_train_ppo_imitates_and_improves(tmp_path) -> None:
    from xpeng_world.data import ShardWriter

    with ShardWriter(tmp_path / "logs") as shards:
        shards.add(example("../tests/world_model/drives_local").painted_clip(40))
    example("train_ppo").main(str(tmp_path / "logs"), str(tmp_path / "out"), "0.05", "1024")
    assert (tmp_path / "out" / "ppo" / "weights" / "model.safetensors").is_file()


@pytest.mark.filterwarnings("ignore")
def test_train_grpo_improves_a_vla_and_drives_both(tmp_path) -> None:
    import torch
    from xpeng_world.policies.vla import VlaModel
    from xpeng_world.world_model.video.tokenizer import FrameTokenizer

    torch.manual_seed(0)
    frames = FrameTokenizer(levels=[5, 4, 3], widths=[16, 16, 16], blocks=1)
    VlaModel.create("tiny", frames).save(tmp_path / "start")
    small = {"starts": 1, "group": 2, "parts": 1, "batch_size": 2, "updates": 1, "episode_steps": 4, "threads": 1}
    improved, rewards = example("train_grpo").main(str(tmp_path / "start"), str(tmp_path / "out"), "1", **small)
    assert VlaModel.load(improved).facts["trained_by"] == "grpo"
    assert list(rewards) == ["start", "after GRPO"]


def test_drive_with_vla_prints_thoughts(tmp_path, capsys) -> None:
    import torch
    from xpeng_world.policies.vla import VlaModel
    from xpeng_world.world_model.video.tokenizer import FrameTokenizer

    torch.manual_seed(0)
    VlaModel.create("tiny", FrameTokenizer(levels=[5, 4, 3], widths=[16, 16, 16], blocks=1)).save(tmp_path / "vla")
    thoughts, _ = example("drive_with_vla").main(str(tmp_path / "vla"), steps=3)
    assert len(thoughts) == 3
    assert all(thought.startswith("<slow>") for thought in thoughts)
    assert "3 decisions" in capsys.readouterr().out

import json

import pytest
import torch
from xpeng_world.data import Clip, ShardWriter
from xpeng_world.errors import CheckpointError, DataError
from xpeng_world.world_model.video.tokenizer import (
    TOKENS,
    FiniteScalarQuantiser,
    FrameTokenizer,
    spread_loss,
    tokenizer_loss,
    train_tokenizer,
)
from xpeng_world.world_model.video.train_tokenizer import TokenizerTrainer, TrainTokenizerConfig

SMALL = {"levels": [5, 4, 3], "widths": [16, 16, 16], "blocks": 1}


def pictures(count: int, seed: int = 0) -> torch.Tensor:
    """Frames whose left and right halves have colours of their own."""
    colours = torch.randint(30, 226, (count, 1, 2, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return colours.repeat_interleave(64, 2).expand(count, 64, 128, 3).contiguous()


@pytest.fixture(scope="module")
def tokenizer():
    torch.manual_seed(0)
    return FrameTokenizer(**SMALL).eval()


@pytest.mark.parametrize("levels", [[8, 5, 5, 5], [5, 4, 3], [8, 8, 8, 5]])
def test_every_code_is_a_value_of_its_own(levels):
    quantiser = FiniteScalarQuantiser(levels)
    codes = torch.arange(torch.tensor(levels).prod())
    values = quantiser.values(codes)
    assert values.unique(dim=0).shape == values.shape
    assert values.abs().max() == 1
    assert torch.equal(quantiser.codes(values), codes)


def test_rounding_hits_all_levels_and_lets_gradients_through():
    quantiser = FiniteScalarQuantiser([5, 4])
    z = torch.linspace(-6, 6, 400).unsqueeze(-1).repeat(1, 2).requires_grad_()
    quantised = quantiser(z)
    assert [len(column.unique()) for column in quantised.detach().T] == [5, 4]
    torch.testing.assert_close(quantiser.values(quantiser.codes(quantised)), quantised.detach())
    quantised.sum().backward()
    assert (z.grad[150:250] > 0.05).all()
    assert torch.equal(FiniteScalarQuantiser([5, 5])(torch.zeros(1, 2)), torch.zeros(1, 2))


def test_a_frame_is_32_tokens_and_back(tokenizer):
    frames = pictures(3)
    tokens = tokenizer.encode(frames)
    assert tokens.shape == (3, TOKENS)
    assert tokens.dtype == torch.int64
    assert tokens.min() >= 0
    assert tokens.max() < tokenizer.codebook_size == 60
    back = tokenizer.decode(tokens)
    assert back.shape == frames.shape
    assert back.dtype == torch.uint8
    assert torch.equal(tokenizer.encode(frames[1:2]), tokens[1:2])


def test_the_default_is_small():
    model = FrameTokenizer()
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_500_000
    assert 1024 <= model.codebook_size <= 4096


def test_what_is_no_frame_or_token_is_refused(tokenizer):
    with pytest.raises(DataError, match=r"uint8 frames \[B, 64, 128, 3\]"):
        tokenizer.encode(torch.zeros(1, 32, 128, 3, dtype=torch.uint8))
    with pytest.raises(DataError, match="32 tokens"):
        tokenizer.decode(torch.zeros(1, 31, dtype=torch.int64))
    with pytest.raises(DataError, match="from 0 to 59; got 0 to 60"):
        tokenizer.decode(torch.arange(29, 61).clamp_max(60).unsqueeze(0) * (torch.arange(32) > 0))


def test_saving_and_loading_keeps_the_tokens(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "weights")
    assert (tmp_path / "weights" / "diffusion_pytorch_model.safetensors").exists()
    loaded = FrameTokenizer.load(tmp_path / "weights")
    assert torch.equal(loaded.encode(pictures(4)), tokenizer.encode(pictures(4)))
    with pytest.raises(CheckpointError, match="no usable tokenizer"):
        FrameTokenizer.load(tmp_path / "nowhere")
    (tmp_path / "weights" / "diffusion_pytorch_model.safetensors").write_bytes(b"damage")
    with pytest.raises(CheckpointError, match="no usable tokenizer"):
        FrameTokenizer.load(tmp_path / "weights")


def test_the_loss_is_zero_for_equal_pictures_only():
    some = torch.rand(2, 3, 64, 128) * 2 - 1
    assert tokenizer_loss(some, some) == 0
    assert tokenizer_loss(some + 0.1, some) > 0.02


def trainer(out, **changes):
    config = TrainTokenizerConfig(
        **{"out": str(out), "steps": 40, "batch_size": 8, "warmup": 5, "ema": 0.8, "report_steps": 1000, **changes}
    )
    return TokenizerTrainer(config, pictures(64), pictures(16, seed=1), **SMALL)


def test_training_beats_the_mean_picture(tmp_path):
    numbers = trainer(tmp_path, learning_rate=8e-3).run()
    assert numbers["psnr_db"] > numbers["mean_picture_psnr_db"] + 2
    assert json.loads((tmp_path / "weights" / "metrics.json").read_text())["steps"] == 40
    assert list((tmp_path / "tensorboard").iterdir())
    assert FrameTokenizer.load(tmp_path / "weights").codebook_size == 60


def test_an_interrupted_run_ends_the_same(tmp_path):
    whole, part = trainer(tmp_path / "whole", steps=6), trainer(tmp_path / "part", steps=6)
    for _ in range(6):
        whole.train_step()
    for _ in range(3):
        part.train_step()
    part.save()
    resumed = trainer(tmp_path / "part", steps=6)
    resumed.run()
    assert resumed.step == 6
    for a, b in zip(whole.average.parameters(), resumed.average.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_state_of_other_settings_is_refused(tmp_path):
    trainer(tmp_path).save()
    with pytest.raises(CheckpointError, match="seed=0, not 1"):
        trainer(tmp_path, seed=1).restore()
    (tmp_path / "state" / "state.safetensors").write_bytes(b"damage")
    with pytest.raises(CheckpointError, match="cannot be used"):
        trainer(tmp_path).restore()


def test_the_command_reads_clips(tmp_path):
    with ShardWriter(tmp_path / "logs") as writer:
        for seed in range(2):
            about = {"source": "reference", "network_seed": seed, "seed": seed}
            writer.add(Clip(pictures(6, seed), torch.zeros(6, 2), None, about))
    config = TrainTokenizerConfig(data=str(tmp_path / "logs"), out=str(tmp_path / "run"), steps=1, batch_size=2, threads=1)
    weights = train_tokenizer(config)
    assert FrameTokenizer.load(weights).encode(pictures(1)).shape == (1, TOKENS)


def test_numbers_that_vary_in_every_place_are_not_punished():
    generator = torch.Generator().manual_seed(0)
    varied = torch.randn(4000, TOKENS, 4, generator=generator)
    assert spread_loss(varied) < 0.01
    by_place_alone = torch.randn(1, TOKENS, 4, generator=generator).expand(4000, -1, -1)
    assert spread_loss(by_place_alone) > 0.9
    assert spread_loss(varied + 2) > 3

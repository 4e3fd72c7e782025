from __future__ import annotations

import pytest
import torch
from xpeng_world.policies.vla import windowed
from xpeng_world.policies.vla.model import VlaModel
from xpeng_world.policies.vla.tokens import PROMPT_LENGTH
from xpeng_world.world_model.video.tokenizer import FrameTokenizer

WINDOW = 12


def plain(query, key, value, window, scaling, real):
    """The same by the definition: every pair of tokens, and a mask."""
    heads = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(heads, 1), value.repeat_interleave(heads, 1)
    row, column = torch.arange(query.shape[2]).unsqueeze(1), torch.arange(query.shape[2])
    seen = (column <= row) & (column > row - window) & real[:, None, None]
    scores = (query @ key.transpose(-1, -2) * scaling).masked_fill(~(seen | (row == column)), -torch.inf)
    return torch.softmax(scores, -1) @ value


@pytest.mark.parametrize("length", [1, 5, 12, 13, 50])
@pytest.mark.parametrize("window", [1, 7, 12])
def test_it_is_attention_over_the_last_tokens(length, window):
    draws = torch.Generator().manual_seed(length)
    query, key, value = (torch.randn(3, heads, length, 8, generator=draws, dtype=torch.float64) for heads in (4, 2, 2))
    real = torch.rand(3, length, generator=draws) < 0.8
    found = windowed.windowed_attention(query, key, value, window, 0.3, real)
    assert torch.allclose(found, plain(query, key, value, window, 0.3, real), atol=1e-10)


def test_gradients_are_those_of_the_definition():
    draws = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, heads, 31, 4, generator=draws, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2)]
    real = torch.arange(31) >= torch.tensor([[0], [6]])
    weight = torch.randn(2, 4, 31, 4, generator=draws, dtype=torch.float64)
    gradients = [
        torch.autograd.grad((attend(*parts, WINDOW, 0.5, real) * weight).sum(), parts) for attend in (windowed.windowed_attention, plain)
    ]
    for mine, theirs in zip(*gradients, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-10)


@pytest.fixture
def model():
    return VlaModel.create("tiny", FrameTokenizer(levels=[5, 4, 3], widths=[16, 16, 16], blocks=1), context_tokens=WINDOW)


@pytest.mark.parametrize("padding", [0, 9])
def test_a_decoder_reads_the_same_with_it(model, padding):
    ids = torch.randint(len(model.vocabulary), (2, 60), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :padding] = 0
    read = lambda: model.decoder(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, padding:]
    with torch.no_grad():
        usual = read()
        model.decoder.set_attn_implementation(windowed.register())
        assert torch.allclose(read(), usual, atol=1e-4)
        assert usual.std() > 1e-3


def test_decisions_with_a_cache_go_on_as_before(model):
    prompt = torch.zeros(2, PROMPT_LENGTH, dtype=torch.int64)
    first = model.generate(prompt)
    usual = model.generate(prompt, context=first.context)
    model.decoder.set_attn_implementation(windowed.register())
    again = model.generate(prompt, context=model.generate(prompt).context)
    assert torch.equal(again.ids, usual.ids)
    assert torch.allclose(again.logprobs, usual.logprobs, atol=1e-5)


def test_a_sequence_with_a_cache_and_no_mask_of_its_own_is_refused(model):
    model.decoder.set_attn_implementation(windowed.register())
    ids = torch.zeros(1, 8, dtype=torch.int64)
    read = model.decoder(input_ids=ids, use_cache=True)
    with pytest.raises(ValueError, match="without a cache"):
        model.decoder(input_ids=ids[:, :1], past_key_values=read.past_key_values)

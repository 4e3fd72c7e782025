import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from xpeng_world.policies.vla.model import VlaModel
from xpeng_world.policies.vla.tokens import PROMPT_LENGTH
from xpeng_world.world import observe
from xpeng_world.world_model.video.tokenizer import FrameTokenizer

if "grpo_runs" not in sys.modules:
    _spec = importlib.util.spec_from_file_location("grpo_runs", Path(__file__).with_name("grpo_runs.py"))
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["grpo_runs"] = _module
    _spec.loader.exec_module(_module)
from grpo_runs import CONTEXT


@pytest.fixture(scope="session")
def fake():
    """The module of the small hand-checkable world."""
    if "fake_world" not in sys.modules:
        spec = importlib.util.spec_from_file_location("fake_world", Path(__file__).parents[1] / "policies" / "fake_world.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["fake_world"] = module
        spec.loader.exec_module(module)
    return sys.modules["fake_world"]


@pytest.fixture(scope="session")
def start(fake, tmp_path_factory):
    """The folder of a tiny VLA that writes the format, with wide distributions of its numbers."""
    torch.manual_seed(0)
    model = VlaModel.create("tiny", FrameTokenizer(levels=[5, 4, 3], widths=[16, 16, 16], blocks=1), seed=0, context_tokens=CONTEXT)
    vocabulary, decoder = model.vocabulary, model.decoder.train()
    seen = observe(fake.FakeWorld().reset(range(8)))
    prompt = vocabulary.prompt(seen, model.frames.encode(seen.camera))
    optimiser = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    draws = torch.Generator().manual_seed(1)
    for _ in range(60):
        action = torch.rand(8, 2, 2, generator=draws) * torch.tensor([0.1, 0.8]) - torch.tensor([0.05, 0.4])
        moments = [torch.cat((prompt, vocabulary.completion(action[:, k])), 1) for k in range(2)]
        ids = torch.cat((torch.full((8, 1), vocabulary.ids["<bos>"]), *moments), 1)
        labels = torch.full_like(ids, -100)
        for k in range(2):
            wrote = slice(1 + k * moments[0].shape[1] + PROMPT_LENGTH + 2, 1 + k * moments[0].shape[1] + PROMPT_LENGTH + 4)
            labels[:, wrote] = ids[:, wrote]
        loss = decoder(input_ids=ids, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    folder = tmp_path_factory.mktemp("grpo") / "start"
    return VlaModel(decoder.eval(), vocabulary, model.frames, "tiny").save(folder)

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from xpeng_world.errors import CheckpointError, ConfigError
from xpeng_world.policies.vla import SIZES, VlaModel, Vocabulary, parse_action
from xpeng_world.policies.vla.embedding import structured
from xpeng_world.policies.vla.model import decoder_config
from xpeng_world.policies.vla.tokens import PROMPT_LENGTH


def prompts(model, look, batch, seed):
    observation = look(batch, seed)
    return model.vocabulary.prompt(observation, model.frames.encode(observation.camera))


def bos(model, batch):
    return torch.full((batch, 1), model.vocabulary.ids["<bos>"])


@pytest.mark.parametrize(
    ("size", "low", "high"),
    [("nano", 2.5e6, 3.6e6), ("small", 2e7, 4e7), ("base", 8e7, 1.2e8), ("0.6b", 4e8, 6e8), ("4b", 3.3e9, 4.2e9), ("72b", 6.6e10, 7.4e10)],
)
def test_sizes_have_about_the_parameters_of_their_names(size, low, high):
    from transformers import Qwen3ForCausalLM

    with torch.device("meta"):
        decoder = Qwen3ForCausalLM(decoder_config(size, Vocabulary()))
    assert low < sum(parameter.numel() for parameter in decoder.parameters()) < high


def test_an_unknown_size_mode_or_temperature_is_refused(model, look):
    with pytest.raises(ConfigError, match="did you mean 'nano'"):
        decoder_config("nanno", Vocabulary())
    assert list(SIZES)[-1] == "72b"
    prompt = prompts(model, look, 1, 0)
    with pytest.raises(ConfigError, match="known: fast, slow"):
        model.generate(prompt, "quick")
    with pytest.raises(ConfigError, match="temperature=-1"):
        model.generate(prompt, temperature=-1.0)


def test_a_fast_completion_always_parses_and_its_logprobs_are_the_models(model, look):
    prompt = prompts(model, look, 4, 1)
    generator = torch.Generator().manual_seed(0)
    written = model.generate(prompt, "fast", 1.3, generator)
    assert written.ids.shape == (4, 5)
    assert not parse_action(model.vocabulary, written.ids, prompt).failed.any()
    assert written.chosen.tolist() == [[False, False, True, True, False]] * 4
    whole = torch.cat((bos(model, 4), prompt, written.ids), 1)
    with torch.no_grad():
        logprobs = torch.log_softmax(model.decoder(input_ids=whole).logits / 1.3, -1)
    expected = logprobs[:, PROMPT_LENGTH:-1].gather(2, written.ids.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(written.logprobs, expected * written.chosen, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("mode", ["fast", "slow"])
def test_the_cache_changes_nothing_however_long_the_episode(model, look, mode):
    """Read frame by frame or as one sequence, past the length that the model sees: the same logits."""
    context, parts = None, [bos(model, 1)]
    generator = torch.Generator().manual_seed(3)
    for step in range(5):
        prompt = prompts(model, look, 1, step)
        written = model.generate(prompt, mode, 1.0, generator, context)
        context = written.context
        parts += [prompt, written.ids]
    whole = torch.cat(parts, 1)
    assert whole.shape[1] > 2 * model.decoder.config.sliding_window
    assert int(context.length) == context.room == model.decoder.config.sliding_window - 1
    assert int(context.position) + int((context.pending >= 0).sum()) == whole.shape[1]
    with torch.no_grad():
        logprobs = torch.log_softmax(model.decoder(input_ids=whole).logits, -1)
    begin = whole.shape[1] - written.ids.shape[1]
    expected = logprobs[:, begin - 1 : -1].gather(2, written.ids.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(written.logprobs, expected * written.chosen, atol=1e-4, rtol=1e-4)


def test_the_cache_matters(model, look):
    """A decision depends on the frame before: what the test above compares is not a constant."""
    prompt = prompts(model, look, 1, 9)
    logprobs = []
    for before in (0, 1):
        context = model.generate(prompts(model, look, 1, before)).context
        logprobs.append(model.generate(prompt, context=context).logprobs)
    assert not torch.equal(*logprobs)


def test_a_row_writes_the_same_alone_and_in_a_batch_that_ends_at_other_times(model, look):
    seeds, rows = (5, 6, 7), 3
    each = lambda: [torch.Generator().manual_seed(seed) for seed in seeds]
    together = model.generate(prompts(model, look, rows, 0), "slow", 1.0, each())
    after = model.generate(prompts(model, look, rows, 1), "slow", 1.0, each(), together.context)
    for row in range(rows):
        one = lambda seed=seeds[row]: [torch.Generator().manual_seed(seed)]
        alone = model.generate(prompts(model, look, rows, 0)[row : row + 1], "slow", 1.0, one())
        then = model.generate(prompts(model, look, rows, 1)[row : row + 1], "slow", 1.0, one(), alone.context)
        for batched, single in ((together, alone), (after, then)):
            length = single.ids.shape[1]
            assert torch.equal(batched.ids[row, :length], single.ids[0])
            torch.testing.assert_close(batched.logprobs[row, :length], single.logprobs[0], atol=1e-4, rtol=1e-4)
        assert int(after.context.position[row]) == int(then.context.position[0])


def test_without_temperature_a_number_is_its_median(model, look):
    prompt = prompts(model, look, 1, 2)
    written = model.generate(prompt)
    whole = torch.cat((bos(model, 1), prompt, written.ids[:, :2]), 1)
    with torch.no_grad():
        logits = model.decoder(input_ids=whole).logits[0, -1]
    group = model.vocabulary.group(next(b for b in _numbers() if b.name == "steer"))
    share = torch.softmax(logits[group], -1)
    place = int(written.ids[0, 2]) - group.start
    assert share[:place].sum() < 0.5 <= share[: place + 1].sum() + 1e-6


def _numbers():
    from xpeng_world.policies.vla.bins import QUANTITIES

    return QUANTITIES


def test_neighbouring_bins_begin_alike_and_distant_ones_do_not(frames):
    vocabulary = Vocabulary(frames.codebook_size)
    torch.manual_seed(0)
    table = structured(vocabulary, frames, 64)
    alike = lambda a, b: torch.cosine_similarity(table[a], table[b], dim=0)
    speed = vocabulary.first["speed"]
    near = torch.stack([alike(speed + k, speed + k + 1) for k in range(100)]).mean()
    far = torch.stack([alike(speed + k, speed + k + 60) for k in range(60)]).mean()
    assert near > 0.7
    assert far < near - 0.4
    assert table.std() == pytest.approx(0.02, rel=0.2)


def test_saving_and_loading_keeps_what_is_written(model, look, tmp_path):
    folder = model.save(tmp_path / "vla")
    loaded = VlaModel.load(folder)
    prompt = prompts(model, look, 2, 4)
    assert torch.equal(loaded.generate(prompt, "slow").ids, model.generate(prompt, "slow").ids)
    full = (folder / "model.safetensors").stat().st_size
    model.facts = {"steps": 3}
    half = VlaModel.load(model.save(tmp_path / "vla", torch.float16))
    assert {p.dtype for p in (*half.frames.parameters(), *half.decoder.parameters())} == {torch.float32}
    model.facts = {}
    assert half.facts == {"steps": 3}
    assert half.decoder.dtype == torch.float32
    assert (folder / "model.safetensors").stat().st_size < 0.6 * full
    assert not list(tmp_path.glob("*.partial"))


def test_a_folder_that_does_not_fit_is_refused_in_one_line(model, tmp_path):
    folder = model.save(tmp_path / "vla")
    page = json.loads((folder / "vla.json").read_text())
    (folder / "vla.json").write_text(json.dumps({**page, "vocabulary": 7}))
    with pytest.raises(CheckpointError, match="with vocabulary 7; this code reads"):
        VlaModel.load(folder)
    (folder / "vla.json").write_text(json.dumps(page))
    tensors = load_file(folder / "model.safetensors")
    lacking = dict(tensors)
    del lacking["model.norm.weight"]
    save_file(lacking, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight"):
        VlaModel.load(folder)
    (folder / "model.safetensors").write_bytes(b"damage")
    with pytest.raises(CheckpointError, match="cannot be read") as error:
        VlaModel.load(folder)
    assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match="no usable VLA"):
        VlaModel.load(tmp_path)


def test_the_decoder_is_read_by_transformers_own_classes(model, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = str(model.save(tmp_path / "vla"))
    plain, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("<bos> <fast> <act>", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=ids).logits, model.decoder(input_ids=ids).logits)

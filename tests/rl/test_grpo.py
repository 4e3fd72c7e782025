from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from grpo_runs import CONTEXT, STEPS, Forward, config, logprobs_of, loop
from safetensors.torch import load_file
from xpeng_world.envs.core import DrivingLoop
from xpeng_world.errors import CheckpointError, ConfigError
from xpeng_world.policies.vla.model import VlaModel
from xpeng_world.policies.vla.policy import VlaPolicy
from xpeng_world.policies.vla.tokens import PROMPT_LENGTH
from xpeng_world.rl.grpo import Grpo, train_grpo
from xpeng_world.rl.grpo_driving import Driving
from xpeng_world.rl.grpo_rollout import DrivenEpisode, draw_parts, drive_groups, sample_of
from xpeng_world.rl.grpo_trainer import trainer_class
from xpeng_world.world import observe

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(("mode", "hold", "temperature"), [("fast", 1, 1.0), ("fast", 3, 0.7), ("slow", 1, 1.0)])
def test_the_trainer_sees_what_the_driver_saw(fake, start, mode, hold, temperature) -> None:
    model = VlaModel.load(start)
    driving = Driving(STEPS, hold, mode, temperature)
    episode = drive_groups(loop(fake), model, driving, [3, 4], 2, [0])[1]
    begin = episode.decisions - 1
    for part in ((0, 2), (begin, begin + 1)):
        sample = sample_of(model, episode, *part, hold)
        now, then = logprobs_of(model, sample, temperature)
        assert len(now) == sum(sample.mask) > 0
        assert torch.allclose(now, then, atol=1e-4)
    if mode == "fast":
        shorter = sample_of(model, episode, begin, begin + 1, hold)
        shorter = replace(shorter, prompt=shorter.prompt[-CONTEXT // 2 :])
        now, then = logprobs_of(model, shorter, temperature)
        assert not torch.allclose(now, then, atol=1e-4)


@pytest.mark.parametrize(("mode", "hold"), [("fast", 1), ("fast", 3), ("slow", 1)])
def test_probabilities_are_read_off_wherever_a_token_was_drawn(fake, start, mode, hold) -> None:
    model = VlaModel.load(start)
    episodes = drive_groups(loop(fake), model, Driving(STEPS, hold, mode), [3, 4], 2, [0])
    samples = [sample_of(model, episode, 0, length, hold) for episode, length in zip(episodes, (1, 2, 2, 1), strict=True)]
    before, after = (max(len(getattr(sample, name)) for sample in samples) for name in ("prompt", "completion"))
    ids = torch.full((len(samples), before + after), model.vocabulary.ids["<pad>"])
    mask = torch.zeros_like(ids)
    for row, sample in enumerate(samples):
        where = slice(before - len(sample.prompt), before + len(sample.completion))
        ids[row, where], mask[row, where] = torch.tensor(sample.prompt + sample.completion), 1
    trainer = type(
        "Trainer", (), {"rolling_out": False, "temperature": 0.7, "accelerator": type("Plain", (), {"autocast": staticmethod(nullcontext)})}
    )()
    read = trainer_class(model.vocabulary, mode)._get_per_token_logps_and_entropies
    with torch.no_grad():
        found, entropy, _ = read(trainer, model.decoder, ids, mask, after, batch_size=3, compute_entropy=True)
        table = torch.log_softmax(model.decoder(input_ids=ids, attention_mask=mask).logits[:, before - 1 : -1] / 0.7, -1)
    assert found.shape == entropy.shape == (len(samples), after)
    for row, sample in enumerate(samples):
        drawn = [k for k, counts in enumerate(sample.mask) if counts]
        assert drawn
        wanted = table[row, drawn].gather(1, ids[row, before:][drawn].unsqueeze(1)).squeeze(1)
        assert torch.allclose(found[row, drawn], wanted, atol=1e-5)
        assert torch.allclose(entropy[row, drawn], -(table[row, drawn].exp() * table[row, drawn]).sum(-1), atol=1e-4)


def test_only_drawn_numbers_are_learned(fake, start) -> None:
    model = VlaModel.load(start)
    ids = model.vocabulary.ids
    for episode in drive_groups(loop(fake), model, Driving(STEPS, 2), [3], 2, [0]):
        sample = sample_of(model, episode, 0, 3, 2)
        assert sample.completion[-1] == ids["<eos>"]
        mask = torch.tensor(sample.mask).bool()
        drawn = [k for k, counts in enumerate(sample.mask) if counts]
        moment = PROMPT_LENGTH + 5
        assert drawn == [0, 1, 2 * moment, 2 * moment + 1, 4 * moment, 4 * moment + 1]
        assert [sample.decisions[k] for k in drawn] == [0, 0, 1, 1, 2, 2]
        assert {sample.decisions[k] for k in range(len(sample.mask)) if k not in drawn} == {-1}
        assert sample.prompt[-2:] == [ids["<fast>"], ids["<act>"]]
        assert (torch.tensor(sample.logprobs)[mask] < 0).all()
        assert not torch.tensor(sample.logprobs)[~mask].any()
        pedals = [float(action[1]) for action in episode.actions]
        assert pedals[0::2] == pedals[1::2]
        assert len(set(pedals)) > 1


def test_a_group_shares_its_start_and_differs_by_its_draws(fake, start) -> None:
    model = VlaModel.load(start)
    driven = drive_groups(loop(fake), model, Driving(STEPS), [3, 4], 3, [0])
    assert [episode.seed for episode in driven] == [3, 3, 3, 4, 4, 4]
    first = [tuple(episode.tokens[0][:PROMPT_LENGTH].tolist()) for episode in driven]
    assert len(set(first[:3])) == len(set(first[3:])) == 1
    assert len({tuple(episode.rewards) for episode in driven[:3]}) == 3
    alone = drive_groups(loop(fake), model, Driving(STEPS), [4], 2, [0])[1]
    assert torch.equal(torch.stack(alone.actions), torch.stack(driven[4].actions))


def test_episodes_that_are_over_leave_and_the_others_are_the_same(fake, start) -> None:
    model = VlaModel.load(start)
    whole = drive_groups(loop(fake), model, Driving(STEPS), [3, 4], 4, [0])
    speeds = [sum(episode.rewards) for episode in whole]
    least = float(np.median([fake.FakeWorld().reset([3]).scene.ego.speed[0] + 0.1 * total for total in speeds]))
    ending = drive_groups(loop(fake, Forward(least)), model, Driving(STEPS), [3, 4], 4, [0])
    assert {episode.failed for episode in ending} == {True, False}
    for a, b in zip(whole, ending, strict=True):
        count = len(b.rewards)
        assert b.rewards == pytest.approx(a.rewards[:count], abs=1e-4)
        assert (b.ended, b.failed) == (("too_slow", True) if b.failed else ("time_limit", False))
        assert count == STEPS or b.failed


def test_decisions_whose_consequences_were_not_seen_are_not_learned(fake, start, tmp_path) -> None:
    settings = {"episode_steps": 12, "hold": 2, "foresight": 5, "part": 6, "parts": 2}
    run = Grpo(config(start, tmp_path, **settings), VlaModel.load(start), DrivingLoop(fake.FakeWorld(), Forward()))
    cut = DrivenEpisode(1, rewards=[1.0] * 12, read=[True] * 6, ended="time_limit")
    assert run._judged(cut) == 3  # of six; the last three have less than five frames after them
    assert run._judged(replace(cut, ended="at_fault_collision")) == 6
    assert run._judged(replace(cut, rewards=[1.0] * 4, read=[True] * 2)) == 1
    whole = Grpo(config(start, tmp_path, credit="episode", **settings), VlaModel.load(start), DrivingLoop(fake.FakeWorld(), Forward()))
    assert whole._judged(cut) == 6


def test_arriving_costs_nothing_and_failing_earns_nothing() -> None:
    arrived = DrivenEpisode(1, rewards=[1.0, 2.0], ended="route_end")
    assert arrived.total(10) == pytest.approx(15.0)
    assert DrivenEpisode(1, rewards=[1.0, -5.0], ended="off_road", failed=True).total(10) == pytest.approx(-4.0)


def test_every_decision_is_as_likely_to_be_learned() -> None:
    rng, seen = np.random.default_rng(0), np.zeros(7)
    for begin, end in draw_parts(rng, 7, 9000, 3):
        assert 0 <= begin < end <= 7
        seen[begin:end] += 1
    assert seen / 9000 == pytest.approx(np.full(7, 3 / 9), abs=0.03)


def test_an_action_that_cannot_be_read_brakes_and_counts(fake, start) -> None:
    model = VlaModel.load(start)
    untrained = VlaModel.create("tiny", model.frames, seed=5)
    (episode, _) = drive_groups(loop(fake), untrained, Driving(STEPS), [3], 2, [0])
    assert episode.unparsable >= STEPS - 1
    assert episode.formatted <= 1 / STEPS
    assert float(episode.actions[0][1]) < 0
    good = drive_groups(loop(fake), model, Driving(STEPS), [3], 4, [0])
    assert sum(episode.unparsable for episode in good) <= STEPS


def pedal(folder, fake) -> float:
    """Mean pedal of a VLA as it drives."""
    policy, state = VlaPolicy.load(folder), fake.FakeWorld().reset([101, 102, 103])
    return float(policy.act(observe(state), policy.initial_memory([0, 1, 2]))[0][:, 1].mean())


@pytest.mark.parametrize("credit", ["later", "episode"])
def test_learns_to_press_the_pedal_that_pays(fake, start, tmp_path, credit) -> None:
    settings = {"credit": credit, "rounds": 8, "starts": 2, "group": 8, "batch_size": 16, "parts": 1, "part": STEPS, "learning_rate": 5e-3}
    run = Grpo(config(start, tmp_path / "run", **settings), VlaModel.load(start), loop(fake))
    folder = run.run()
    assert pedal(folder, fake) > pedal(start, fake) + 0.1
    assert np.mean([episode.formatted for episode in run.driven]) > 0.8
    assert list((tmp_path / "run" / "tensorboard").rglob("events*"))
    assert VlaModel.load(folder).facts["rounds"] == 8


def test_the_first_step_of_a_round_is_on_policy(fake, start, tmp_path, monkeypatch) -> None:
    """The probabilities noted while driving are what the loss divides by, and they are the trainer's own."""
    import trl

    seen, real = [], trl.GRPOTrainer._compute_loss

    def noted(trainer, model, inputs):
        ids = torch.cat((inputs["prompt_ids"], inputs["completion_ids"]), 1)
        mask = torch.cat((inputs["prompt_mask"], inputs["completion_mask"]), 1)
        with torch.no_grad():
            now, _, _ = trainer._get_per_token_logps_and_entropies(model, ids, mask, inputs["completion_ids"].shape[1])
        drawn = inputs["completion_mask"] * inputs["tool_mask"]
        seen.append(((now - inputs["old_per_token_logps"]).abs() * drawn).max().item())
        assert inputs["advantages"].shape == inputs["completion_ids"].shape
        assert not (inputs["advantages"] * (1 - drawn)).any()
        return real(trainer, model, inputs)

    monkeypatch.setattr(trl.GRPOTrainer, "_compute_loss", noted)
    train_grpo(config(start, tmp_path / "run", rounds=2, updates=2, iterations=1, temperature=0.7, learning_rate=5e-3), loop(fake))
    assert len(seen) == 4
    assert max(seen[0], seen[2]) < 1e-4 < seen[3]


def test_what_the_world_told_gives_no_gradient(fake, start, tmp_path, monkeypatch) -> None:
    """Tokens that are masked change nothing, whatever they are."""
    from xpeng_world.rl import grpo

    def learned(name: str) -> dict[str, torch.Tensor]:
        return load_file(train_grpo(config(start, tmp_path / name, rounds=1), loop(fake)) / "model.safetensors")

    plain = learned("plain")
    real = grpo.sample_of

    def masked(*arguments):
        sample = real(*arguments)
        return replace(sample, mask=[0] * len(sample.mask))

    monkeypatch.setattr(grpo, "sample_of", masked)
    nothing, before = learned("nothing"), load_file(start / "model.safetensors")
    assert all(torch.equal(nothing[key], before[key]) for key in before)
    assert any(not torch.equal(plain[key], before[key]) for key in before)


def test_a_resumed_run_equals_an_unbroken_one(fake, start, tmp_path) -> None:
    settings = {"updates": 2, "batch_size": 2, "group": 2, "save_minutes": 0.0}
    whole = train_grpo(config(start, tmp_path / "whole", rounds=3, **settings), loop(fake))
    train_grpo(config(start, tmp_path / "parts", rounds=1, **settings), loop(fake))
    broken = tmp_path / "parts" / "checkpoints" / "checkpoint-999"
    broken.mkdir()
    (broken / "trainer_state.json").write_text('{"global_st')
    parts = train_grpo(config(start, tmp_path / "parts", rounds=3, **settings), loop(fake))
    a, b = (load_file(folder / "model.safetensors") for folder in (whole, parts))
    assert all(torch.equal(a[key], b[key]) for key in a)
    shutil.rmtree(parts)
    again = load_file(train_grpo(config(start, tmp_path / "parts", rounds=3, **settings), loop(fake)) / "model.safetensors")
    assert all(torch.equal(a[key], again[key]) for key in a)
    with pytest.raises(CheckpointError, match="begun with seed=0, not 3"):
        train_grpo(config(start, tmp_path / "parts", rounds=3, seed=3, **settings), loop(fake))


def test_time_ends_a_run_after_a_whole_round(fake, start, tmp_path) -> None:
    folder = train_grpo(config(start, tmp_path / "run", rounds=50, minutes=1e-6, kl=0.05), loop(fake))
    assert VlaModel.load(folder).facts["rounds"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"group": 1}, "at least 2"),
        ({"batch_size": 3}, "must divide starts \\* group \\* parts = 8"),
        ({"mode": "slow", "hold": 2}, "set hold=1"),
        ({"critical": 0.5, "warmup": 60}, "at least 80 frames"),
        ({"critical": 1.5, "warmup": 200}, "is a share"),
        ({"explore": 2, "parts": 2}, "set parts=1"),
        ({"explore": 6, "hold": 2}, "must be below episode_steps"),
        ({"mode": "fasst"}, "did you mean 'fast'"),
        ({"scale": "grup"}, "did you mean 'group'"),
        ({"credit": "late"}, "did you mean 'later'"),
        ({"discount": 1.01}, "discount=1.01 must be above 0 and at most 1"),
        ({"temperature": 0.0}, "temperature=0.0 must be above 0"),
        ({"world": "reference"}, "cannot; choose learned"),
        ({"density": "thick"}, "unknown density 'thick'"),
        ({"init": "nowhere"}, "no usable VLA in 'nowhere'"),
    ],
)
def test_settings_that_cannot_work_are_refused(fake, start, tmp_path, changes, message) -> None:
    with pytest.raises((ConfigError, CheckpointError), match=message):
        train_grpo(config(start, tmp_path, **changes), loop(fake))

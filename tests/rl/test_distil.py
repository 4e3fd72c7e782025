from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from xpeng_world.batched import Batched
from xpeng_world.data.clip import Clip
from xpeng_world.data.shards import ShardWriter
from xpeng_world.envs.build import build_loop
from xpeng_world.errors import CheckpointError, ConfigError, DataError
from xpeng_world.policies import Expert, load_policy
from xpeng_world.policies.car import SIZES, CarNet, CarNetConfig, CarPolicy
from xpeng_world.policies.drivers import NoisyExpert
from xpeng_world.rl.distil import DistilConfig, Distillation, distil, make_student, mixture
from xpeng_world.rl.distil_buffer import Reservoir
from xpeng_world.rl.distil_visit import Mixture, first_frames, label_clip, restart_memory, visit
from xpeng_world.rl.imitation import Examples
from xpeng_world.scene import Track
from xpeng_world.world import observe
from xpeng_world.world_model.video.hints import scene_hints

TINY = CarNetConfig(widths=(4, 4, 4, 4), camera_features=8, state_features=16, features=16)


@dataclass(frozen=True)
class Count(Batched):
    """Steps since the episode began."""

    steps: torch.Tensor


class Counter:
    """A policy whose pedal says how long its episode has run."""

    name, privileged = "counter", False

    def initial_memory(self, seeds):
        return Count(torch.zeros(len(seeds)))

    def act(self, observation, memory, scene=None):
        action = torch.stack((torch.zeros_like(memory.steps), memory.steps / 100), -1)
        return action, Count(memory.steps + 1)


def loop(fake, limit=None, world="FakeWorld"):
    return build_loop(getattr(fake, world)(), "default", limit, None, False, None)


def settings(out, **changes) -> DistilConfig:
    base = {"out": str(out), "data": "none", "num_envs": 4, "steps": 12, "rounds": 3, "fit_steps": 6, "batch_size": 8, "threads": 1}
    return DistilConfig(**{**base, "capacity": 100, **changes})


def net() -> CarNet:
    torch.manual_seed(0)
    return CarNet(TINY)


def some(count: int, first: int = 0) -> Examples:
    """Examples that can be told from each other by their numbers."""
    number = torch.arange(first, first + count)
    camera = (number % 256).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 64, 128, 3)
    action = torch.stack((number.float(), -number.float()), -1)
    return Examples(camera, number.float().view(-1, 1).expand(-1, 5), number.float().view(-1, 1, 1).expand(-1, 20, 2), action)


def clip(fake, steps: int = 10, seed: int = 1, world: str = "FakeWorld") -> Clip:
    world, expert = getattr(fake, world)(), Expert()
    state, scenes, frames = world.reset([seed]), [], []
    for _ in range(steps):
        scenes.append(state.scene)
        frames.append(state.frame)
        state = world.step(state, expert.drive(state.scene))
    facts = {"source": "reference", "split": "train", "family": "city", "network_seed": 0}
    return Clip(torch.cat(frames), torch.zeros(steps, 2), Track.of(scenes), facts)


def test_visited_states_carry_the_teachers_answer_whoever_drove(fake) -> None:
    shares = {}
    for share in (0.0, 1.0):
        found = visit(loop(fake), Expert(), CarPolicy(net()), Mixture(share, 5), episodes=3, steps=15, seed=(4,))
        shares[share] = found
        assert len(found.examples) == 45
        # the labels are an expert's: where the teacher drives, the speed follows them
        assert found.examples.action.abs().max() <= 1
    assert torch.equal(shares[0.0].examples.action[:3], shares[1.0].examples.action[:3])
    assert not torch.equal(shares[0.0].examples.ego[-3:], shares[1.0].examples.ego[-3:])
    # the untrained student hardly presses the pedal, the expert does: it is the student's states that are labelled
    assert shares[0.0].examples.ego[-3:, 0].mean() < shares[1.0].examples.ego[-3:, 0].mean()
    assert shares[0.0].disagreement[1] > 0.05


def test_a_teacher_alone_agrees_with_itself_and_equal_seeds_repeat(fake) -> None:
    go = lambda seed: visit(loop(fake), Expert(), Expert(), Mixture(0.5, 3), episodes=2, steps=8, seed=(seed,))
    assert go(1).disagreement.abs().max() == 0
    assert torch.equal(go(1).examples.ego, go(1).examples.ego)
    assert not torch.equal(go(1).examples.ego, go(2).examples.ego)


def test_memory_begins_anew_with_its_episode_alone(fake) -> None:
    found = visit(loop(fake, limit=4), Counter(), CarPolicy(net()), Mixture(0.0, 5), episodes=2, steps=10, seed=(0,))
    counts = (found.examples.action[:, 1] * 100).round().view(10, 2)
    assert counts[:, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    policy = Counter()
    memory = replace(policy.initial_memory([0, 1, 2]), steps=torch.tensor([5.0, 6.0, 7.0]))
    assert restart_memory(policy, memory, [1], [9]).steps.tolist() == [5, 0, 7]
    plan = NoisyExpert().initial_memory([1, 2, 3])
    begun = restart_memory(NoisyExpert(), plan.next(), [2], [8])
    assert begun.step.tolist() == [1, 1, 0]
    assert torch.equal(begun.phase[2], NoisyExpert().initial_memory([8]).phase[0])
    assert torch.equal(begun.phase[:2], plan.phase[:2])


def test_memories_of_many_kinds_begin_anew() -> None:
    class Any:
        name = "any"

        def __init__(self, make):
            self.initial_memory = lambda seeds: make(len(seeds))

    make = lambda n: {"a": torch.zeros(n, 2), "b": ([0] * n, None)}
    old = {"a": torch.ones(3, 2), "b": ([1, 2, 3], None)}
    new = restart_memory(Any(make), old, [0, 2], [1, 2])
    assert new["a"][:, 0].tolist() == [0, 1, 0]
    assert new["b"] == ([0, 2, 0], None)
    with pytest.raises(ConfigError, match=r"'any'.*restart_memory"):
        restart_memory(Any(lambda n: object()), object(), [0], [1])
    own = Any(lambda n: 0)
    own.restart_memory = lambda memory, rows, seeds: (memory, list(rows), list(seeds))
    assert restart_memory(own, "kept", [1], [5]) == ("kept", [1], [5])


def test_a_full_reservoir_stays_full_and_fair(tmp_path) -> None:
    kept = []
    for seed in range(30):
        buffer = Reservoir(20, tmp_path / str(seed), seed)
        for first in range(0, 60, 15):
            buffer.add(some(15, first))
        assert len(buffer) == 20
        assert buffer.seen == 60
        numbers = buffer.action[:, 0].long()
        assert len(numbers.unique()) == 20
        assert torch.equal(buffer.action[:, 1], -buffer.action[:, 0])
        assert torch.equal(buffer.camera[:, 5, 5, 1].long(), numbers)
        kept += numbers.tolist()
    quarters = torch.tensor(kept).div(15, rounding_mode="floor").bincount(minlength=4) / len(kept)
    assert (quarters - 0.25).abs().max() < 0.06  # 600 draws: a standard deviation is below 0.018


def test_a_reservoir_comes_back_from_its_parts(tmp_path) -> None:
    buffer = Reservoir(20, tmp_path, 3)
    for first in range(0, 60, 15):
        buffer.add(some(15, first))
    again = Reservoir(20, tmp_path, 3)
    again.restore(3)
    again.add(some(15, 45))
    assert torch.equal(again.action, buffer.action)
    assert torch.equal(again.camera, buffer.camera)
    (tmp_path / "part-00001.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="part-00001"):
        Reservoir(20, tmp_path, 3).restore(4)
    with pytest.raises(CheckpointError, match="part-00000"):
        Reservoir(20, tmp_path / "elsewhere", 3).restore(1)


def test_the_student_comes_nearer_its_teacher(fake, tmp_path) -> None:
    config = settings(tmp_path, rounds=2, steps=15, fit_steps=100, batch_size=16, learning_rate=5e-3, augment=0.0)
    run = Distillation(config, Expert(), net(), fake.FakeWorld())
    other = visit(run.loop, Expert(), CarPolicy(run.net), Mixture(0.5, 5), episodes=4, steps=20, seed=(99,)).examples
    error = lambda: (CarPolicy(run.net).act(other)[0] - other.action)[:, 1].abs().mean()
    before = error()
    folder = run.run()
    assert error() < 0.4 * before
    assert load_policy(folder).name == "weights"
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_a_resumed_run_equals_an_unbroken_one(fake, tmp_path) -> None:
    go = lambda name, **changes: Distillation(settings(tmp_path / name, **changes), Expert(), net(), fake.FakeWorld())
    go("whole").run()
    part = go("parts")
    fit, rounds = part._fit, []

    def breaks_in_the_second(steps, bar):
        rounds.append(steps)
        if len(rounds) == 2:
            raise KeyboardInterrupt
        return fit(steps, bar)

    part._fit = breaks_in_the_second
    with pytest.raises(KeyboardInterrupt):
        part.run()
    assert part.buffer.parts == 2
    again = go("parts")
    again.run()
    a, b = (load_file(tmp_path / name / "weights" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    with pytest.raises(CheckpointError, match=r"caution=1\.5"):
        go("whole", caution=3.0).run()


def test_time_that_is_over_begins_no_round(fake, tmp_path) -> None:
    run = Distillation(settings(tmp_path, minutes=1e-9), Expert(), net(), fake.FakeWorld())
    run.run()
    assert run.round == 0
    assert (tmp_path / "weights" / "model.safetensors").is_file()


def test_recorded_frames_begin_the_lesson(fake, tmp_path) -> None:
    with ShardWriter(tmp_path / "logs") as writer:
        for seed in range(3):
            writer.add(clip(fake, seed=seed))
    config = settings(tmp_path / "run", data=str(tmp_path / "logs"), log_frames=25, log_steps=4, rounds=0)
    run = Distillation(config, Expert(), net(), fake.FakeWorld())
    run.run()
    assert run.buffer.seen == 25
    assert run.step == 4
    assert [mixture(config, done).teacher_share for done in (0, 1)] == [0.8, 0.4]


def test_clips_are_labelled_by_teachers_with_a_memory(fake) -> None:
    one = clip(fake)
    assert (label_clip(one, Counter()).action[:, 1] * 100).round().tolist() == list(range(10))
    assert torch.equal(label_clip(one, CarPolicy(net())).camera, one.frames)
    expected, _ = Expert().act(None, None, one.track.scene(4))
    assert torch.allclose(label_clip(one, Expert()).action[4], expected[0], atol=1e-5)
    with pytest.raises(DataError, match="without a scene"):
        label_clip(Clip(one.frames, one.actions, None, one.provenance), Counter())
    assert [len(part) for part in first_frames([some(4), some(4), some(4)], 6)] == [4, 2]


def test_students_by_size_and_by_folder(tmp_path, fake) -> None:
    count = lambda network: sum(p.numel() for p in network.parameters())
    assert count(CarNet(SIZES["micro"])) <= 0.1 * count(CarNet(SIZES["small"]))
    start = make_student("micro", 3)
    start.save(tmp_path / "start")
    seen = observe(fake.FakeWorld().reset([0]))
    assert torch.equal(CarPolicy(make_student(str(tmp_path / "start"))).act(seen)[0], CarPolicy(start).act(seen)[0])
    with pytest.raises(ConfigError, match="did you mean 'micro'"):
        make_student("mikro")


def test_visited_states_know_the_earlier_picture_of_their_own_episode(fake) -> None:
    student = CarPolicy(CarNet(replace(TINY, lag=2)))
    found = visit(loop(fake, limit=4), Expert(), student, Mixture(0.0, 5), episodes=2, steps=7, seed=(0,), lag=2).examples
    # rows are ordered by step, two episodes a step; both begin anew at steps 0 and 4
    step = lambda row: found.earlier.view(7, 2)[:, row].sub(row).div(2, rounding_mode="floor").tolist()
    assert step(0) == step(1) == [0, 0, 0, 1, 4, 4, 4]
    assert (found.earlier % 2).view(7, 2).tolist() == [[0, 1]] * 7
    assert [part.earlier.tolist() for part in first_frames([found], 5)] == [found.earlier[:5].tolist()]


def test_the_student_is_shown_what_it_will_learn_from(fake) -> None:
    """What it answered while driving is what the network says of the examples: also after a restart."""
    answers = []

    class Watched(CarPolicy):
        def act(self, observation, memory=None, scene=None):
            action, memory = super().act(observation, memory, scene)
            answers.append(action)
            return action, memory

    network = CarNet(replace(TINY, lag=3)).eval()
    torch.nn.init.normal_(network.action.weight, std=0.5)
    driven = loop(fake, 5, "FlickeringWorld")
    found = visit(driven, Expert(), Watched(network), Mixture(0.0, 5), episodes=2, steps=8, seed=(3,), lag=3).examples
    now, before = (found.pictures(torch.arange(16), 3).permute(0, 3, 1, 2).float() / 255).split(3, 1)
    with torch.no_grad():
        expected = network(now, found.ego, found.route, before).clamp(-1, 1)
        assert not torch.allclose(network(now, found.ego, found.route, now).clamp(-1, 1), expected, atol=1e-3)
    assert torch.allclose(torch.cat(answers), expected, atol=1e-5)


def test_a_reservoir_keeps_the_earlier_pictures_where_they_are_needed(tmp_path) -> None:
    examples = replace(some(30), earlier=(torch.arange(30) - 4).clamp(min=0))
    buffer = Reservoir(12, tmp_path / "two", 1, lag=4)
    buffer.add(examples)
    buffer.add(replace(some(30, 30), earlier=(torch.arange(30) - 4).clamp(min=0)))
    number = buffer.action[:, 0].long()
    assert (number >= 30).any()
    begin = torch.where(number < 30, 0, 30)
    assert torch.equal(buffer.camera[:, 3, 3, 0].long(), number)
    assert torch.equal(buffer.camera[:, 3, 3, 4].long(), torch.maximum(number - 4, begin))
    again = Reservoir(12, tmp_path / "two", 1, lag=4)
    again.restore(2)
    assert torch.equal(again.camera, buffer.camera)
    one = Reservoir(12, tmp_path / "one", 1)
    one.add(examples)
    assert one.camera.shape[-1] == 3
    with pytest.raises(CheckpointError, match="part-00000"):
        Reservoir(12, tmp_path / "one", 1, lag=4).restore(1)
    with pytest.raises(DataError, match="no earlier pictures"):
        Reservoir(12, tmp_path / "none", 1, lag=4).add(some(3))


def test_examples_know_what_a_frame_should_tell(fake, tmp_path) -> None:
    told = {}
    for hints in (True, False):
        driven = loop(fake)
        told[hints] = visit(driven, Expert(), CarPolicy(net()), Mixture(1.0, 5), episodes=2, steps=6, seed=(5,), hints=hints).examples
    assert told[False].hints is None
    assert torch.equal(told[True].ego, told[False].ego)
    # the first scene of both episodes, then what the clip of a recording has
    rng = np.random.default_rng([5, 29])
    begin = fake.FakeWorld().reset([int(s) for s in rng.integers(2**31 - 1, size=2)]).scene
    assert torch.equal(told[True].hints[:2], scene_hints(Track.of([begin]))[:, 0])
    assert told[True].hints.std(0).max() > 0
    recorded = clip(fake)
    labelled = [label_clip(recorded, teacher, hints=True).hints for teacher in (Expert(), Counter())]
    assert torch.equal(labelled[0], scene_hints(recorded.track)[0])
    assert torch.equal(labelled[1], labelled[0])
    assert [len(part.hints) for part in first_frames([label_clip(recorded, Expert(), hints=True)], 4)] == [4]
    buffer = Reservoir(5, tmp_path, 1, hints=True)
    buffer.add(told[True])
    row = {float(pedal): index for index, pedal in enumerate(told[True].ego[:, 0])}
    kept = [row[float(speed)] for speed in buffer.ego[:, 0]]
    assert torch.equal(buffer.hints, told[True].hints[kept])
    with pytest.raises(CheckpointError, match="part-00000"):
        Reservoir(5, tmp_path, 1).restore(1)


def test_the_features_learn_what_a_frame_should_tell(fake, tmp_path) -> None:
    errors = {}
    for weight in (0.0, 1.0):
        config = settings(tmp_path / str(weight), rounds=1, steps=30, fit_steps=80, batch_size=16, learning_rate=5e-3, augment=0.0)
        run = Distillation(replace(config, hint_weight=weight), Expert(), net(), fake.FakeWorld())
        run.run()
        found = visit(run.loop, Expert(), CarPolicy(run.net), Mixture(0.5, 5), episodes=4, steps=10, seed=(9,), hints=True).examples
        features = run.net.features(found.camera.permute(0, 3, 1, 2).float() / 255, found.ego, found.route)
        errors[weight] = float((torch.sigmoid(run.hint_head(features)) - found.hints).square().mean().detach())
        assert len(run.buffer.hints[0]) == (found.hints.shape[1] if weight else 0)
    assert errors[1.0] < 0.5 * errors[0.0]


def test_a_student_of_two_pictures_is_distilled(fake, tmp_path) -> None:
    with ShardWriter(tmp_path / "logs") as writer:
        writer.add(clip(fake, seed=1, world="FlickeringWorld"))
    torch.manual_seed(0)
    start = CarNet(replace(TINY, lag=4))
    config = settings(tmp_path / "run", data=str(tmp_path / "logs"), log_frames=8, log_steps=2, rounds=1)
    folder = Distillation(config, Expert(), start, fake.FakeWorld()).run()
    driver = load_policy(folder)
    assert driver.net.config.lag == 4
    parts = load_file(tmp_path / "run" / "buffer" / "part-00000.safetensors")
    assert torch.equal(parts["camera"][6, ..., 3:], parts["camera"][2, ..., :3])
    assert not torch.equal(parts["camera"][6, ..., 3:], parts["camera"][6, ..., :3])
    # it can teach in its turn: its memory is begun anew with its episodes
    visit(loop(fake, limit=3), driver, CarPolicy(net()), Mixture(0.5, 2), episodes=2, steps=5, seed=(1,))
    assert torch.equal(label_clip(clip(fake), driver, lag=1).earlier, (torch.arange(10) - 1).clamp(min=0))
    assert make_student("small2").config == SIZES["small2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_envs": 0}, "num_envs=0"),
        ({"teacher_share": 1.5}, "teacher_share=1.5"),
        ({"caution": 0.0}, "caution=0.0"),
        ({"rounds": -1}, "-1"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"hint_weight": -0.5}, "hint_weight=-0.5"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, change, message) -> None:
    with pytest.raises(ConfigError, match=message):
        distil(settings(tmp_path, **change))


def test_an_unknown_teacher_names_the_nearest(tmp_path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'expert'"):
        distil(settings(tmp_path, teacher="expart"))

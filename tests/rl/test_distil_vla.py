from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from xpeng_world.errors import CheckpointError, ConfigError
from xpeng_world.policies.car import CarNet
from xpeng_world.policies.vla.model import VlaModel
from xpeng_world.policies.vla.policy import VlaPolicy
from xpeng_world.policies.vla.tokens import PROMPT_LENGTH
from xpeng_world.rl.distil import DistilConfig, distil
from xpeng_world.rl.distil_visit import restart_memory
from xpeng_world.rl.distil_vla import BEFORE, Noting, VlaDistillation, make_vla_student
from xpeng_world.world import observe
from xpeng_world.world_model.video.tokenizer import FrameTokenizer

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def frames() -> FrameTokenizer:
    torch.manual_seed(0)
    return FrameTokenizer(levels=[5, 4, 3], widths=[16, 16, 16], blocks=1).eval()


def tiny(frames, seed: int) -> VlaModel:
    return VlaModel.create("tiny", frames, seed)


def settings(out, **changes) -> DistilConfig:
    base = {"teacher": "none", "student": "vla-tiny", "out": str(out), "data": "none", "num_envs": 2, "steps": 4, "rounds": 2}
    return DistilConfig(**{**base, "fit_steps": 2, "batch_size": 4, "capacity": 12, "threads": 1, **changes})


def test_what_was_read_is_the_moment_before_and_this_one(fake, frames) -> None:
    driver, world = Noting(VlaPolicy(tiny(frames, 0))), fake.FakeWorld()
    model = driver.policy.model
    state = world.reset([1, 2])
    memory = driver.initial_memory([1, 2])
    for _ in range(2):
        action, memory = driver.act(observe(state), memory)
        state = world.step(state, action)
    first, second = driver.read
    assert first.shape == (2, BEFORE + PROMPT_LENGTH + 2)
    assert (first[:, : BEFORE - 1] == -1).all()
    assert (first[:, BEFORE - 1] == model.vocabulary.ids["<bos>"]).all()
    assert torch.equal(second[:, :PROMPT_LENGTH], first[:, BEFORE : BEFORE + PROMPT_LENGTH])
    assert torch.equal(model.vocabulary.action(second[:, PROMPT_LENGTH + 2 : PROMPT_LENGTH + 4]), VlaPolicy(model).act(
        observe(world.reset([1, 2])), VlaPolicy(model).initial_memory([1, 2]))[0])  # fmt: skip
    begun = restart_memory(driver, memory, [1], [9])
    assert begun.before[1, -1] == model.vocabulary.ids["<bos>"]
    assert torch.equal(begun.before[0], memory.before[0])
    assert begun.inner.decisions.tolist() == [2, 0]


def test_the_student_takes_over_the_teachers_distribution(fake, frames, tmp_path) -> None:
    config = settings(tmp_path, learning_rate=5e-3, batch_size=8, steps=5)
    teacher = tiny(frames, 1)
    with torch.no_grad():  # a teacher with an opinion
        teacher.decoder.model.norm.weight *= 4
    run = VlaDistillation(config, teacher, tiny(frames, 2), fake.FakeWorld())
    run._visit()
    ids = run.read[:4].long().clamp_min(0)
    last = lambda model: torch.log_softmax(model.decoder(input_ids=ids).logits[:, -1], -1)

    @torch.no_grad()
    def divergence() -> float:
        return float((last(teacher).exp() * (last(teacher) - last(run.student))).sum(-1).mean())

    before = divergence()
    kept = {name: value.clone() for name, value in teacher.decoder.state_dict().items()}
    run.fit(30)
    assert divergence() < 0.7 * before
    assert all(torch.equal(value, kept[name]) for name, value in teacher.decoder.state_dict().items())


def test_a_resumed_run_equals_an_unbroken_one(fake, frames, tmp_path) -> None:
    go = lambda name, **changes: VlaDistillation(settings(tmp_path / name, **changes), tiny(frames, 1), tiny(frames, 2), fake.FakeWorld())
    go("whole").run()
    go("parts", rounds=1).run()
    again = go("parts")
    again.run()
    assert again.round == 2
    assert len(again.read) == 12  # 16 were seen
    a, b = (load_file(tmp_path / name / "weights" / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    with pytest.raises(CheckpointError, match="fit_steps=2"):
        go("whole", fit_steps=5).run()


def test_students_that_cannot_learn_are_refused(frames, tmp_path) -> None:
    teacher = tiny(frames, 1)
    with pytest.raises(ConfigError, match="did you mean 'vla-nano'"):
        make_vla_student("vla-nanno", teacher, 0)
    torch.manual_seed(7)
    other = VlaModel.create("tiny", FrameTokenizer(levels=[5, 4, 3], widths=[16, 16, 16], blocks=1).eval())
    other.save(tmp_path / "other")
    with pytest.raises(ConfigError, match="other frame tokens"):
        make_vla_student(str(tmp_path / "other"), teacher, 0)
    CarNet().save(tmp_path / "car")
    with pytest.raises(ConfigError, match="learns from a VLA"):
        distil(settings(tmp_path / "run", teacher=str(tmp_path / "car")))

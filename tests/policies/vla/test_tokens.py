import json
import math

import pytest
import torch
from xpeng_world.errors import CheckpointError, DataError
from xpeng_world.geometry import rotate
from xpeng_world.policies.vla import Vocabulary, parse_action
from xpeng_world.policies.vla.bins import ACCELERATE, EGO, LATERAL_AT, NAVIGATION, QUANTITIES, STEER
from xpeng_world.policies.vla.navigation import bend_speed, lateral, remaining, turn
from xpeng_world.policies.vla.tokens import FALLBACK_ACCELERATION, PROMPT_LENGTH, load_tokenizer
from xpeng_world.vehicles import PROFILES
from xpeng_world.world import Observation

VOCABULARY = Vocabulary(60)


def arc(radius: float) -> torch.Tensor:
    """A route [1, 20, 2] along a circle to the left that begins at the car."""
    angle = 4.0 * torch.arange(1, 21) / radius
    return torch.stack((radius * torch.sin(angle), radius * (1 - torch.cos(angle))), -1).unsqueeze(0)


@pytest.mark.parametrize("bins", QUANTITIES, ids=lambda bins: bins.name)
def test_bins_rise_are_finer_near_zero_and_keep_their_centres(bins):
    gaps = bins.centres.diff()
    assert (gaps > 0).all()
    assert torch.equal(bins.encode(bins.centres), torch.arange(len(bins)))
    assert 0.0 in bins.values
    nearest_zero = int(bins.centres.abs().argmin())
    assert gaps[max(0, nearest_zero - 1)] <= gaps.max()
    assert bins.encode(torch.tensor([-1e6, 1e6])).tolist() == [0, len(bins) - 1]


@pytest.mark.parametrize(("bins", "limit"), [(STEER, 0.1), (ACCELERATE, 0.7)])
def test_action_bins_are_twice_as_fine_near_zero_and_never_coarse(bins, limit):
    gaps = bins.centres.diff()
    assert gaps.min() < 0.25 * gaps.max()
    assert gaps.max() < limit


def test_every_token_has_one_id_and_the_tokenizer_agrees(tmp_path):
    assert len(set(VOCABULARY.names)) == len(VOCABULARY) == len(VOCABULARY.ids)
    tokenizer = VOCABULARY.tokenizer()
    text = "<bos> <cam> <v:0> <v:59> </cam> lead none <act> <steer:3> <accelerate:7> </act> <eos>"
    ids = tokenizer(text)["input_ids"]
    assert ids == [VOCABULARY.ids[name] for name in text.split()]
    assert VOCABULARY.text(torch.tensor(ids)) == text
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    tokenizer.save_pretrained(tmp_path)
    loaded, vocabulary = load_tokenizer(tmp_path)
    assert vocabulary == VOCABULARY
    assert loaded(text)["input_ids"] == ids


def test_a_tokenizer_of_another_version_or_damaged_is_refused(tmp_path):
    VOCABULARY.tokenizer().save_pretrained(tmp_path)
    page = tmp_path / "tokenizer_config.json"
    config = json.loads(page.read_text())
    page.write_text(json.dumps({**config, "vocabulary_version": 99}))
    with pytest.raises(CheckpointError, match="of version 99, not 1"):
        load_tokenizer(tmp_path)
    page.write_text(json.dumps(config))
    tokens = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(tokens.replace('"closing"', '"nearing"'))
    with pytest.raises(CheckpointError, match="version"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="no usable tokenizer"):
        load_tokenizer(tmp_path)


def test_a_prompt_says_what_the_observation_holds(look):
    observation = look(3)
    codes = torch.randint(0, 60, (3, 32), generator=torch.Generator().manual_seed(0))
    prompt = VOCABULARY.prompt(observation, codes)
    assert prompt.shape == (3, PROMPT_LENGTH)
    names = VOCABULARY.text(prompt[1]).split()
    assert [names[i] for i in (0, 33, 34, 41, 42, 52)] == ["<cam>", "</cam>", "<ego>", "</ego>", "<nav>", "</nav>"]
    assert names[1:33] == [f"<v:{code}>" for code in codes[1].tolist()]
    value = lambda bins, at: bins.values[int(names[at].split(":")[1][:-1])]
    assert value(EGO[0], 35) == pytest.approx(float(observation.ego[1, 0]), abs=0.3)
    assert value(EGO[1], 36) == pytest.approx(float(observation.ego[1, 4] - observation.ego[1, 0]), abs=0.6)
    for k, distance in enumerate(LATERAL_AT):
        assert value(NAVIGATION[1 + k], 44 + k) == pytest.approx(float(observation.route[1, int(distance / 4) - 1, 1]), abs=0.6)
    assert torch.equal(VOCABULARY.prompt(observation, codes)[:2], VOCABULARY.prompt(observation[:2], codes[:2]))


def test_what_the_vocabulary_lacks_is_refused(look):
    observation, codes = look(1), torch.zeros(1, 32, dtype=torch.int64)
    with pytest.raises(DataError, match="from 0 to 59"):
        VOCABULARY.prompt(observation, codes + 60)
    with pytest.raises(DataError, match="32 tokens"):
        VOCABULARY.prompt(observation, codes[:, :31])
    broken = Observation(observation.camera, observation.ego * torch.nan, observation.route)
    with pytest.raises(DataError, match="NaN"):
        VOCABULARY.prompt(broken, codes)
    with pytest.raises(DataError, match="one steering and one acceleration"):
        VOCABULARY.action(torch.tensor([[VOCABULARY.ids["lead"], VOCABULARY.ids["<accelerate:0>"]]]))


def test_actions_survive_their_tokens():
    action = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    back = VOCABULARY.action(VOCABULARY.action_ids(action))
    assert (back - action).abs().max() < 0.06
    again = VOCABULARY.action(VOCABULARY.action_ids(back))
    assert torch.allclose(again, back)
    still = VOCABULARY.action(VOCABULARY.action_ids(torch.zeros(1, 2)))
    assert torch.equal(still, torch.zeros(1, 2))


def test_the_route_turns_the_wheel_as_the_bicycle_model_says():
    car = PROFILES["sedan"]
    for radius, speed in ((12.0, 4.0), (40.0, 8.0)):
        # on a circle the centre of the box moves at an angle to its heading, whose sine is rear axle by radius
        route = rotate(arc(radius), torch.tensor(math.asin(car["rear_axle"] / radius)))
        axle_radius = math.sqrt(radius**2 - car["rear_axle"] ** 2)
        full = min(car["max_steering"], math.atan(car["wheelbase"] * car["max_lateral_acceleration"] / speed**2))
        found = turn(torch.tensor([speed]), route)
        assert float(found) * full == pytest.approx(math.atan(car["wheelbase"] / axle_radius), rel=0.02)
        assert torch.allclose(turn(torch.tensor([speed]), route * torch.tensor([1.0, -1.0])), -found)
    straight = arc(1e6)
    assert float(bend_speed(straight)) == 60.0
    assert float(bend_speed(arc(20.0))) < float(bend_speed(arc(40.0))) < 15.0
    assert float(remaining(straight)) == pytest.approx(80.0, abs=0.01)
    assert lateral(arc(40.0))[0, 0] == pytest.approx(40 * (1 - torch.cos(torch.tensor(0.2)).item()), abs=1e-4)


def test_an_action_is_read_and_everything_else_is_counted(look):
    ids = VOCABULARY.ids
    prompt = VOCABULARY.prompt(look(1), torch.zeros(1, 32, dtype=torch.int64))
    action = torch.tensor([[0.25, -0.5]])
    good = VOCABULARY.completion(action)
    thought = torch.full((1, 16), ids["none"])
    padded = torch.cat((VOCABULARY.completion(action, thought), torch.tensor([[ids["<eos>"], ids["<pad>"]]])), 1)
    for written in (good, padded):
        parsed = parse_action(VOCABULARY, written, prompt)
        assert not parsed.failed.any()
        assert torch.equal(parsed.action, VOCABULARY.action(VOCABULARY.action_ids(action)))
    swapped = good.clone()
    swapped[0, 2:4] = good[0, [3, 2]]
    spoken = torch.cat((good, torch.tensor([[ids["lead"]]])), 1)
    twice = torch.cat((good, good), 1)
    for written in (good[:, :4], good[:, :1], swapped, spoken, twice, torch.full((1, 9), ids["none"])):
        parsed = parse_action(VOCABULARY, written, prompt)
        assert parsed.failed.all()
        held = NAVIGATION[0].decode(prompt[0, 43] - VOCABULARY.first["turn"])
        assert parsed.action.tolist() == [[pytest.approx(float(held)), pytest.approx(FALLBACK_ACCELERATION / 7.0)]]
    both = parse_action(VOCABULARY, torch.cat((good, swapped)), prompt.expand(2, -1))
    assert both.failed.tolist() == [False, True]

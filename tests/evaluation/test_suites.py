from collections import Counter

import pytest
from xpeng_world.errors import ConfigError
from xpeng_world.evaluation.suites import load_suite, suite_names
from xpeng_world.scenario import draw_scenario


def test_standard_is_balanced_and_held_out():
    suite = load_suite("standard")
    cells = Counter((e.scenario["family"], e.scenario["density"], e.scenario["appearance"]) for e in suite.episodes)
    assert len(cells) == 24
    assert set(cells.values()) == {2}
    assert all(draw_scenario(e.seed, e.scenario).split == "test" for e in suite.episodes)


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_is_fixed_with_its_own_seeds(name):
    suite = load_suite(name)
    assert suite == load_suite(name)
    assert len({e.seed for e in suite.episodes}) == len(suite.episodes)


def test_seeds_are_not_shared_between_suites():
    seeds = [e.seed for name in suite_names() for e in load_suite(name).episodes]
    assert len(set(seeds)) == len(seeds)


def test_a_first_part_has_all_families():
    part = load_suite("standard").first(6)
    assert Counter(e.scenario["family"] for e in part.episodes) == {"city": 2, "motorway": 2, "country": 2}
    with pytest.raises(ConfigError, match="ask for 1 to 48"):
        load_suite("standard").first(49)


def test_smoke_is_three_short_episodes():
    suite = load_suite("smoke")
    assert len(suite.episodes) == 3
    assert suite.steps <= 50


def test_a_suite_of_one_s_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("night: {split: train, episodes: 2, first_seed: 5, steps: 10}")
    suite = load_suite(str(path))
    assert (suite.name, suite.steps, [e.seed for e in suite.episodes]) == ("night", 10, [5, 6])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {splt: test}", "did you mean 'split'"),
        ("a: {split: tset}", "did you mean 'test'"),
        ("a: {steps: 0}", "steps=0"),
        ("a: {}\nb: {}", "one suite"),
        ("a: [", "not YAML"),
    ],
)
def test_mistakes_in_a_suite_file_are_named(tmp_path, text, said):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_suite(str(path))


def test_unknown_suite():
    with pytest.raises(ConfigError, match="did you mean 'standard'"):
        load_suite("standrd")

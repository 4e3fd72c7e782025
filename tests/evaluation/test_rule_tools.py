"""The tools for rules and designs on recorded drives: replay, compare, explain, new, audit."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from xpeng_world import cli
from xpeng_world.data import Clip, ShardWriter
from xpeng_world.errors import ConfigError, DataError
from xpeng_world.evaluation.rule_agree import agree
from xpeng_world.evaluation.rule_audit import Judged, audit
from xpeng_world.evaluation.rule_cases import SWEEPS, sweep, telling
from xpeng_world.evaluation.rule_replay import compare, judge, part_effects, replay, runs
from xpeng_world.evaluation.rulebook import show_rules
from xpeng_world.rewards import RuleError, find_rule, load_design
from xpeng_world.rewards.cases import LIMIT, drive, straight_road


def steady(speed=LIMIT, steps=40, **more):
    return drive(*straight_road(), x=[40.0 + 0.1 * speed * t for t in range(steps)], **more)


def clip(track, split="train"):
    steps = track.steps
    facts = {"source": "test", "split": split, "dt": 0.1, "licence": "CC0"}
    return Clip(torch.zeros(steps, 16, 16, 3, dtype=torch.uint8), torch.zeros(steps, 2), track, facts)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """A fine drive, one that is 5 m/s too fast for a second, and one that hits a standing car."""
    folder = tmp_path_factory.mktemp("shards")
    fast = steady(steps=40)
    fast.ego.state[0, 10:20, 3] = LIMIT + 5
    with ShardWriter(folder) as writer:
        for track in (steady(), fast, steady(agents=[{"x": 70.0}])):
            writer.add(clip(track))
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_replay_says_where_a_rule_fired(shards, tmp_path, capsys) -> None:
    path = replay(str(shards), "speed_limit", str(tmp_path), None, None, None, None, 1)
    (row,) = rows(path)
    assert row["drive"].endswith("-0001")
    assert (row["first_frame"], row["last_frame"], row["first_second"], row["frames"], row["worst"]) == ("10", "19", "1.0", "10", "0")
    shown = capsys.readouterr().out
    assert "8.55%" in shown  # 10 of 117 frames: nothing comes before the first of each drive
    with Image.open(tmp_path / "timeline_0.png") as picture:
        assert picture.size[0] > 500


def test_replay_of_all_rules_and_of_a_threshold(shards, tmp_path) -> None:
    found = {row["rule"] for row in rows(replay(str(shards), None, str(tmp_path), None, None, None, None, 0))}
    assert {"speed_limit", "at_fault_collision", "time_to_collision"} <= found
    assert not {"progress", "energy", "off_route"} & found  # amounts have no threshold of their own
    assert not list(tmp_path.glob("*.png"))
    above = rows(replay(str(shards), "progress", str(tmp_path), None, None, None, 0.5, 0))
    assert len(above) == 3  # each drive, from its second frame on
    assert {row["first_frame"] for row in above} == {"1"}
    assert (
        rows(replay(str(shards), "progress", str(tmp_path), None, 1, 0.5, None, 0)) == []
    )  # the first frame gains nothing, and is left out


def test_replay_takes_parameters_and_leaves_no_old_pictures(shards, tmp_path) -> None:
    replay(str(shards), "headway", str(tmp_path), None, None, None, None, 3)
    assert len(list(tmp_path.glob("timeline_*.png"))) == 3
    (tmp_path / "mine.png").touch()
    strict = rows(replay(str(shards), "headway", str(tmp_path), None, None, None, None, 1, {"seconds_s": 8.0}))
    usual = rows(replay(str(shards), "headway", str(tmp_path), None, None, None, None, 1))
    frames = lambda found: sum(int(row["frames"]) for row in found)
    assert frames(strict) > frames(usual) > 0
    assert {path.name for path in tmp_path.glob("*.png")} == {"timeline_0.png", "mine.png"}
    with pytest.raises(ConfigError, match="has no parameter 'seconds'"):
        replay(str(shards), "headway", str(tmp_path), None, None, None, None, 1, {"seconds": 8.0})
    with pytest.raises(ConfigError, match="name it with rule="):
        replay(str(shards), None, str(tmp_path), None, None, None, None, 1, {"seconds_s": 8.0})


def test_an_amount_without_a_threshold_tells_its_range(shards, tmp_path, capsys) -> None:
    replay(str(shards), "progress", str(tmp_path), None, None, None, None, 0)
    assert "values of progress: 1 to 1 m; say with above= or below= when it fires" in capsys.readouterr().out


def test_replay_and_compare_try_rules_of_ones_own_first(shards, tmp_path) -> None:
    head = "from xpeng_world.rewards import rule\n\n\n@rule(kind='cost', unit='m/s', low=0.0, high=1e6, neutral=0.0, source='none')\n"
    (tmp_path / "oracle.py").write_text(f"{head}def oracle(track):\n    return track.ego.position[..., 0].flip(1)\n")
    (tmp_path / "mine.yaml").write_text("extends: default\ncosts:\n  oracle: {rule: oracle.py, weight: 1.0}\n")
    with pytest.raises(RuleError, match=r"oracle\.py:\d+: rule 'oracle' looks ahead"):
        replay(str(shards), str(tmp_path / "oracle.py"), str(tmp_path), None, None, None, None, 0)
    with pytest.raises(RuleError, match=r"oracle\.py:\d+: rule 'oracle' looks ahead"):
        compare("default", str(tmp_path / "mine.yaml"), str(shards), str(tmp_path), None, None, 3)


def test_a_tool_misspelt_is_not_taken_for_a_rule() -> None:
    with pytest.raises(ConfigError, match="did you mean 'list'"):
        show_rules("lst")
    with pytest.raises(ConfigError, match="did you mean 'headway'"):
        show_rules("headwy")


def test_replay_refuses_what_makes_no_sense(shards, tmp_path) -> None:
    with pytest.raises(ConfigError, match="thresholds of one rule"):
        replay(str(shards), None, str(tmp_path), None, None, 0.5, None, 0)
    with pytest.raises(ConfigError, match="one threshold"):
        replay(str(shards), "comfort", str(tmp_path), None, None, 0.5, 0.5, 0)
    with pytest.raises(ConfigError, match="did you mean 'comfort'"):
        replay(str(shards), "comfrt", str(tmp_path), None, None, None, None, 0)
    with ShardWriter(tmp_path / "plain") as writer:
        writer.add(Clip(torch.zeros(20, 16, 16, 3, dtype=torch.uint8), torch.zeros(20, 2), None, {"split": "train"}))
    with pytest.raises(DataError, match=r"no drive in .* has a scene"):
        replay(str(tmp_path / "plain"), "comfort", str(tmp_path), None, None, None, None, 0)


def test_runs_of_frames() -> None:
    assert runs(torch.tensor([True, True, False, True])) == [(0, 2), (3, 4)]
    assert runs(torch.tensor([False, False])) == []


def test_parts_of_a_reward_by_hand() -> None:
    # half of the tolerated excess: the reward is half of the progress, which the limit took; without progress there is none
    track = steady(LIMIT + 1.115)
    effects = part_effects(load_design("default"), track, 30)
    assert effects["speed_limit"] == pytest.approx(-0.5, abs=1e-3)
    assert set(effects) == {"speed_limit"}


def test_a_drive_counts_up_to_where_a_design_ends_it() -> None:
    design, track = load_design("default"), steady(agents=[{"x": 70.0}])
    rewards, plain, why = judge(design, track)
    ended = int(design.combine(design.evaluate(track)).terminated[0].int().argmax())
    assert why == f"at {0.1 * ended:.1f} s by at_fault_collision"
    assert float(rewards[ended]) < -14
    assert float(plain[ended]) > -1
    assert not rewards[ended + 1 :].any()


def test_compare_names_the_moments_and_the_parts(shards, tmp_path, capsys) -> None:
    strict = tmp_path / "strict.yaml"
    strict.write_text("extends: default\ndrop: [at_fault_collision]\ncosts:\n  slow_down: {rule: speed_limit, weight: 5}\n")
    path = compare("default", str(strict), str(shards), str(tmp_path / "out"), None, None, 5)
    (row,) = rows(path)
    assert row["drive"].endswith("-0001")
    assert 10 <= int(row["frame"]) < 20
    assert float(row["difference"]) == pytest.approx(-5.0, abs=1e-3)
    assert row["because_default"].startswith("speed_limit -1")
    assert row["because_strict"].startswith("slow_down -5")
    shown = capsys.readouterr().out
    assert "default ends it at" in shown
    assert "strict nowhere" in shown
    assert (tmp_path / "out" / "drives.png").is_file()
    assert [row["drive"][-4:] for row in rows(tmp_path / "out" / "drives.csv")] == ["0000", "0001", "0002"]


def test_every_sweep_can_be_judged_by_every_kind_of_rule() -> None:
    curve = dict(zip((round(v, 1) for v in SWEEPS[0].values()), sweep(find_rule("speed_limit"), SWEEPS[0]), strict=True))
    assert curve[13.6] == 1.0
    assert curve[22.0] == 0.0
    named = {name for name, _, _, _ in telling(find_rule("yield_to_walkers"))}
    assert named == {"walker"}
    assert "crossing" in {name for name, _, _, _ in telling(find_rule("yield_to_priority"))}
    assert {"gap", "standing"} <= {name for name, _, _, _ in telling(find_rule("headway"))}
    assert "red light" in {name for name, _, _, _ in telling(find_rule("required_braking"))}


def test_explain_draws_the_rule(tmp_path, capsys) -> None:
    assert cli.main(["rules", "explain", "headway", f"out={tmp_path / 'plot.png'}"]) == 0
    shown = capsys.readouterr().out
    assert "two-second rule" in shown
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.size[1] > 100


def test_from_a_new_rule_to_its_plot_in_three_commands(shards, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["rules", "new", "hard_braking_for_this_test"]) == 0
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_hard_braking_for_this_test.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert tested.returncode == 0, tested.stdout
    assert cli.main(["rules", "replay", str(shards), "rule=hard_braking_for_this_test.py", "above=1", "out=plots"]) == 0
    assert (tmp_path / "plots" / "timeline_0.png").is_file()
    capsys.readouterr()
    assert cli.main(["rules", "new", "hard_braking_for_this_test"]) == 2
    assert cli.main(["rules", "new", "comfort"]) == 2
    assert cli.main(["rules", "new", "Hard-Braking"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "already" in errors[0]
    assert "there is a rule 'comfort' already" in errors[1]
    assert "cannot name a rule" in errors[2]


def test_audit_finds_a_design_that_pays_for_standing(tmp_path, monkeypatch, capsys) -> None:
    from xpeng_world.evaluation import rule_audit

    points = {"expert": 100.0, "idle": 40.0, "crawl": 80.0}

    def judged(driver, episode, designs, steps):
        good = {"expert": 10.0, "crawl": 5.0}.get(driver, -3.0)
        lazy = {"idle": 12.0, "expert": 10.0}.get(driver, 1.0)
        return Judged(driver, episode.index, points.get(driver, 0.0), {"default": good, str(designs[1]): lazy})

    class Here:
        """A pool that works in this process."""

        def __init__(self, count):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *others):
            pass

        def starmap(self, function, tasks, chunksize):
            return [judged(*task) for task in tasks]

    monkeypatch.setattr(rule_audit.multiprocessing, "get_context", lambda kind: type("Context", (), {"Pool": Here}))
    bad = tmp_path / "bad.yaml"
    bad.write_text("terms:\n  standing: {rule: headway, weight: 1}\n")
    metrics = json.loads(audit(["default", str(bad)], ["lazy"], "validation", 2, 0, str(tmp_path), 1).read_text())["metrics"]
    assert metrics["audit_worst_hack"]["value"] == pytest.approx(2.0)
    assert metrics["audit_hacked"]["value"] == 1
    shown = capsys.readouterr().out
    assert f"HACKED: under '{bad}' idle earns at least as much as the expert and scores 60.0 points less" in shown
    assert "under 'default'" not in shown
    with pytest.raises(ConfigError, match="did you mean 'default'"):
        audit(["defalt"], [], "validation", 2, 0, str(tmp_path), 1)
    with pytest.raises(ConfigError, match="unknown policy 'lasy'"):
        audit([], ["lasy"], "validation", 2, 0, str(tmp_path), 1)


# what a design cannot see, because none of its rules speaks of it
BLIND = {
    "default": {"tailgating", "not yielding to a walker", "taking the right of way"},
    "safety_first": set(),
    "city": {"tailgating"},
    "motorway": {"not yielding to a walker", "taking the right of way"},
}


@pytest.mark.parametrize("design", list(BLIND))
def test_shipped_designs_rank_drives_with_a_fault_below_those_without(design) -> None:
    (found,) = agree(None, [design], None)
    assert found.pairs >= 17
    assert set(found.wrong) == BLIND[design]


def test_agree_reads_pairs_of_recorded_drives(shards, tmp_path, capsys) -> None:
    pairs = tmp_path / "pairs.csv"
    names = [
        row["drive"] for row in rows(compare("default", "comfort", str(shards), str(tmp_path / "out"), None, None, 0).parent / "drives.csv")
    ]
    pairs.write_text(f"better,worse,why\n{names[0]},{names[1]},too fast\n{names[2]},{names[0]},upside down\n")
    (found,) = agree(str(pairs), ["default"], str(shards))
    assert (found.right, found.pairs, found.wrong, found.share) == (1, 2, ("upside down",), 0.5)
    assert "default: 1 of 2 pairs as labelled; not: upside down" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="say with data="):
        agree(str(pairs), [], None)
    pairs.write_text(f"better,worse,why\n{names[0]},elsewhere/0,x\n")
    with pytest.raises(DataError, match=r"pairs.csv:2: no drive 'elsewhere/0'"):
        agree(str(pairs), ["default"], str(shards))
    pairs.write_text(f"better,worse,why\n{names[0]},{names[0]},x\n")
    with pytest.raises(DataError, match=r"pairs.csv:2: .* is compared with itself"):
        agree(str(pairs), "default", str(shards))
    with pytest.raises(DataError, match=r"no file 'nowhere\.csv'"):
        agree("nowhere.csv", [], None)
    pairs.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="needs the columns better, worse, why"):
        agree(str(pairs), ["default"], str(shards))


def test_bench_of_rules_times_the_same_steps(shards, fake, tmp_path, monkeypatch, capsys) -> None:
    from xpeng_world.evaluation import rule_bench

    monkeypatch.setattr(rule_bench, "make_world", lambda name: fake.FakeWorld())
    metrics = json.loads(rule_bench.bench_rules(str(shards), "default", "learned", 3, 2, 1, str(tmp_path)).read_text())["metrics"]
    assert metrics["rules_cost_share_b3"]["n"] == 2
    assert metrics["rules_cost_share_b3"]["value"] > 0
    assert metrics["rules_count"]["value"] >= 32
    assert min(metrics["replay_hour_s"]["value"], metrics["replay_hour_one_s"]["value"]) > 0  # which is longer is noise on clips so short
    with pytest.raises(ConfigError, match="must be at least 1"):
        rule_bench.bench_rules(None, "default", "learned", 0, 2, 1, str(tmp_path))

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from xpeng_world.errors import ConfigError
from xpeng_world.factory import pipeline
from xpeng_world.factory.child import StageError
from xpeng_world.factory.markers import BEGUN, MARKER, read_marker
from xpeng_world.factory.pipeline import FactoryConfig, run_line
from xpeng_world.factory.stages import OUT, Call, Stage
from xpeng_world.factory.summary import write_summary

FAKE = Path(__file__).with_name("fake_commands.py")
TRAIN = {"out": OUT, "seed": "{seed}", "threads": "{threads}"}
LINE = (
    Stage(
        "record",
        "clips",
        (Call("train", "record", {"out": OUT, "seed": "{seed}"}),),
        outputs=("index.json", "*.tar"),
        exact=True,
    ),
    Stage(
        "learn",
        "weights",
        (Call("fit", "train-policy", {**TRAIN, "data": "{record}"}),),
        inputs=("record",),
        outputs=("weights/**",),
        exact=True,
    ),
    Stage(
        "refine",
        "better weights",
        (Call("fit", "train-policy", {**TRAIN, "data": "{learn}/weights"}),),
        inputs=("learn",),
        outputs=("weights/**",),
    ),
    Stage(
        "score",
        "a score & more",
        (Call("judge", "eval", {"policy": "{refine}/weights", "world": "reference", "out": OUT}),),
        inputs=("refine",),
        outputs=("metrics.json#metrics",),
        scores={"reference": "metrics.json"},
        pictures=("strip_*.png",),
    ),
)
NAMES = [stage.name for stage in LINE]
SMALL = {
    "record": {"train": {"episodes": 3}},
    "learn": {"fit": {"steps": 6}},
    "refine": {"fit": {"steps": 4}},
    "score": {"judge": {"suite": "smoke"}},
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the small line with the fake commands; options are those of FactoryConfig."""
    monkeypatch.setattr(pipeline, "check_orders", lambda found: None)
    monkeypatch.setattr(pipeline, "code_version", lambda target: {"rl": "0" * 16})
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))

    def run(out="a", **options):
        config = FactoryConfig(preset=str(tmp_path / "small.yaml"), out=str(tmp_path / out), threads=1, **options)
        return run_line(config, LINE, lambda words: [sys.executable, str(FAKE), *words])

    run.folder = tmp_path / "a"
    return run


def calls(folder):
    """The commands that began since this was last asked, as (stage, step it began at)."""
    log = folder / "calls.log"
    found = re.findall(r"^(\S+) \S+ begins(?: at (\d+))?$", log.read_text(), re.M) if log.exists() else []
    log.unlink(missing_ok=True)
    return [stage if not step else (stage, int(step)) for stage, step in found]


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_the_line_runs_once_and_then_everything_is_kept(run) -> None:
    first = run()
    assert list(first.ran) == list(first.markers) == NAMES
    assert calls(run.folder) == ["record", ("learn", 0), ("refine", 0), "score"]
    made = manifest(run.folder)
    assert list(made["stages"]["record"]["outputs"]) == ["index.json", "train-000000.tar"]
    again = run()
    assert again.ran == {}
    assert calls(run.folder) == []
    assert manifest(run.folder) == made
    assert not list(run.folder.glob("*.partial"))


def test_a_changed_value_repeats_its_stage_and_what_depends_on_it(run) -> None:
    run()
    before = manifest(run.folder)
    assert run(change={"refine": {"fit": {"steps": 5}}}).ran == {
        "refine": "fit.steps changed from 4 to 5",
        "score": "the result of 'refine' changed",
    }
    assert manifest(run.folder) != before
    run()
    assert manifest(run.folder) == before


def test_a_result_that_comes_out_the_same_repeats_nothing_behind_it(run) -> None:
    run()
    ran = run(change={"record": {"train": {"clips_per_shard": 4}}}).ran
    assert ran == {"record": "train.clips_per_shard changed from 8 to 4"}


def test_another_seed_reaches_every_stage(run) -> None:
    run()
    one = manifest(run.folder)
    run("b", seed=1)
    other = manifest(run.folder.with_name("b"))
    for name in NAMES:
        assert one["stages"][name]["outputs"] != other["stages"][name]["outputs"]


def test_changed_code_repeats_the_stages_that_use_it(run, monkeypatch) -> None:
    run()
    monkeypatch.setattr(pipeline, "code_version", lambda target: {"rl": ("1" if "imitation" in target else "0") * 16})
    assert run().ran == {"learn": "the code in 'rl' changed", "refine": "the code in 'rl' changed"}


def test_code_that_changes_under_a_running_stage_is_noticed(run, monkeypatch) -> None:
    asked = []

    def version(target):
        asked.append(target)
        return {"rl": str(len(asked) > 2) * 4}  # asked by the plan, before the first stage, and after it

    monkeypatch.setattr(pipeline, "code_version", version)
    with pytest.raises(StageError, match="code was changed"):
        run()
    assert list(run().ran) == NAMES


def test_an_altered_and_a_missing_file_are_made_again(run) -> None:
    run()
    made = manifest(run.folder)
    (run.folder / "learn/weights/model.safetensors").write_text("bad")
    assert run().ran == {"learn": "its file 'weights/model.safetensors' was altered"}
    (run.folder / "record/train-000000.tar").unlink()
    assert run().ran == {"record": "files of its result are missing"}
    (run.folder / "record/train-000001.tar").touch()
    assert run().ran == {"record": "its file 'train-000001.tar' was altered"}
    assert manifest(run.folder) == made


def test_a_killed_stage_that_resumes_exactly_goes_on_to_the_same_end(run, monkeypatch) -> None:
    run("whole")
    monkeypatch.setenv("FAKE_DEATH", "learn:4")
    with pytest.raises(StageError, match=r"stage 'learn' was ended by SIGKILL.*learn.log"):
        run()
    assert not (run.folder / "manifest.json").exists()
    calls(run.folder)
    assert run().ran["learn"] == "it was interrupted"
    assert calls(run.folder) == [("learn", 4), ("refine", 0), "score"]
    assert manifest(run.folder) == manifest(run.folder.with_name("whole"))
    assert read_marker(run.folder / "learn").broken


def test_a_killed_stage_that_does_not_starts_over_unless_told_otherwise(run, monkeypatch) -> None:
    monkeypatch.setenv("FAKE_DEATH", "refine:2")
    for out, exact, began in (("a", True, 0), ("b", False, 2)):
        with pytest.raises(StageError):
            run(out)
        folder = run.folder.with_name(out)
        calls(folder)
        run(out, exact=exact)
        assert calls(folder) == [("refine", began), "score"]


def test_what_another_recipe_left_unfinished_is_not_gone_on_with(run, monkeypatch) -> None:
    monkeypatch.setenv("FAKE_DEATH", "learn:4")
    with pytest.raises(StageError):
        run()
    calls(run.folder)
    run(change={"learn": {"fit": {"steps": 8}}})
    assert calls(run.folder)[0] == ("learn", 0)


def test_a_stage_that_was_finished_but_not_put_in_place(run) -> None:
    run()
    made = manifest(run.folder)
    (run.folder / "learn").rename(run.folder / "learn.partial")
    assert run().ran == {}
    assert manifest(run.folder) == made
    shutil.copytree(run.folder / "learn", run.folder / "learn.partial")
    (run.folder / "learn.partial" / MARKER).unlink()
    (run.folder / "learn.partial" / BEGUN).write_text("{}")
    assert run().ran == {}


def test_a_damaged_marker_is_no_marker(run) -> None:
    run()
    marker = run.folder / "record" / MARKER
    marker.write_text(marker.read_text().replace('"episodes": 3', '"episodes": 4'))
    assert run().ran == {"record": "it has not run"}


def test_a_command_s_own_message_is_the_stage_s(run) -> None:
    with pytest.raises(StageError, match="stage 'record' failed: unlucky"):
        run(change={"record": {"train": {"episodes": 13}}})


def test_stages_are_chosen_by_name_and_by_range(run) -> None:
    assert list(run(until="learn").ran) == ["record", "learn"]
    assert not (run.folder / "manifest.json").exists()
    with pytest.raises(ConfigError, match="'score' needs 'refine'"):
        run(only=["score"])
    assert list(run(only=["refine"]).ran) == ["refine"]
    assert list(run(begin="score").ran) == ["score"]
    with pytest.raises(ConfigError, match=r"'refine' needs 'learn', which is not chosen \(fit.steps changed from 6 to 7\)"):
        run(begin="refine", change={"learn": {"fit": {"steps": 7}}, "refine": {"fit": {"steps": 7}}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ["lern"]}, "unknown stage 'lern'; did you mean 'learn'"),
        ({"begin": "score", "until": "learn"}, "comes before"),
        ({"only": ["learn"], "until": "score"}, "not both"),
        ({"change": {"learn": {"fit": {"stps": 1}}}}, "did you mean 'steps'"),
        ({"change": {"learn": {"fit": {"out": "x"}}}}, "set by the factory"),
        ({"change": {"learn": {"ft": {}}}}, "did you mean 'fit'"),
        ({"change": {"learn": 3}}, "must be names"),
        ({"seed": 600}, "seed=600"),
        ({"threads": 0}, "threads"),
    ],
)
def test_wrong_words_are_refused_in_one_line(run, options, message) -> None:
    if "threads" in options:
        config = FactoryConfig(preset="tiny", out=str(run.folder), **options)
        with pytest.raises(ConfigError, match=message):
            run_line(config, LINE)
    else:
        with pytest.raises(ConfigError, match=message) as caught:
            run(**options)
        assert "\n" not in str(caught.value)
    assert not (run.folder / "calls.log").exists()


def test_a_dry_run_says_why_and_touches_nothing(run, capsys) -> None:
    assert run(dry_run=True) is None
    assert not run.folder.exists()
    assert re.search(r"record +run +it has not run", capsys.readouterr().out)
    run()
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    run(dry_run=True, change={"learn": {"fit": {"steps": 9}}})
    out = capsys.readouterr().out
    assert re.search(r"record +keep", out)
    assert re.search(r"learn +run +fit.steps changed from 6 to 9", out)
    assert re.search(r"score +wait +after 'refine'", out)
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before


def test_two_factories_do_not_share_a_folder(run) -> None:
    run()
    with pipeline._locked(run.folder), pytest.raises(ConfigError, match=r"works in .* \(process \d+\)"):
        run()
    assert run().ran == {}


def test_the_summary_has_stages_scores_and_pictures(run) -> None:
    outcome = run()
    page = write_summary(outcome, LINE).read_text()
    record = json.loads((run.folder / "metrics.json").read_text())
    points = json.loads((run.folder / "score/metrics.json").read_text())["metrics"]["epdms"]
    assert record["metrics"]["epdms_score_reference"] == points
    assert record["metrics"]["small_s"]["value"] == pytest.approx(outcome.seconds)
    assert f"<b>{points['value']:.1f}</b>" in page
    assert "a score &amp; more" in page
    assert page.count("data:image/png;base64,") == 1
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert page.count('class="done">ran') == 4
    kept = write_summary(run(), LINE).read_text()
    assert kept.count('class="kept">kept') == 4
    assert "small_s" not in json.loads((run.folder / "metrics.json").read_text())["metrics"]

from __future__ import annotations

import io
import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from xpeng_world.configs.compose import compose
from xpeng_world.errors import ConfigError, DataError
from xpeng_world.evaluation.suites import load_suite
from xpeng_world.evaluation.video import write_video
from xpeng_world.factory import code_version as versions
from xpeng_world.factory import kill_rerun
from xpeng_world.factory.kill_rerun import kill_after, killed, measure_kills
from xpeng_world.factory.markers import digest_outputs
from xpeng_world.factory.presets import check_orders, load_preset, orders, preset_names
from xpeng_world.factory.progress import clock
from xpeng_world.factory.record import EPISODES_PER_SEED
from xpeng_world.factory.stages import LINE, Call, Stage, check_line
from xpeng_world.factory.summary import film
from xpeng_world.scenario import draw_scenario


@pytest.mark.parametrize("name", preset_names())
def test_shipped_presets_name_what_exists_and_fit_the_commands(name) -> None:
    values = load_preset(name, LINE)
    assert set(values) == {stage.name for stage in LINE}
    check_orders([order for stage in LINE for order in orders(stage, values, 0, 1)])


@pytest.mark.parametrize("name", preset_names())
def test_what_is_scored_in_the_learned_world_has_been_recorded(name) -> None:
    values = load_preset(name, LINE)
    recorded = set()
    for order in orders(LINE[0], values, 0, 1):
        wanted = {**(order.values["scenario"] or {}), "split": order.values["split"]}
        for number in range(order.values["episodes"]):
            drawn = draw_scenario(order.values["seed"] * EPISODES_PER_SEED + number, wanted)
            recorded.add((drawn.split, drawn.family, drawn.density))
    for stage in LINE:
        for order in orders(stage, values, 0, 1) if stage.scores else ():
            for episode in load_suite(order.values["suite"]).first(order.values["episodes"]).episodes:
                assert tuple(episode.scenario[key] for key in ("split", "family", "density")) in recorded


def test_words_say_the_same_to_the_command_line() -> None:
    values = load_preset("tiny", LINE, {"record": {"train": {"scenario": {"family": "city"}}}, "ppo": {"ppo": {"reward": "it's, {odd}"}}})
    folders = {"out": "x.partial", **{stage.name: stage.name for stage in LINE}}
    seen = 0
    for stage in LINE[:5]:
        for order in orders(stage, values, 2, 1):
            command, *words = order.words({**folders, "odd": "{odd}"})
            composed = compose(command, words)
            placed = json.loads(json.dumps(order.values))
            for key, value in placed.items():
                if isinstance(value, str):
                    for name, folder in folders.items():
                        placed[key] = placed[key].replace("{" + name + "}", folder)
            assert composed == placed
            seen += 1
    assert seen == 8


def test_seeds_of_recordings_differ_between_splits_and_factories() -> None:
    seeds = [order.values["seed"] for number in range(3) for order in orders(LINE[0], {}, number, 1)]
    assert len(set(seeds)) == 9


def test_a_wrong_type_is_refused_before_anything_runs() -> None:
    values = load_preset("tiny", LINE, {"record": {"train": {"episodes": "many"}}})
    with pytest.raises(ConfigError, match="record: wrong value for episodes"):
        check_orders(orders(LINE[0], values, 0, 1))


@pytest.mark.parametrize(("name", "message"), [("smke", "did you mean 'smoke'"), ("none.yaml", "no preset file")])
def test_unknown_presets(name, message) -> None:
    with pytest.raises(ConfigError, match=message):
        load_preset(name, LINE)


def test_a_line_takes_from_earlier_stages_only() -> None:
    check_line(LINE)
    stage = Stage("b", "", (Call("x", "record"),), inputs=("c",))
    with pytest.raises(ConfigError, match="takes from 'c'"):
        check_line([Stage("a", "", ()), stage, Stage("c", "", ())])
    with pytest.raises(ConfigError, match="two stages"):
        check_line([Stage("a", "", ()), Stage("a", "", ())])


def test_outputs_are_digested_by_content(tmp_path) -> None:
    (tmp_path / "w/deep").mkdir(parents=True)
    (tmp_path / "w/deep/x").write_text("1")
    (tmp_path / "w/.cache").write_text("1")
    (tmp_path / "m.json").write_text('{"metrics": {"a": 1, "b": 2}, "seconds": 3}')
    found = digest_outputs(tmp_path, ("w/**", "m.json#metrics"))
    assert list(found) == ["m.json#metrics", "w/deep/x"]
    (tmp_path / "m.json").write_text('{"seconds": 4, "metrics": {"b": 2, "a": 1}}')
    assert digest_outputs(tmp_path, ("w/**", "m.json#metrics")) == found
    with pytest.raises(DataError, match="holds no"):
        digest_outputs(tmp_path, ("*.tar",))
    with pytest.raises(DataError, match="has no 'other'"):
        digest_outputs(tmp_path, ("m.json#other",))


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package in which a/one uses b/two inside a function, b/two uses the root, and c imports by name."""
    monkeypatch.setattr(versions, "ROOT", tmp_path)
    files = {
        "__init__.py": "from importlib import import_module",
        "root.py": "",
        "unused.py": "",
        "a/__init__.py": "",
        "a/one.py": "def f():\n    from ..b import two",
        "a/other.py": "",
        "b/__init__.py": "",
        "b/two.py": "from .. import root\nfrom ..c import thing",
        "b/table.yaml": "x: 1",
        "c/__init__.py": "import importlib\nimportlib.import_module('.thing', __name__)",
        "c/thing.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_code_version_is_of_the_modules_reached(package) -> None:
    reached = [str(path.relative_to(package)) for path in versions.reached_modules("a.one")]
    assert reached == ["a/__init__.py", "a/one.py", "b/__init__.py", "b/two.py", "c/__init__.py", "c/thing.py", "root.py"]
    before = versions.code_version("a.one:f")
    for name, place in (("root.py", ""), ("c/thing.py", "c"), ("b/table.yaml", "b"), ("a/one.py", "a")):
        with open(package / name, "a") as file:
            file.write("\n# changed")
        now = versions.code_version("a.one:f")
        assert {key for key in now if now[key] != before[key]} == {place}
        before = now
    for name in ("a/other.py", "unused.py"):
        (package / name).write_text("y = 1")
    assert versions.code_version("a.one:f") == before


def test_the_version_holds_the_libraries(package) -> None:
    assert versions.code_version("a.other:f")["torch"].startswith("2.")


FACTORY = """
    import json, subprocess, sys, time
    from pathlib import Path
    folder = Path(sys.argv[1])
    resumed = folder.exists()
    (folder / "ppo.partial").mkdir(parents=True, exist_ok=True)
    beat = "import time\\nwhile True:\\n    open('beat', 'a').write('x')\\n    time.sleep(0.01)"
    child = subprocess.Popen([sys.executable, "-c", beat], cwd=folder)
    time.sleep(0 if resumed else float(sys.argv[2]))
    child.kill()
    (folder / "ppo.partial").rmdir()
    outputs = {"weights": "other" if resumed and sys.argv[3] == "forgetful" else "same"}
    (folder / "manifest.json").write_text(json.dumps({"stages": {"ppo": {"key": "k", "outputs": outputs}}}))
"""


@pytest.fixture
def start(tmp_path):
    (tmp_path / "factory.py").write_text(textwrap.dedent(FACTORY))
    (tmp_path / "expected.json").write_text(json.dumps({"stages": {"ppo": {"key": "k", "outputs": {"weights": "same"}}}}))
    return lambda name, seconds, kind="good": [sys.executable, "factory.py", name, str(seconds), kind]


def test_a_kill_ends_the_whole_group_and_names_the_stage(start, tmp_path) -> None:
    assert kill_after(start("a", 60), tmp_path, "a", 1.0) == "ppo"
    size = (tmp_path / "a/beat").stat().st_size
    time.sleep(0.1)
    assert (tmp_path / "a/beat").stat().st_size == size
    assert kill_after(start("b", 0), tmp_path, "b", 60) is None


def test_a_killed_factory_is_compared_with_the_undisturbed_one(start, tmp_path) -> None:
    good = killed(start("a", 60), tmp_path, "a", [0.7], tmp_path / "expected.json")
    assert (good.same, good.kills) == (True, ((0.7, "ppo"),))
    bad = killed(start("b", 60, "forgetful"), tmp_path, "b", [0.7], tmp_path / "expected.json")
    assert not bad.same
    assert bad.difference == "'weights' of 'ppo'"


def test_finished_tries_are_kept(start, tmp_path, monkeypatch, capsys) -> None:
    begun = []

    def command(arguments: list[str]) -> list[str]:
        name = next(text.removeprefix("out=") for text in arguments if text.startswith("out="))
        begun.append(name)
        return start(name, 0 if name == "whole" else 60)

    monkeypatch.setattr(kill_rerun, "command_line", command)
    (tmp_path / "whole/ppo").mkdir(parents=True)
    (tmp_path / "whole/ppo/stage.json").write_text('{"seconds": 1.0}')
    measure_kills("smoke", str(tmp_path), 1, 1, 0, 1)
    assert "1 of 1 kills survived" in capsys.readouterr().out
    (tmp_path / "try0/witness").touch()
    measure_kills("smoke", str(tmp_path), 2, 1, 0, 1)
    assert begun == ["whole", "try0", "whole", "try1"]
    assert (tmp_path / "try0/witness").exists()
    shown = capsys.readouterr().out
    assert shown.count("in ppo: the same") == 2
    assert "2 of 2 kills survived" in shown
    measure_kills("smoke", str(tmp_path), 1, 1, 1, 1)  # another seed, other moments
    assert begun[-1] == "try0"
    assert not (tmp_path / "try0/witness").exists()


def test_the_moments_of_kills_are_spread_over_the_run(start, tmp_path, monkeypatch, capsys) -> None:
    waited = []

    def survives(arguments: list[str], folder: Path, name: str, after: list[float], expected: Path) -> kill_rerun.Try:
        waited.append(after)
        return kill_rerun.Try(tuple((seconds, "ppo") for seconds in after), name == "try0", "'weights' of 'ppo'")

    monkeypatch.setattr(kill_rerun, "killed", survives)
    monkeypatch.setattr(kill_rerun, "command_line", lambda arguments: start("whole", 0))
    (tmp_path / "whole/ppo").mkdir(parents=True)
    (tmp_path / "whole/ppo/stage.json").write_text('{"seconds": 100.0}')
    measure_kills("smoke", str(tmp_path), 2, 5, 0, 1)
    for after in waited:
        assert min(after) >= 0
        assert 50 < sum(after) <= 100
    assert "5 of 10 kills survived" in capsys.readouterr().out


def test_no_factory_outlives_the_command(start, tmp_path) -> None:
    script = """
        import sys
        from pathlib import Path
        from xpeng_world.factory import kill_rerun
        kill_rerun.command_line = lambda arguments: [sys.executable, "factory.py", "whole", "60", "good"]
        kill_rerun.measure_kills("smoke", ".", 1, 1, 0, 1)
    """
    (tmp_path / "measure.py").write_text(textwrap.dedent(script))
    process = subprocess.Popen([sys.executable, "measure.py"], cwd=tmp_path)
    beat = tmp_path / "whole/beat"
    for _ in range(600):
        if beat.exists():
            break
        time.sleep(0.05)
    process.terminate()
    assert process.wait(20) == 143
    size = beat.stat().st_size
    time.sleep(0.1)
    assert beat.stat().st_size == size


def test_no_try_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="tries=0"):
        measure_kills("tiny", str(tmp_path), 0, 1, 0, 1)


def test_clock() -> None:
    assert [clock(s) for s in (3.21, 245, 3845)] == ["3.2 s", "4:05 min", "1:04:05 h"]


def test_a_film_shows_the_first_and_the_last_frame(tmp_path) -> None:
    write_video(tmp_path / "a.mp4", [np.full((16, 32, 3), level, np.uint8) for level in (0, 60, 120, 180, 240)])
    sheet = np.asarray(Image.open(io.BytesIO(film(tmp_path / "a.mp4"))))
    assert sheet.shape == (32, 64, 3)
    assert abs(int(sheet[8, 16, 0]) - 0) < 12
    assert abs(int(sheet[24, 48, 0]) - 240) < 12

"""The documentation says what the code does."""

from pathlib import Path

import pytest
from xpeng_world.errors import ConfigError
from xpeng_world.rewards import load_design
from xpeng_world.rewards.table import rule_table

PAGE = Path(__file__).parents[2] / "docs" / "rewards.md"


def blocks(language: str) -> list[str]:
    return [part.split("```")[0] for part in PAGE.read_text(encoding="utf-8").split(f"```{language}\n")[1:]]


def test_the_table_of_rules_is_current():
    assert rule_table() in PAGE.read_text(encoding="utf-8")


def test_the_example_rule_and_design_load(tmp_path):
    (tmp_path / "braking.py").write_text(blocks("python")[0])
    design = tmp_path / "my.yaml"
    design.write_text(blocks("yaml")[0])
    assert [entry.rule.name for entry in load_design(design).costs] == ["red_light", "braking"]
    design.write_text(blocks("yaml")[0].replace("horizon_s", "horizon"))
    with pytest.raises(ConfigError, match="has no parameter 'horizon'; did you mean 'horizon_s'"):
        load_design(design)

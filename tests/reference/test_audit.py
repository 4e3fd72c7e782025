"""No shipped design may pay random, standing, crawling or circling drivers what it pays the expert."""

import json

from xpeng_world.evaluation.rule_audit import UNWANTED, audit
from xpeng_world.rewards import design_names


def test_no_shipped_design_pays_drivers_that_nobody_wants(tmp_path) -> None:
    metrics = json.loads(audit([], [], "validation", 1, 0, str(tmp_path), 1).read_text())["metrics"]
    assert metrics["audit_worst_hack"]["value"] < 0
    assert metrics["audit_hacked"]["value"] == 0
    lines = (tmp_path / "audit.csv").read_text().splitlines()
    assert len(lines) == 1 + len(design_names()) * (1 + len(UNWANTED))

from xpeng_world.evaluation.expert_distance import ExpertDistances
from xpeng_world.evaluation.runner import run_suite
from xpeng_world.evaluation.suites import Episode, Suite


def test_the_reference_world_is_evaluated_in_processes(tmp_path):
    episodes = tuple(Episode(i, 40 + i, {"split": "train", "family": "country", "network_seed": 0, "density": "sparse"}) for i in range(2))
    suite = Suite("two", "", 5, episodes)
    found = run_suite("expert", "reference", suite, workers=1, keep=tmp_path)
    assert [row.unscored for row in found.rows] == ["", ""]
    assert [row.episode.index for row in found.rows] == [0, 1]
    assert all(row.ended == "time_limit" and row.scores["epdms"] == 100 for row in found.rows)
    known = ExpertDistances("reference", 5)
    assert all(known.get(row.episode) > 0 for row in found.rows)
    assert len(list(tmp_path.glob("*.safetensors"))) in (1, 2)

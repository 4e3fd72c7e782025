"""Networks: built once per family and seed, cached whole."""

import pytest
from xpeng_world.errors import ConfigError
from xpeng_world.reference.networks import build_network
from xpeng_world.scenario import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_built_anew_a_network_is_the_same(family, tmp_path, monkeypatch):
    texts = []
    for folder in ("a", "b"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / folder))
        path = build_network(family, 3).path
        assert path.is_relative_to(tmp_path / folder)
        assert [p.name for p in path.parent.iterdir()] == [path.name], "nothing half-built may stay in the cache"
        text = path.read_text()
        texts.append(text[text.index("<location") :])
    assert texts[0] == texts[1]


def test_the_cache_is_used():
    path = build_network("country", 1).path
    before = path.stat().st_mtime_ns
    assert build_network("country", 1).path.stat().st_mtime_ns == before


@pytest.mark.parametrize(("family", "side", "hint"), [("citty", "right", "'city'"), ("city", "rigth", "'right'")])
def test_wrong_names_are_refused_with_the_nearest(family, side, hint):
    with pytest.raises(ConfigError, match=hint):
        build_network(family, 0, side)

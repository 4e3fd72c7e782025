"""Road networks from a family and a seed: planned here, built by SUMO's netconvert, kept in the user's cache."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ..errors import ConfigError, SimulatorError
from ..scenario import FAMILIES, nearest
from .families import FAMILY_PLANS, Plan

NETWORK_VERSION = 3  # raised whenever a plan or an option below changes, so that caches are not mixed
TRAFFIC_SIDES = {"right": 1, "left": -1}

_OPTIONS = (
    "--no-turnarounds", "true", "--tls.default-type", "static", "--tls.layout", "incoming", "--tls.green.time", "12",
    "--tls.yellow.time", "3", "--tls.allred.time", "1", "--tls.left-green.time", "0", "--default.junctions.radius", "5",
    "--junctions.corner-detail", "6", "--junctions.internal-link-detail", "10", "--offset.disable-normalization", "true",
    "--geometry.max-angle", "0", "--no-warnings", "true", "--xml-validation", "never", "--precision", "3",
)  # fmt: skip


_WALKABLE = ("--crossings.guess", "true", "--roundabouts.guess", "true")  # of families with pavements


@dataclass(frozen=True)
class Network:
    """A built road network: SUMO's net.xml and what it was made from."""

    path: Path
    family: str
    network_seed: int
    traffic_side: str = "right"

    @property
    def name(self) -> str:
        """A short name for messages and provenance."""
        return f"{self.family}-{self.network_seed}-{self.traffic_side}"


def sumo_home() -> Path:
    """The folder of the installed SUMO.

    Raises:
        SimulatorError: SUMO is not installed.
    """
    try:
        import sumo
    except ImportError as error:
        raise SimulatorError("SUMO is not installed; pip install 'xpeng-world[reference]' to use the reference world") from error
    return Path(sumo.SUMO_HOME)


def cache_folder() -> Path:
    """Where built networks are kept: `xpeng_world/networks` in the XDG cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xpeng_world" / "networks"


def build_network(family: str, network_seed: int, traffic_side: str = "right") -> Network:
    """Return the network of a family and seed, building it on first use.

    Raises:
        ConfigError: an unknown family or traffic side.
        SimulatorError: SUMO is not installed, or netconvert failed.
    """
    if family not in FAMILIES:
        raise ConfigError(f"unknown family '{family}'; {nearest(family, FAMILIES)}")
    if traffic_side not in TRAFFIC_SIDES:
        raise ConfigError(f"unknown traffic side '{traffic_side}'; {nearest(traffic_side, TRAFFIC_SIDES)}")
    home = sumo_home()
    stem = f"{family}-{int(network_seed)}-{traffic_side}-v{NETWORK_VERSION}-sumo{version('eclipse-sumo')}"
    path = cache_folder() / f"{stem}.net.xml"
    if not path.exists():
        side = TRAFFIC_SIDES[traffic_side]
        rng = np.random.default_rng([int(network_seed), FAMILIES.index(family), 11])
        convert(FAMILY_PLANS[family](rng, side), path, home, rng, left=side < 0)
    return Network(path, family, int(network_seed), traffic_side)


def convert(plan: Plan, path: Path, home: Path, rng: np.random.Generator, left: bool) -> None:
    """Build the net.xml of a plan, its signals out of step with each other, beside its final place and rename it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        where = Path(folder)
        _write_plain(plan, where)
        command = [str(home / "bin" / "netconvert"), "-n", "plan.nod.xml", "-e", "plan.edg.xml", "-x", "plan.con.xml", "-o", "out.net.xml"]
        command += [*_OPTIONS, *(("--lefthand", "true") if left else ()), *(_WALKABLE if plan.walkable else ())]
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, env={**os.environ, "SUMO_HOME": str(home)}, check=False)
        if done.returncode != 0 or not (where / "out.net.xml").exists():
            reason = (done.stderr.strip().splitlines() or ["no message"])[0]
            raise SimulatorError(f"netconvert failed on {path.stem}: {reason}; check the SUMO installation with 'netconvert --version'")
        tree = ElementTree.parse(where / "out.net.xml")
        for programme in tree.iter("tlLogic"):
            programme.set("offset", str(int(rng.integers(60))))
        tree.write(where / "offset.net.xml")
        os.replace(where / "offset.net.xml", path)


def _write_plain(plan: Plan, folder: Path) -> None:
    nodes = ElementTree.Element("nodes")
    for name, (x, y, kind) in plan.nodes.items():
        ElementTree.SubElement(nodes, "node", id=name, x=f"{x:.3f}", y=f"{y:.3f}", type=kind)
    edges = ElementTree.Element("edges")
    for edge in plan.edges:
        attributes = {
            "id": edge.name, "from": edge.start, "to": edge.end, "numLanes": str(edge.lanes), "speed": f"{edge.speed:.2f}",
            "width": f"{edge.width:.2f}", "priority": str(edge.priority), "spreadType": "right",
            "shape": " ".join(f"{x:.3f},{y:.3f}" for x, y in edge.shape),
        }  # fmt: skip
        if edge.pavement:
            attributes["sidewalkWidth"] = f"{edge.pavement:.2f}"
        ElementTree.SubElement(edges, "edge", attributes)
    connections = ElementTree.Element("connections")
    for start, end, from_lane, to_lane in plan.connections:
        attributes = {"from": start, "to": end, "fromLane": str(from_lane), "toLane": str(to_lane)}
        ElementTree.SubElement(connections, "connection", attributes)
    for node, crossed in plan.crossings:
        ElementTree.SubElement(connections, "crossing", {"node": node, "edges": crossed, "priority": "true"})
    for name, root in (("nod", nodes), ("edg", edges), ("con", connections)):
        ElementTree.ElementTree(root).write(folder / f"plan.{name}.xml")

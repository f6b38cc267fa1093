"""What Prometheus gets, and that the dashboard asks for exactly that."""

import json
import re
import time
import urllib.request
from pathlib import Path

import pytest

from learner.logging.prometheus import COUNTERS, GAUGES, PrometheusSink

ROOT = Path(__file__).parents[3]
RUN = re.compile(r'ray_duvlm_.*run="first/offline"')  # other tests of the session may have exported theirs
EXPORTED = {f"ray_{name}" for name in GAUGES} | {f"ray_{name}_total" for name in COUNTERS}


def test_the_dashboard_asks_for_every_metric_and_for_no_other():
    board = json.loads((ROOT / "docs" / "grafana" / "duvlm.json").read_text())
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert set(re.findall(r"ray_\w+", " ".join(queries))) == EXPORTED
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    variable = next(v for v in board["templating"]["list"] if v["name"] == "run")
    assert re.findall(r"ray_\w+", variable["query"]) == ["ray_duvlm_step"]


@pytest.mark.engine
@pytest.mark.slow
def test_ray_exports_them_under_these_names_with_run_and_role(ray_cluster):
    """Asks the node's own exporter, which Prometheus would scrape; it hears of a number within ten seconds."""
    metrics = {metric: 3.0 for _, of_role in (GAUGES | COUNTERS).values() for metric in of_role.values()}
    gauges, before = PrometheusSink("first/offline"), {"restarts/rollout": 0.0}
    gauges.set(before)
    gauges.set(metrics)
    (node,) = ray_cluster.nodes()
    url, found, ends = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics", {}, time.monotonic() + 90
    while len(found) < len(EXPORTED) and time.monotonic() < ends:
        text = urllib.request.urlopen(url, timeout=10).read().decode()
        found = {line.split("{")[0]: line for line in text.splitlines() if RUN.match(line)}
        time.sleep(1)
    assert set(found) == EXPORTED
    assert all(line.endswith(" 3.0") for line in found.values())
    assert re.search(r'role="(rollout|reward|learner)"', found["ray_duvlm_busy_share"])

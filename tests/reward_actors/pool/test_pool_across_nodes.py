"""A pool on a cluster of two nodes; in a process of its own, because one process joins one cluster."""

import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, ray
from ray.cluster_utils import Cluster

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.add_node(num_cpus=1)
ray.init(address=cluster.address)

import numpy as np
from configs.schema import Config
from envs.types import RewardQuery, Sample
from envs.taxonomy import TAXONOMY
from reward_actors.pool.pool import RewardPool

config = Config()
config.world.size, config.reward.cpus, config.reward.actors = 32, 1.0, 2
config.reward.prior, config.reward.restorer, config.reward.steps = "gaussian", "ddnm", 5
config.reward.batch = 2
picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
sample = ray.put(Sample("noise", "", "test", picture, picture))
answers = [TAXONOMY.degradation("blur", {"sigma": 1 + i / 100}) for i in range(32)]


async def main():
    pool = RewardPool(config)
    await pool.start()
    scores = await pool.score([RewardQuery("noise", sample, answer) for answer in answers])
    print("actors", len({score.actor for score in scores}), "scored", pool.stats().scored)
    await pool.close()


asyncio.run(main())
from ray.util.state import list_actors
print("nodes", len({actor.node_id for actor in list_actors(detail=True) if actor.class_name == "RewardActor"}))
"""


@pytest.mark.slow
def test_actors_on_two_nodes_share_one_queue(tmp_path):
    script = tmp_path / "two_nodes.py"
    script.write_text(SCRIPT)
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300)
    assert "actors 2 scored 32" in run.stdout, run.stderr[-2000:]
    assert "nodes 2" in run.stdout

"""The jobs of this package, for the table in `configs.jobs`. Imports nothing heavy."""

from configs.cluster.resources import Role
from configs.jobs import Job

JOBS = (
    Job(
        "corpus",
        "envs.corpus.build:run",
        "Build a corpus of degraded photographs with known physics.",
        reads=("photos", "enlarge", "count", "size", "reviews", "world"),
        roles=lambda config: (Role("corpus task", 1, 1.0),),
    ),
    Job(
        "depth",
        "envs.depth.estimate:run",
        "Write depth beside photographs, for haze that follows it.",
        reads=("photos", "model", "depth"),
        roles=lambda config: (Role("depth estimator", config.depth.actors, config.depth.cpus, config.depth.gpus),),
    ),
    Job(
        "review",
        "envs.corpus.review:run",
        "Write sheets on which people accept or reject a tenth of a corpus.",
        reads=("corpus", "limit", "world"),
    ),
)

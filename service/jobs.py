"""The jobs of this package, for the table in `configs.jobs`. Imports nothing heavy."""

from configs.cluster.resources import reward_actors, rollout_engines
from configs.jobs import Job

JOBS = (
    Job(
        "restore",
        "service.restore:run",
        "Restore a photograph, or a folder of them.",
        reads=("image", "degradation", "force", "policy", "world", "rollout", "reward", "restore"),
    ),
    Job(
        "degrade",
        "service.degrade:run",
        "Degrade a photograph by given parameters.",
        reads=("image", "degradation", "world"),
    ),
    Job(
        "serve",
        "service.serve:serve",
        "Restore photographs for a web page and over HTTP, until interrupted.",
        reads=("policy", "world", "rollout", "reward", "restore"),
        roles=lambda config: (rollout_engines(config), reward_actors(config)),
        own_command=True,
    ),
)

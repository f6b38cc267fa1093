"""The jobs of this package, for the table in `configs.jobs`. Imports nothing heavy."""

from configs.cluster.resources import reward_actors
from configs.jobs import Job

JOBS = (
    Job(
        "prior",
        "reward_actors.priors.train:run",
        "Train the diffusion prior.",
        reads=("photos", "steps", "resume", "trackers", "learner.lr", "world.size"),
    ),
    Job(
        "fit-iqa",
        "reward_actors.scoring.train_rank_iqa:run",
        "Fit no-reference scores to photographs; with steps=N train `rank_iqa` too.",
        reads=("photos", "size", "steps", "resume", "trackers", "learner.lr", "world"),
    ),
    Job(
        "rewards",
        "reward_actors.pool.shared.job:run",
        "Host reward actors that several jobs share, until interrupted.",
        reads=("reward", "world.size"),
        roles=lambda config: (reward_actors(config),),
    ),
)

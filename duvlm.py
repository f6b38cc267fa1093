"""The front door: `duvlm run JOB key=value ...` here, `duvlm submit JOB --address URL ...` on a cluster."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from configs import UserError, cluster, config_to_yaml, control, document, jobs, load, run_folder

JOBS = {
    "corpus": ("envs.corpus:run", "Build a corpus of degraded photographs with known physics."),
    "prior": ("learner.prior:run", "Train the diffusion prior."),
    "sft": ("learner.sft:run", "Teach the policy the answers of a corpus (the warm start)."),
    "offline": ("learner.rl:run_offline", "Reinforce the policy by restoration, the truth being known."),
    "online": ("learner.rl:run_online", "Reinforce the policy on photographs nobody knows the truth of."),
    "evaluate": ("benchmarks.quality.evaluate:run", "Measure a policy, or anyone's answers, on a corpus."),
    "restore": ("benchmarks.quality.restore:run", "Restore one photograph."),
}
DASHBOARD = "http://127.0.0.1:8265"
EXAMPLES = {
    "": """examples:
  duvlm run corpus photos=DIR count=1000 out=DIR     a corpus from your photographs
  duvlm run offline name=first                       the RL job, on this machine
  duvlm submit offline --address http://HOST:8265    the same on a Ray cluster
  duvlm COMMAND --help                               more""",
    "run": """examples:
  duvlm run corpus photos=DIR count=1000 size=64 seed=1 out=DIR
  duvlm run sft name=first steps=100 policy=random
  duvlm run offline name=first policy=runs/first/sft/policy reward.actors=4
  duvlm run evaluate corpus=DIR predictions=FILE.jsonl out=DIR
  duvlm run restore image=FILE degradation='{"type": "blur", "values": {"sigma": 2.0}}' out=DIR
  duvlm run offline track=qwen3vl_8b --dry-run""",
    "submit": f"""examples:
  duvlm submit offline --address {DASHBOARD} name=first
  RAY_AUTH_MODE=token duvlm submit sft --address http://HOST:8265 --no-follow""",
    "status": f"""examples:
  duvlm status                                    runs in ./runs
  duvlm status --address {DASHBOARD}    jobs of a cluster""",
    "logs": "examples:\n  duvlm logs raysubmit_ABC\n  duvlm logs raysubmit_ABC -f",
    "stop": "examples:\n  duvlm stop raysubmit_ABC",
    "scale": """examples:
  duvlm scale rewards 4
  duvlm scale rewards 8 --address HOST:6379 --run first/offline""",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status: 2 for a wrong request, 130 when interrupted."""
    try:
        options = _parse(arguments)
        return options.do(options) or 0
    except UserError as error:
        print(f"duvlm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("duvlm: interrupted; run it again to continue a training from its checkpoint", file=sys.stderr)
        return 130


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options and settings in any order: argparse alone takes no positionals after an option."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if unknown := [word for word in rest if word.startswith("-") or not hasattr(options, "settings")]:
        parser.error(f"unrecognised: {' '.join(unknown)}")
    if rest:
        options.settings += rest
    return options


def _parser() -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    names = "\n".join(f"  {name:10}{help}" for name, (_, help) in JOBS.items())
    parser = argparse.ArgumentParser("duvlm", description=__doc__, epilog=EXAMPLES[""], formatter_class=plain)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, do, help: str, epilog: str = "") -> argparse.ArgumentParser:
        made = commands.add_parser(
            name, help=help, description=help, epilog=EXAMPLES[name] + epilog, formatter_class=plain
        )
        made.set_defaults(do=do)
        return made

    settings = f"\n\njobs:\n{names}\n\nsettings (and track=tiny or track=qwen3vl_8b):\n{document.as_help()}"
    run = command("run", _run, "Run a job here, on a local Ray cluster or one that is joined.", settings)
    submit = command("submit", _submit, "Send a job to a Ray cluster, follow its log, return its status.")
    for made in (run, submit):
        made.add_argument("job", metavar="JOB", help=", ".join(JOBS))
        made.add_argument("settings", metavar="key=value", nargs="*", help="settings, see `duvlm run --help`")
    run.add_argument("--address", metavar="HOST:PORT", help="Ray cluster to join, instead of a local one")
    run.add_argument("--dry-run", action="store_true", help="print settings and resource plan only")
    submit.add_argument("--no-follow", action="store_true", help="return once the cluster has the job")
    status = command("status", _status, "List the jobs of a cluster, or the runs in ./runs.")
    logs = command("logs", lambda o: jobs.logs(o.id, o.address, o.follow), "Print the log of a job.")
    logs.add_argument("-f", "--follow", action="store_true", help="until it ends; then return its status")
    stop = command("stop", _stop, "Stop a submitted job.")
    scale = command("scale", _scale, "Change the number of actors of a running job.")
    scale.add_argument("what", choices=["rewards"], help="the reward actors")
    scale.add_argument("count", type=int, metavar="N", help="how many there should be")
    scale.add_argument("--address", metavar="HOST:PORT", default="auto", help="Ray cluster (%(default)s)")
    scale.add_argument("--run", default="", help="end of the run's folder, where several jobs run")
    for made in (logs, stop):
        made.add_argument("id", help="what `duvlm submit` and `duvlm status` call it")
    for made in (submit, logs, stop):
        made.add_argument("--address", default=DASHBOARD, help="dashboard of the cluster (%(default)s)")
    status.add_argument("--address", help="dashboard of the cluster; without it, the runs in ./runs")
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.address:
        options.settings.append(f"address={options.address}")
    config = load(options.job, options.settings)
    if options.dry_run:
        print(f"{config_to_yaml(config)}# {cluster.plan(config, options.job)}")
        print(f"# writes to {run_folder(config, options.job)}")
        return
    cluster.find(config)  # before the imports of a job, which take seconds
    module, _, function = JOBS[options.job][0].partition(":")
    getattr(importlib.import_module(module), function)(config)


def _submit(options: argparse.Namespace) -> int:
    return jobs.submit(options.job, options.settings, options.address, not options.no_follow)


def _status(options: argparse.Namespace) -> None:
    if options.address:
        for row in jobs.status(options.address):
            print("  ".join(row))
        return
    for folder in sorted(path for path in Path("runs").glob("*/*") if path.is_dir()):
        print(f"{folder}  {'finished' if (folder / 'summary.json').exists() else 'not finished'}")


def _scale(options: argparse.Namespace) -> None:
    config = load("offline", [f"address={options.address}"])
    folder = control.scale_rewards(config, options.count, options.run)
    print(f"{folder}: {options.count} reward actors from its next step on")


def _stop(options: argparse.Namespace) -> None:
    print("stopped" if jobs.stop(options.id, options.address) else "it had ended before")


if __name__ == "__main__":
    sys.exit(main())

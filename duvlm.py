"""The front door: `duvlm run JOB key=value ...` here, `duvlm submit JOB --address URL ...` on a cluster.

In Python: `duvlm.Reader`, `duvlm.restore`, `duvlm.degrade`, `duvlm.score`, `duvlm.RewardPool`, `duvlm.RewardFunction`
(docs/api.md), imported when asked for.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from configs import Config, UserError, config_to_yaml, load, run_folder, run_folders
from configs import help as texts
from configs.cluster import connect, memory, resources, scaling, submission, supervision
from configs.jobs import jobs

__version__ = "0.2.0"
DASHBOARD = "http://127.0.0.1:8265"
INTERRUPTED = "interrupted; run it again to continue a training from its checkpoint"
API = {
    "Reader": "service.reader",
    "Reading": "service.reader",
    "degrade": "service.degrade",
    "restore": "service.restore",
    "score": "reward_actors.scoring.pictures",
    "RewardPool": "reward_actors.pool.pool",
    "RewardFunction": "learner.rl.reward_function",
}


def __getattr__(name: str):
    """Imports what the Python API offers when it is first used: this module itself starts in a moment."""
    if name not in API:
        raise AttributeError(f"module 'duvlm' has no attribute {name!r}; it offers {', '.join(API)}")
    return getattr(importlib.import_module(API[name]), name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit status: 2 for a wrong request, 130 or 143 when interrupted."""
    options = argparse.Namespace()
    supervision.interrupts.clear()

    def terminate(number: int, _frame) -> None:  # as Ctrl-C, so that everything is cleared away on the same path
        supervision.interrupts.append(number)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a shell
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    before, address = signal.signal(signal.SIGTERM, terminate), os.environ.get("RAY_ADDRESS", "")
    try:
        options = _parse(arguments)
        return options.do(options) or 0
    except UserError as error:
        print(f"duvlm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"duvlm: {getattr(options, 'goodbye', INTERRUPTED)}", file=sys.stderr)
        return 128 + (supervision.interrupts or [signal.SIGINT])[0]
    finally:
        signal.signal(signal.SIGTERM, before)
        os.environ["RAY_ADDRESS"] = address


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options and settings in any order: argparse alone takes no positionals after an option."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser(arguments)
    if "_ARGCOMPLETE" in os.environ:  # the shell asks for completions: answers and exits
        importlib.import_module("argcomplete").autocomplete(parser)
    options, rest = parser.parse_known_args(arguments)
    if unknown := [word for word in rest if word.startswith("-") or not hasattr(options, "settings")]:
        parser.error(f"unrecognised: {' '.join(unknown)}")
    if rest:
        options.settings += rest
    return options


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    plain, names = argparse.RawDescriptionHelpFormatter, [job.name for job in texts.runnable()]
    about = __doc__.partition("\n\n")[0]
    parser = argparse.ArgumentParser("duvlm", description=about, epilog=texts.examples(), formatter_class=plain)
    parser.add_argument("--version", action="version", version=f"duvlm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, do, help: str, epilog: str = "") -> argparse.ArgumentParser:
        made = commands.add_parser(
            name, help=help, description=help, epilog=texts.examples(name) + epilog, formatter_class=plain
        )
        made.set_defaults(do=do)
        return made

    about = texts.for_run(arguments)
    run = command("run", _run, "Run a job here, on a local Ray cluster or one that is joined.", about)
    resume = command("resume", _resume, "Continue the job of a run's folder, with its settings.")
    submit = command("submit", _submit, "Send a job to a Ray cluster, follow its log, return its status.")
    status = command("status", _status, "List the jobs of a cluster, or the runs in ./runs and their processes.")
    logs = command("logs", lambda o: submission.logs(o.id, o.address, o.follow), "Print the log of a job.")
    stop = command("stop", _stop, "Stop a submitted job.")
    verify = command("verify", _verify, "Compare what a run, corpus, policy or prior holds with its hashes.")
    command("doctor", _doctor, "Look at this machine: what is wrong for the project, and what to do.")
    publish = command("publish", _publish, "Put a policy, prior or corpus on the Hugging Face Hub, if it is whole.")
    scale = command("scale", _scale, "Change the number of actors of a running job.")
    plan = command("plan", _plan, "Split GPUs between the roles of an RL job, by the times of a run.")
    bench = command("bench", _bench, "Measure something beside its bound; as `python -m benchmarks NAME`.")
    serve = command("serve", _serve, "Restore photographs for a web page and over HTTP, until interrupted.")
    completion = command("completion", _completion, "Print what makes a shell complete duvlm's words.")
    for made in (run, submit):
        made.add_argument("job", metavar="JOB", help=", ".join(names)).completer = lambda **_: names  # type: ignore[attr-defined]
    resume.add_argument("run", metavar="RUN", type=Path, help="folder of the run, as in runs/first/offline")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine only)")
    serve.add_argument("--port", type=int, default=8000, help="(%(default)s)")
    serve.add_argument("--allow-host", metavar="NAME", action="append", default=[], help="name it answers to as well")
    serve.add_argument("--token", default="", help="word that callers must bring (X-DUVLM-Token or ?token=)")
    for made in (run, submit, resume, serve):
        words = made.add_argument("settings", metavar="key=value", nargs="*", help="settings, see `duvlm run --help`")
        words.completer = lambda prefix, **_: texts.completions(prefix)  # type: ignore[attr-defined]
    for made in (run, resume):
        made.add_argument("--address", metavar="HOST:PORT", help="Ray cluster to join, instead of a local one")
        made.add_argument("--dry-run", action="store_true", help="print settings and resource plan only")
    submit.add_argument("--no-follow", action="store_true", help="return once the cluster has the job")
    logs.add_argument("-f", "--follow", action="store_true", help="until it ends; then return its status")
    verify.add_argument("folder", metavar="FOLDER", type=Path, help="such a folder, or one that holds several")
    publish.add_argument("folder", metavar="FOLDER", type=Path, help="of a policy, a prior or a corpus")
    publish.add_argument("name", metavar="OWNER/NAME[@BRANCH]", help="what it is called on the Hub")
    publish.add_argument("--licence", default="", help="as the Hub names it: apache-2.0, cc-by-4.0, ...")
    publish.add_argument("--dataset", metavar="OWNER/NAME", action="append", default=[], help="it was trained on")
    publish.add_argument("--evaluation", metavar="FOLDER", default="", help="out= of `evaluate`: numbers of the card")
    publish.add_argument("--private", action="store_true", help="show a new repository to nobody else")
    scale.add_argument("what", choices=["rewards"], help="the reward actors")
    scale.add_argument("count", metavar="N|MIN:MAX", help="how many there should be, or between which numbers")
    scale.add_argument("--address", metavar="HOST:PORT", default="auto", help="Ray cluster (%(default)s)")
    scale.add_argument("--run", default="", help="end of the run's folder, where several jobs run")
    plan.add_argument("settings", metavar="gpus=N [run=FOLDER]", nargs="*", help="GPUs in all; folder of an RL run")
    for made in (logs, stop):
        made.add_argument("id", help="what `duvlm submit` and `duvlm status` call it")
    for made in (submit, logs, stop):
        made.add_argument("--address", default=DASHBOARD, help="dashboard of the cluster (%(default)s)")
    status.add_argument("--address", help="dashboard of the cluster; without it, what is on this machine")
    bench.add_argument("arguments", metavar="NAME ...", nargs=argparse.REMAINDER, help="as `duvlm bench NAME --help`")
    serve.set_defaults(goodbye="the service has ended")
    completion.add_argument("shell", choices=["bash", "zsh", "fish"])
    return parser


def _run(options: argparse.Namespace) -> None:
    _join(options.address)
    _start(options.job, load(options.job, options.settings), options.dry_run)


def _resume(options: argparse.Namespace) -> None:
    _join(options.address)
    _start(*run_folders.reopen(options.run, options.settings), options.dry_run)


def _join(address: str | None) -> None:
    """Where Ray is, for this process and all it starts."""
    if address:
        os.environ["RAY_ADDRESS"] = address


def _start(job: str, config: Config, dry_run: bool) -> None:
    folder = run_folder(config, job)
    if dry_run:
        print(f"{config_to_yaml(config, job)}# {resources.plan(config, job)}\n# writes to {folder}")
        for line in memory.table(needs := memory.needs(config, job), config.device_gb).splitlines():
            print(f"# {line}")
        memory.check(needs, config.device_gb)
        if connect.find():
            connect.prepare(config, job)
        return
    run_folders.check_writable(folder)
    connect.find()  # before the imports of a job, which take seconds
    jobs()[job].start(config)
    if job in ("offline", "online"):
        print(importlib.import_module("benchmarks.throughput.page").write_page(folder))


def _submit(options: argparse.Namespace) -> int:
    return submission.submit(options.job, options.settings, options.address, not options.no_follow)


def _status(options: argparse.Namespace) -> None:
    rows = submission.status(options.address) if options.address else [*run_folders.listing(), *run_folders.processes()]
    for row in rows:
        print("  ".join(map(str, row)))


def _verify(options: argparse.Namespace) -> int:
    return 0 if importlib.import_module("configs.verify").verify(options.folder) else 1


def _doctor(options: argparse.Namespace) -> int:
    table, whole = importlib.import_module("configs.cluster.doctor").report()
    print(table)
    return 0 if whole else 1


def _publish(options: argparse.Namespace) -> None:
    module = importlib.import_module("configs.hub.publish")
    about = module.About(options.licence, options.dataset, options.evaluation)
    print(module.publish(options.folder, options.name, about, options.private))


def _scale(options: argparse.Namespace) -> None:
    request = scaling.parse_request(options.count)
    _join(options.address)
    connect.find()
    folder = scaling.scale_rewards(request, options.run)
    print(f"{folder}: {request} reward actors")


def _stop(options: argparse.Namespace) -> None:
    print("stopped" if submission.stop(options.id, options.address) else "it had ended before")


def _plan(options: argparse.Namespace) -> None:
    print(importlib.import_module("benchmarks.throughput.simulation.planning").report(options.settings))


def _bench(options: argparse.Namespace) -> int:
    return importlib.import_module("benchmarks.__main__").main(options.arguments)


def _serve(options: argparse.Namespace) -> None:
    config = load("serve", options.settings)
    connect.find()
    jobs()["serve"].start(config, options.host, options.port, options.allow_host, options.token)


def _completion(options: argparse.Namespace) -> None:
    print(importlib.import_module("argcomplete").shellcode(["duvlm"], shell=options.shell))


if __name__ == "__main__":
    sys.exit(main())

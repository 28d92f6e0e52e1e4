"""Runs on Cloud TPU, from a laptop with gcloud: `python -m launch.tpu create|setup|run|...|babysit`.

    python -m launch.tpu create --name pod --type v5e-16 --zone us-west4-a --spot
    python -m launch.tpu setup --name pod --type v5e-16 --zone us-west4-a
    python -m launch.tpu run --name pod --type v5e-16 --zone us-west4-a -- train bart_base --workdir gs://bucket/run
    python -m launch.tpu babysit --name pod --type v5e-16 --zone us-west4-a --spot -- train bart_base ...

`babysit` does all of it, and again whenever the TPU is preempted. `--dry-run` prints the commands of gcloud.
"""

import argparse
import re
import sys
from collections.abc import Sequence

from launch.gcloud import Gcloud
from launch.pod import Pod
from launch.tpu_types import LaunchError, parse_accelerator_type

ACTIONS = {
    "create": "request a TPU and wait until it is active",
    "setup": "install this commit on all workers",
    "run": "start a command of denoise-jax on all workers, and follow its log",
    "status": "the state of the TPU and of the run",
    "logs": "the log of worker 0",
    "ssh": "run a shell command on all workers",
    "stop": "save a checkpoint and end the run; the TPU stays",
    "delete": "delete the TPU, and check that it is gone",
    "babysit": "create, set up and run, and again after each preemption, until the run has ended",
}
# Flags that are passed on to `gcloud compute tpus queued-resources create` as they are.
_PASSED_ON = ("network", "subnetwork", "service-account", "labels", "valid-until-duration", "reservation")
_MODELS = ("spot", "reserved", "best-effort")


def make_pod(arguments: argparse.Namespace) -> Pod:
    """The pod that the flags describe.

    Raises:
      LaunchError: an unknown accelerator type, a name or zone that Google would refuse.
    """
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,60}[a-z0-9])?", arguments.name):
        raise LaunchError(f"--name {arguments.name}: use lower-case letters, digits, hyphens; a letter first")
    if not re.fullmatch(r"[a-z]+-[a-z]+\d+-[a-z]", arguments.zone):
        raise LaunchError(f"--zone {arguments.zone} is not a zone, such as us-west4-a")
    if arguments.slices < 1:
        raise LaunchError(f"--slices {arguments.slices} must be at least 1")
    options = [f"--{model}" for model in _MODELS if getattr(arguments, model.replace("-", "_"))]
    for flag in _PASSED_ON:
        value = getattr(arguments, flag.replace("-", "_"))
        options += [f"--{flag}={value}"] if value is not None else []
    return Pod(
        arguments.name,
        parse_accelerator_type(arguments.type),
        Gcloud(arguments.zone, arguments.project, arguments.dry_run, arguments.poll),
        arguments.slices,
        arguments.runtime_version,
        tuple(options),
        arguments.poll,
    )


def describe_cost(pod: Pod) -> str:
    """Chip-hours, which Google's price list gives in money for each region."""
    slices = f"{pod.slices} slices of " if pod.slices > 1 else ""
    return (
        f"{slices}{pod.slice.accelerator_type}: {pod.chips} chips on {pod.slices * pod.slice.hosts} hosts, "
        f"{pod.chips} chip-hours per hour, {24 * pod.chips:,} per day"
    )


def _confirm(pod: Pod, yes: bool) -> None:
    print(describe_cost(pod), flush=True)
    if yes or pod.gcloud.dry_run:
        return
    try:
        answer = input("Create it? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise LaunchError("nothing was created; --yes creates it without asking")


def main(argv: Sequence[str]) -> int:
    """Parses the command line and does it: 0 done, 1 the run failed, 2 a mistake or a refusal."""
    arguments = _parse(argv)
    try:
        return _act(arguments.action, make_pod(arguments), arguments)
    except LaunchError as error:
        print(f"launch.tpu: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        name, zone = arguments.name, arguments.zone
        print(
            f"launch.tpu: interrupted; if {name} is active it costs money until "
            f"`python -m launch.tpu delete --name {name} --type {arguments.type} --zone {zone}`",
            file=sys.stderr,
        )
        return 130


def _act(action: str, pod: Pod, arguments: argparse.Namespace) -> int:
    def run() -> None:
        pod.run(arguments.command, secrets=arguments.env, tpu_flags=not arguments.no_tpu_flags)

    def start() -> None:
        pod.setup(allow_dirty=arguments.allow_dirty)
        run()

    if action in ("run", "babysit") and not arguments.command:
        raise LaunchError(f"{action}: give a command of denoise-jax after --")
    if action in ("create", "babysit"):
        _confirm(pod, arguments.yes)
    if action == "create":
        pod.create(keep=arguments.keep)
    elif action == "setup":
        pod.setup(allow_dirty=arguments.allow_dirty)
    elif action == "run":
        run()
        if not arguments.detach:
            pod.logs(follow=True)
    elif action == "status":
        state = pod.state()
        print(f"{pod.name}: {state}")
        if state == "ACTIVE":
            print(f"run: {pod.supervisor_state() or 'none'}")
    elif action == "logs":
        pod.logs(lines=arguments.lines, follow=arguments.follow)
    elif action == "ssh":
        for node in pod.nodes:
            pod.gcloud.ssh(node, " ".join(arguments.command), live=True)
    elif action == "stop":
        pod.stop()
    elif action == "delete":
        pod.delete()
    elif pod.gcloud.dry_run:
        pod.create()
        start()
    else:
        ended = pod.babysit(start, quota_pause=arguments.quota_pause)
        print(f"{pod.name}: the run has {ended['state']}; the TPU stays, and costs money until you delete it")
        return int(ended["state"] == "failed")
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    usage = "python -m launch.tpu ACTION --name NAME --type TYPE --zone ZONE [flags] [-- COMMAND ...]"
    parser = argparse.ArgumentParser("launch.tpu", usage=usage, description="Runs on Cloud TPU, over gcloud.")
    actions = "; ".join(f"{name}: {what}" for name, what in ACTIONS.items())
    parser.add_argument("action", choices=ACTIONS, help=actions)
    parser.add_argument("--name", required=True, help="of the queued resource and of its nodes")
    parser.add_argument("--type", required=True, help="accelerator type, such as v5e-16 or v6e-256")
    parser.add_argument("--zone", required=True)
    parser.add_argument("--project", help="default: that of gcloud")
    parser.add_argument("--slices", type=int, default=1, help="slices of this type (multislice)")
    parser.add_argument("--runtime-version", help="default: that of the generation")
    for model in _MODELS:
        parser.add_argument(f"--{model}", action="store_true")
    for flag in _PASSED_ON:
        parser.add_argument(f"--{flag}", help="passed on to gcloud")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, and run nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask before creating")
    parser.add_argument("--keep", action="store_true", help="create: leave a request that is interrupted")
    parser.add_argument("--allow-dirty", action="store_true", help="setup: although there are changes")
    parser.add_argument("--env", action="append", default=[], metavar="NAME", help="run: copy this variable")
    parser.add_argument("--no-tpu-flags", action="store_true", help="run: leave LIBTPU_INIT_ARGS empty")
    parser.add_argument("--detach", action="store_true", help="run: do not follow the log")
    parser.add_argument("--lines", type=int, default=50, help="logs: how many")
    parser.add_argument("--follow", action="store_true", help="logs: go on with what is added")
    parser.add_argument("--poll", type=float, default=30.0, help="seconds between looks at the state")
    parser.add_argument("--quota-pause", type=float, default=300.0, help="babysit: seconds after a refusal")
    own, command = list(argv), []
    if "--" in own:
        own, command = own[: own.index("--")], own[own.index("--") + 1 :]
    return argparse.Namespace(**vars(parser.parse_args(own)), command=command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

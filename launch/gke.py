"""Manifests for GKE: `python -m launch.gke --type v6e-256 --image IMAGE -- train ... | kubectl apply -f -`.

Prints a JobSet with one job for each slice and one pod for each host; Kueue admits it when chips are free.
GKE tells JAX the other hosts, so the command is the same as everywhere. A pod that is preempted or that loses
another fails, and the JobSet starts all again; the run resumes from its newest checkpoint.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence

from launch.flags import libtpu_init_args
from launch.tpu_types import CHIPS_PER_HOST, LaunchError

# Names of node pools, and the topology for a number of chips; from Google's page on TPUs in GKE.
ACCELERATORS = {
    "v5e": "tpu-v5-lite-podslice",
    "v5p": "tpu-v5p-slice",
    "v6e": "tpu-v6e-slice",
    "7x": "tpu7x",
}
_FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_CUBE = {4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8", 256: "4x8x8"}
_CUBE |= {512: "8x8x8", 1024: "8x8x16"}
TOPOLOGIES = {"v5e": _FLAT, "v6e": _FLAT, "v5p": _CUBE, "7x": _CUBE}


def job_set(
    name: str,
    kind: str,
    command: Sequence[str],
    *,
    image: str,
    slices: int = 1,
    queue: str = "default",
    service_account: str = "default",
    spot: bool = False,
    restarts: int = 100,
    tpu_flags: bool = True,
) -> dict:
    """A JobSet that runs `denoise-jax COMMAND` on `slices` slices.

    Args:
      kind: generation and number of chips, such as v6e-256.
      image: made from launch/Containerfile.tpu.
      queue: the LocalQueue of Kueue.

    Raises:
      LaunchError: a name that Kubernetes refuses, or no such topology.
    """
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?", name):
        raise LaunchError(f"--name {name}: use lower-case letters, digits and hyphens, 42 at most")
    generation, _, number = kind.rpartition("-")
    topologies = TOPOLOGIES.get(generation)
    if topologies is None:
        raise LaunchError(f"--type {kind}: use a generation of {', '.join(TOPOLOGIES)}, such as v6e-256")
    if not number.isdigit() or int(number) not in topologies:
        sizes = ", ".join(f"{generation}-{size}" for size in topologies)
        raise LaunchError(f"--type {kind} is a number of chips without a topology; use {sizes}")
    chips = int(number)
    per_host = CHIPS_PER_HOST if chips > 8 or generation not in ("v5e", "v6e") else chips
    pod = _pod(generation, topologies[chips], per_host, image, command, spot, tpu_flags)
    pod["serviceAccountName"] = service_account
    hosts = chips // per_host
    job = {
        "parallelism": hosts,
        "completions": hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        # Exit codes 1 and 2 end the run for good; any other restarts the set.
        "podFailurePolicy": {
            "rules": [
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": "denoise-jax", "operator": "In", "values": [1, 2]},
                }
            ]
        },
        "template": {"spec": pod},
    }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": name,
            "labels": {"kueue.x-k8s.io/queue-name": queue},
            "annotations": {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"},
        },
        "spec": {
            "failurePolicy": {
                "maxRestarts": restarts,
                "rules": [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
            },
            "replicatedJobs": [{"name": "slice", "replicas": slices, "template": {"spec": job}}],
        },
    }


def _pod(
    generation: str,
    topology: str,
    chips: int,
    image: str,
    command: Sequence[str],
    spot: bool,
    tpu_flags: bool,
) -> dict:
    """The pod of one host, which has `chips`."""
    container = {
        "name": "denoise-jax",
        "image": image,
        "command": ["denoise-jax", *command],
        "resources": {"limits": {"google.com/tpu": chips}},
        "env": [{"name": "LIBTPU_INIT_ARGS", "value": libtpu_init_args(generation) if tpu_flags else ""}],
        "ports": [{"containerPort": port} for port in (8471, 8482, 8080)],  # TPU runtime, JAX, multislice
    }
    selector = {
        "cloud.google.com/gke-tpu-accelerator": ACCELERATORS[generation],
        "cloud.google.com/gke-tpu-topology": topology,
    }
    if spot:
        selector["cloud.google.com/gke-spot"] = "true"
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 120,  # for a checkpoint after SIGTERM
        "nodeSelector": selector,
        "containers": [container],
    }


def main(argv: Sequence[str]) -> int:
    """Prints the manifest, as JSON, which kubectl reads like YAML."""
    own, command = list(argv), []
    if "--" in own:
        own, command = own[: own.index("--")], own[own.index("--") + 1 :]
    parser = argparse.ArgumentParser("launch.gke", description="A JobSet for GKE, for kubectl apply -f -.")
    parser.add_argument("--name", default="denoise-jax")
    parser.add_argument("--type", dest="kind", required=True, help="generation and chips, such as v6e-256")
    parser.add_argument("--image", required=True, help="made from launch/Containerfile.tpu")
    parser.add_argument("--slices", type=int, default=1)
    parser.add_argument("--queue", default="default", help="LocalQueue of Kueue")
    parser.add_argument("--service-account", default="default", help="with access to the bucket")
    parser.add_argument("--spot", action="store_true")
    parser.add_argument("--restarts", type=int, default=100)
    parser.add_argument("--no-tpu-flags", dest="tpu_flags", action="store_false")
    arguments = vars(parser.parse_args(own))
    try:
        if not command:
            raise LaunchError("give a command of denoise-jax after --")
        manifest = job_set(arguments.pop("name"), arguments.pop("kind"), command, **arguments)
    except LaunchError as error:
        print(f"launch.gke: {error}", file=sys.stderr)
        return 2
    print(json.dumps(manifest, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

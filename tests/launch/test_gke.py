"""Manifests for GKE: chips, hosts and topology agree, mistakes are refused, Kubernetes accepts the job."""

import json

import pytest

from launch import gke

COMMAND = ["train", "bart_base", "--workdir", "gs://b/a run", "--name", "it's"]


def render(capsys, *flags, command=COMMAND) -> dict:
    assert gke.main([*flags, "--image", "registry/image:1", "--", *command]) == 0
    return json.loads(capsys.readouterr().out)


def job_of(manifest: dict) -> dict:
    (replicated,) = manifest["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


@pytest.mark.parametrize(
    ("kind", "topology", "hosts", "per_host"),
    [
        ("v5e-16", "4x4", 4, 4),
        ("v5e-8", "2x4", 1, 8),
        ("v6e-256", "16x16", 64, 4),
        ("v5p-64", "4x4x4", 16, 4),
    ],
)
def test_every_host_of_the_topology_gets_a_pod_with_its_chips(capsys, kind, topology, hosts, per_host):
    manifest = render(capsys, "--type", kind, "--slices", "2", "--spot")
    assert manifest["spec"]["replicatedJobs"][0]["replicas"] == 2
    job = job_of(manifest)
    assert (job["parallelism"], job["completions"]) == (hosts, hosts)
    pod = job["template"]["spec"]
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == topology
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["google.com/tpu"] == per_host
    assert hosts * per_host == int(kind.split("-")[1])
    assert container["command"] == ["denoise-jax", *COMMAND]


def test_flags_of_the_generation_can_be_left_out(capsys):
    for flags, expected in (((), "--xla_tpu_scoped_vmem_limit_kib=98304"), (("--no-tpu-flags",), "")):
        (container,) = job_of(render(capsys, "--type", "v6e-16", *flags))["template"]["spec"]["containers"]
        assert container["env"] == [{"name": "LIBTPU_INIT_ARGS", "value": expected}]


def test_exit_codes_that_are_not_retried_end_the_run(capsys):
    manifest = render(capsys, "--type", "v6e-16")
    (rule,) = job_of(manifest)["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [1, 2]
    assert manifest["spec"]["failurePolicy"]["maxRestarts"] == 100


@pytest.mark.parametrize("kind", ["v5e-16", "7x-128"])
def test_kubernetes_accepts_the_job(capsys, kind):
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    job = job_of(render(capsys, "--type", kind))
    manifest = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "slice"}, "spec": job}
    validate.validate(manifest, validate.latest_version(), strict=True)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--type", "v6-16"], "use a generation of v5e"),
        (["--type", "v6e-24"], "without a topology; use v6e-1, "),
        (["--type", "v6e-16", "--name", "A_B"], "--name A_B"),
    ],
)
def test_mistakes_are_refused_in_one_line(capsys, flags, message):
    assert gke.main([*flags, "--image", "i", "--", *COMMAND]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_command_is_needed(capsys):
    assert gke.main(["--type", "v6e-16", "--image", "i"]) == 2
    assert "give a command of denoise-jax" in capsys.readouterr().err

"""The manifests of GKE against the schemas of Kubernetes and JobSet."""

import pathlib
from typing import Any

from kubeflow_trainer_api import models
import kubernetes_validate
import pytest
import yaml

from tests.launch.scripted import VALUES, calls, run_script, write_env, write_tool

VARIANTS: dict[str, dict[str, str | list[str]]] = {
    "spot": {},
    "reserved": {"CAPACITY": "reserved"},
    "multislice": {"SLICES": "3", "TPU_ACCELERATOR": "tpu-v5p-slice", "TPU_TOPOLOGY": "2x2x4"},
    "one host": {"TPU_TOPOLOGY": "1x1"},
    "odd words": {"OVERRIDES": ['--config.a="b\\n" : {[#\'', "--config.b=${RUN} `date` &"]},
}


def manifest(folder: pathlib.Path, **changes: str | list[str]) -> list[Any]:
    return printed(folder, "apply", **changes)


def printed(folder: pathlib.Path, action: str, /, **changes: str | list[str]) -> list[Any]:
    done = run_script("gke.sh", action, "--dry-run", f"--env={write_env(folder, **changes)}")
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(params=VARIANTS.values(), ids=list(VARIANTS))
def jobset(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    (found,) = manifest(tmp_path, **request.param)
    return found


def job_of(jobset: dict[str, Any]) -> dict[str, Any]:
    return jobset["spec"]["replicatedJobs"][0]["template"]["spec"]


def pod_of(jobset: dict[str, Any]) -> dict[str, Any]:
    return job_of(jobset)["template"]["spec"]


def as_jobset_reads_it(jobset: dict[str, Any]) -> dict[str, Any]:
    """What is left after reading by the JobSet API's model, which drops fields that it does not know."""
    read = models.JobsetV1alpha2JobSet.from_dict(jobset)
    assert read
    return read.to_dict()


def test_jobset_knows_every_field(jobset: dict[str, Any]):
    assert as_jobset_reads_it(jobset) == jobset
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_kubernetes_accepts_the_job(jobset: dict[str, Any], version: str):
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "run-1-slice-0"}, "spec": job_of(jobset)}
    kubernetes_validate.validate(job, version, strict=True)


def test_both_checks_refuse_a_field_that_is_not_there(tmp_path: pathlib.Path):
    (jobset,) = manifest(tmp_path)
    jobset["spec"]["failurePolicy"]["maxRestart"] = 3
    assert as_jobset_reads_it(jobset) != jobset
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": job_of(jobset) | {"backofLimit": 0}}
    with pytest.raises(kubernetes_validate.ValidationError, match="backofLimit"):
        kubernetes_validate.validate(job, "1.30", strict=True)


def test_only_bad_input_fails_the_jobset_at_once(jobset: dict[str, Any]):
    (rule,) = job_of(jobset)["podFailurePolicy"]["rules"]
    assert rule == {"action": "FailJob", "onExitCodes": {"containerName": "train", "operator": "In", "values": [2]}}
    (action,) = jobset["spec"]["failurePolicy"]["rules"]
    assert (action["action"], action["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    assert job_of(jobset)["backoffLimit"] == 0
    assert pod_of(jobset)["restartPolicy"] == "Never"
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] == 50


def test_a_pod_asks_for_the_chips_of_its_host(tmp_path: pathlib.Path):
    for changes, replicas, hosts, chips in (("spot", 1, 4, 4), ("multislice", 3, 4, 4), ("one host", 1, 1, 1)):
        (jobset,) = manifest(tmp_path, **VARIANTS[changes])
        assert jobset["spec"]["replicatedJobs"][0]["replicas"] == replicas
        assert (job_of(jobset)["parallelism"], job_of(jobset)["completions"]) == (hosts, hosts)
        (container,) = pod_of(jobset)["containers"]
        assert container["resources"] == {"requests": {"google.com/tpu": chips}, "limits": {"google.com/tpu": chips}}


def test_pods_go_to_the_right_nodes(tmp_path: pathlib.Path):
    labels = {"cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice", "cloud.google.com/gke-tpu-topology": "4x4"}
    (spot,), (reserved,) = manifest(tmp_path), manifest(tmp_path, CAPACITY="reserved")
    assert pod_of(spot)["nodeSelector"] == labels | {"cloud.google.com/gke-spot": "true"}
    assert pod_of(reserved)["nodeSelector"] == labels
    assert spot["metadata"]["annotations"] == {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}


def test_the_command_survives_whatever_is_in_it(tmp_path: pathlib.Path):
    odd = VARIANTS["odd words"]
    (jobset,) = manifest(tmp_path, **odd, XLA_FLAGS='--a="b"')
    (container,) = pod_of(jobset)["containers"]
    assert container["command"] == [
        *("python", "-m", "rsfm_jax.train", "--cluster", "--config=configs/a2mae.py:vit_l"),
        *("--workdir=/proc/runs/run-1", "--config.data.path=/proc/data/run1", *odd["OVERRIDES"]),
    ]
    assert {entry["name"]: entry["value"] for entry in container["env"]} == {
        "XLA_FLAGS": '--a="b"',
        "LIBTPU_INIT_ARGS": VALUES["LIBTPU_INIT_ARGS"],
    }


def test_a_folder_is_mounted_from_its_claim(tmp_path: pathlib.Path):
    (jobset,) = manifest(tmp_path)
    (volume,) = pod_of(jobset)["volumes"]
    (mount,) = pod_of(jobset)["containers"][0]["volumeMounts"]
    assert volume["persistentVolumeClaim"]["claimName"] == "runs"
    assert mount == {"name": volume["name"], "mountPath": "/proc"}


def test_the_queue_has_room_for_the_run(tmp_path: pathlib.Path):
    flavor, cluster_queue, local_queue = printed(tmp_path, "queue", SLICES="2")
    (jobset,) = manifest(tmp_path, SLICES="2")
    assert {found["apiVersion"] for found in (flavor, cluster_queue, local_queue)} == {"kueue.x-k8s.io/v1beta2"}
    assert [found["kind"] for found in (flavor, cluster_queue, local_queue)] == ["ResourceFlavor", "ClusterQueue", "LocalQueue"]
    (group,) = cluster_queue["spec"]["resourceGroups"]
    (quota,) = group["flavors"]
    assert group["coveredResources"] == ["google.com/tpu"]
    assert quota == {"name": flavor["metadata"]["name"], "resources": [{"name": "google.com/tpu", "nominalQuota": 32}]}
    assert local_queue["spec"]["clusterQueue"] == cluster_queue["metadata"]["name"]
    assert local_queue["metadata"]["namespace"] == jobset["metadata"]["namespace"]
    assert local_queue["metadata"]["name"] == jobset["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
    assert flavor["spec"]["nodeLabels"].items() <= pod_of(jobset)["nodeSelector"].items()


def test_kubectl_gets_the_printed_manifest(tmp_path: pathlib.Path):
    write_tool(tmp_path / "bin", "kubectl", "print(sys.stdin.read())")
    done = run_script("gke.sh", "apply", f"--env={write_env(tmp_path)}", bin_folder=tmp_path / "bin")
    assert list(yaml.safe_load_all(done.stdout)) == manifest(tmp_path)
    assert calls(tmp_path / "bin", "kubectl") == [["--context=gke_project-1_us-east5_cluster", "apply", "--filename=-"]]

"""What launch/cluster/ and the Dockerfile would do: scripts run with stand-ins for the clusters."""

import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "launch/cluster"
ARGUMENTS = ["--config=configs/demo.py:captions", "--workdir=/data/a run"]

RECORD = '{ printf "%s" "${0##*/}"; printf "\\t%s" "$@"; echo; } >> "$CALLS"\n'
# Runs the command of each ssh as the host would: in a shell of its own, at home.
GCLOUD = """
case "$*" in
*" ssh "*) for argument; do [[ $argument == --command=* ]] && command=${argument#--command=}; done
    cd "$HOME" && exec bash -c "$command" ;;
*" scp "*) cp "$5" "$HOME/${6#*:}" ;;
*" describe "*) tail -n 1 "$STATES"; sed -i '$d' "$STATES" ;;
esac
"""


@pytest.fixture
def cluster(tmp_path):
    """Starts a script whose cluster is made of stand-ins; gives its result and their calls."""

    def program(path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{text}")
        path.chmod(0o755)

    stubs, home = tmp_path / "bin", tmp_path / "host"
    for name, text in {
        "srun": 'echo "$XLA_FLAGS" > "$CALLS.flags"; exit "${STATUS:-0}"',
        "scontrol": "",
        "gcloud": GCLOUD,
        "curl": "echo 'echo installer ran'",
    }.items():
        program(stubs / name, RECORD + text)
    program(stubs / "sleep", '[[ $1 == 30 ]] || exec "$(type -ap sleep | tail -n 1)" "$@"')
    program(home / ".local/bin/uv", RECORD)
    # A run that goes on until it is told to end, and then saves for a while.
    program(
        home / "vljepa_jax/.venv/bin/python",
        "trap 'sleep 0.5; echo saved; exit 143' TERM\n"
        "printf '%s|' \"$@\"; echo; while :; do sleep 0.1; done",
    )
    calls = tmp_path / "calls"
    environment = {
        "PATH": f"{stubs}:{os.environ['PATH']}",
        "HOME": str(home),
        "CALLS": str(calls),
        "STATES": str(tmp_path / "states"),
    }

    class Cluster:
        host = home / "vljepa_jax"

        def start(self, script, *arguments, **variables):
            return subprocess.Popen(
                ["bash", str(CLUSTER / script), *arguments],
                cwd=ROOT,
                env=environment | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                # Tests that nohup started ignore it, and so would what they start.
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
            )

        def run(self, script, *arguments, **variables):
            calls.unlink(missing_ok=True)
            process = self.start(script, *arguments, **variables)
            output, errors = process.communicate(timeout=60)
            made = calls.read_text().splitlines() if calls.exists() else []
            return process.returncode, output, errors, [line.split("\t") for line in made]

        def states(self, *states):
            (tmp_path / "states").write_text("".join(f"{state}\n" for state in reversed(states)))

        @property
        def flags(self):
            return Path(f"{calls}.flags").read_text().split()

    made = Cluster()
    yield made
    if (pid := made.host / "train.pid").exists() and running(int(pid.read_text())):
        os.killpg(int(pid.read_text()), signal.SIGKILL)


def running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def sbatch_options():
    lines = re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", (CLUSTER / "slurm.sh").read_text(), re.M)
    return dict(lines)


SLURM = {"SLURM_JOB_ID": "17", "SLURM_CPUS_PER_TASK": sbatch_options()["cpus-per-task"]}


@pytest.mark.parametrize(
    ("variables", "started"),
    [
        ({}, [".venv/bin/python"]),
        (
            {"IMAGE": "REGISTRY#vljepa_jax:cuda", "MOUNTS": "/a:/a,/b:/c"},
            [
                "--container-image=REGISTRY#vljepa_jax:cuda",
                "--container-mounts=/a:/a,/b:/c",
                "--container-workdir=/vljepa_jax",
                "python",
            ],
        ),
        (
            {"IMAGE": "/shared/image.sif", "MOUNTS": "/shared"},
            [
                *("apptainer", "exec", "--nv", "--bind", "/shared", "--pwd", "/vljepa_jax"),
                *("/shared/image.sif", "python"),
            ],
        ),
    ],
)
def test_slurm_gives_each_process_its_processors_bare_and_in_containers(
    cluster, variables, started
):
    status, *_, calls = cluster.run("slurm.sh", *ARGUMENTS, **SLURM, **variables)
    first = ["srun", "--kill-on-bad-exit=1", "--cpus-per-task=12"]
    assert status == 0
    assert calls == [[*first, *started, "launch/train.py", *ARGUMENTS]]


def test_slurm_asks_for_eight_gpus_and_processes_a_node():
    options = sbatch_options()
    assert options["gpus-per-node"] == options["ntasks-per-node"] == "8"
    assert options["signal"] == "TERM@120"  # to the steps' processes, not to the script alone
    assert "requeue" in options


@pytest.mark.parametrize(("ended", "requeued"), [(0, False), (1, False), (137, False), (143, True)])
def test_slurm_queues_again_what_a_signal_stopped(cluster, ended, requeued):
    status, *_, calls = cluster.run("slurm.sh", *ARGUMENTS, **SLURM, STATUS=str(ended))
    assert status == ended
    assert calls[1:] == ([["scontrol", "requeue", "17"]] if requeued else [])


def test_flags_of_xla_are_known_to_it_and_the_users_own_come_last(cluster):
    cluster.run("slurm.sh", *ARGUMENTS, **SLURM, XLA_FLAGS="--xla_cpu_enable_fast_math=false")
    assert cluster.flags[-1] == "--xla_cpu_enable_fast_math=false"
    subprocess.run(  # XLA ends a process that is given a flag it does not know
        [sys.executable, "-c", "import jax; jax.devices()"],
        env=os.environ | {"XLA_FLAGS": " ".join(cluster.flags), "JAX_PLATFORMS": "cpu"},
        check=True,
        capture_output=True,
    )


def test_a_tpu_slice_is_waited_for_and_deleted(cluster):
    cluster.states("ACCEPTED", "PROVISIONING", "ACTIVE")
    status, _, errors, calls = cluster.run(
        "tpu_pod.sh", "create", "pod", "zone", "v6e-256", "v2-alpha-tpuv6e", SPOT="1"
    )
    assert status == 0, errors
    assert calls[0][1:5] == ["compute", "tpus", "queued-resources", "create"]
    assert {"--accelerator-type=v6e-256", "--runtime-version=v2-alpha-tpuv6e", "--spot"} <= set(
        calls[0]
    )
    assert len(calls) == 4
    *_, calls = cluster.run("tpu_pod.sh", "delete", "pod", "zone")
    assert calls[0][4:6] == ["delete", "pod"]
    assert "--force" in calls[0]  # its nodes with it


@pytest.mark.parametrize("state", ["SUSPENDED", "FAILED"])
def test_a_request_that_was_lost_must_be_deleted_first(cluster, state):
    cluster.states("PROVISIONING", state)
    status, _, errors, _ = cluster.run("tpu_pod.sh", "create", "pod", "zone", "v6e-8", "version")
    assert status == 1
    assert f"request is {state}: delete it, and create it again" in errors


def test_tpu_hosts_get_a_python_that_we_run_on(cluster):
    status, output, errors, calls = cluster.run("tpu_pod.sh", "install", "pod", "zone")
    assert status == 0, errors
    assert "installer ran" in output
    assert (cluster.host / "launch/train.py").exists()  # of the archive
    made, installed = (shlex.join(call) for call in calls if call[0] == "uv")
    assert re.search(r"uv venv .*--python 3\.1[123] .venv", made)
    assert installed.endswith("--python .venv/bin/python -r requirements-tpu.txt")


def test_a_run_on_tpus_outlives_the_connection_and_saves_when_it_is_stopped(cluster):
    connection = cluster.start("tpu_pod.sh", "train", "pod", "zone", *ARGUMENTS)
    assert connection.stdout.readline() == f"{'|'.join(['launch/train.py', *ARGUMENTS])}|\n"
    os.killpg(connection.pid, signal.SIGHUP)  # the laptop is closed
    connection.communicate(timeout=30)
    pid = int((cluster.host / "train.pid").read_text())
    assert os.getsid(pid) == pid
    time.sleep(0.5)
    assert running(pid)

    status, _, errors, _ = cluster.run("tpu_pod.sh", "train", "pod", "zone", *ARGUMENTS)
    assert status == 1
    assert "a run is going on" in errors

    status, *_ = cluster.run("tpu_pod.sh", "stop", "pod", "zone")
    assert status == 0
    assert not running(pid)
    status, output, *_ = cluster.run("tpu_pod.sh", "log", "pod", "zone")  # ends, as the run did
    assert status == 0
    assert output.splitlines()[-1] == "saved"


def jobset(name):
    text = (CLUSTER / f"{name}.yaml").read_text()
    (manifest,) = yaml.safe_load_all(text)
    (replicated,) = manifest["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    environment = {entry["name"]: entry for entry in container["env"]}
    return manifest, replicated, job, pod, container, environment


@pytest.mark.parametrize("name", ["jobset_gpu", "jobset_tpu"])
def test_pods_of_a_job_begin_and_end_together(name):
    manifest, _, job, pod, container, _ = jobset(name)
    assert job["completions"] == job["parallelism"]
    assert job["backoffLimit"] == 0
    assert pod["restartPolicy"] == "Never"  # what a policy for failed pods demands
    # Neither a node that is taken away nor a run that saved counts as a failure.
    evicted, saved = job["podFailurePolicy"]["rules"]
    assert evicted["onPodConditions"][0]["type"] == "DisruptionTarget"
    assert saved["onExitCodes"] == {
        "containerName": container["name"],
        "operator": "In",
        "values": [128 + signal.SIGTERM],
    }
    (rule,) = manifest["spec"]["failurePolicy"]["rules"]
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"


@pytest.mark.parametrize("name", ["jobset_gpu", "jobset_tpu"])
def test_decoders_of_a_pod_have_shared_memory(name):
    *_, pod, container, _ = jobset(name)
    (mount,) = (m for m in container["volumeMounts"] if m["mountPath"] == "/dev/shm")
    (volume,) = (v for v in pod["volumes"] if v["name"] == mount["name"])
    assert volume["emptyDir"]["medium"] == "Memory"


def test_gpu_pods_find_the_first_of_them():
    manifest, replicated, job, _, container, environment = jobset("jobset_gpu")
    name = manifest["metadata"]["name"]
    host, port = environment["JAX_COORDINATOR_ADDRESS"]["value"].split(":")
    assert host == f"{name}-{replicated['name']}-0-0.{name}"
    assert port.isdigit()
    assert environment["JAX_NUM_PROCESSES"]["value"] == str(job["completions"])
    index = environment["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert "job-completion-index" in index
    assert replicated["replicas"] == 1
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 8


def test_tpu_pods_are_the_hosts_of_a_slice():
    manifest, _, job, pod, container, environment = jobset("jobset_tpu")
    assert not any(name.startswith("JAX_") for name in environment)  # GKE tells JAX
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = math.prod(map(int, topology.split("x")))
    assert chips == job["completions"] * container["resources"]["limits"]["google.com/tpu"]
    placement = manifest["metadata"]["annotations"]["alpha.jobset.sigs.k8s.io/exclusive-topology"]
    assert placement == "cloud.google.com/gke-nodepool"
    rows = re.findall(
        r"^#  +(tpu\S+) +([\dx]+) +(\d+) ", (CLUSTER / "jobset_tpu.yaml").read_text(), re.M
    )
    assert len(rows) == 3
    for _, topology, hosts in rows:
        assert math.prod(map(int, topology.split("x"))) == 4 * int(hosts)


def test_manifests_are_held_to_their_schemas():
    pytest.importorskip("kubernetes_validate", reason="of the extra lint")
    from jsonschema import ValidationError

    from tests.programs.check_manifests import check

    manifest, replicated, job, _, container, _ = jobset("jobset_tpu")
    check(manifest)
    container["resources"]["limit"] = container["resources"].pop("limits")
    with pytest.raises(ValidationError, match="'limit' was unexpected"):
        check(manifest)
    del container["resources"]
    manifest["spec"]["failurePolicy"]["rules"][0]["action"] = "Restart"
    with pytest.raises(ValidationError, match="'Restart' is not one of"):
        check(manifest)


def instructions():
    """(stage, word, rest) of each instruction of the Dockerfile."""
    text = (ROOT / "Dockerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    stage = None
    for line in filter(None, text.splitlines()):
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            stage = rest.split()[-1]
        yield stage, word, rest.strip()


def test_images_take_their_packages_from_the_locks():
    stages = list(dict.fromkeys(stage for stage, *_ in instructions()))
    assert stages == ["base", "cuda", "tpu", "cpu"]
    assert all((stage, "COPY", ". .") in instructions() for stage in stages[1:])
    installs = {
        stage: rest for stage, word, rest in instructions() if word == "RUN" and "pip" in rest
    }
    assert installs.keys() == {"base", "cuda", "tpu"}
    for command in installs.values():
        lock = re.search(r"pip install -c (locks/\w+\.txt) ", command)[1]
        assert (ROOT / lock).exists()
    assert '"jax[cuda13]"' in installs["cuda"]
    assert '"jax[tpu]"' in installs["tpu"]
    python = re.search(r"python:(\d\.\d+)-", (ROOT / "Dockerfile").read_text())[1]
    assert python in ("3.11", "3.12", "3.13")


def test_what_images_copy_is_there_and_not_left_out():
    left_out = (ROOT / ".dockerignore").read_text().split()
    for _, word, rest in instructions():
        if word == "COPY":
            *sources, _ = rest.split()
            for source in sources:
                assert (ROOT / source).exists()
                assert source not in left_out
    needed = {"configs", "launch", "locks", "vljepa_jax", "pyproject.toml", "README.md", "LICENSE"}
    assert not needed & set(left_out)


def test_images_set_xla_up_as_slurm_does():
    (line,) = (rest for stage, word, rest in instructions() if (stage, word) == ("cuda", "ENV"))
    in_image = dict(entry.split("=", 1) for entry in line.split())
    script = (CLUSTER / "slurm.sh").read_text()
    assert f'XLA_FLAGS="{in_image["XLA_FLAGS"]} ' in script
    for name in ("XLA_PYTHON_CLIENT_MEM_FRACTION", "NCCL_DEBUG"):
        assert f'{name}="${{{name}:-{in_image[name]}}}"' in script

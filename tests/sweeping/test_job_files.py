"""Job files: Kubernetes' own schema takes them, no key is in them, and an agent in a pod returns its run."""

import os
import shutil
import signal
import subprocess
import sys

import kubernetes_validate
import psutil
import pytest
import yaml
from live_server import Server, sqlite, wait_for

from wandb_tl import run_sweep
from wandb_tl.errors import UsageError
from wandb_tl.sweeping import job_files
from wandb_tl.sweeping.job_files import Agents

# The oldest version in which each field of the Job is stable or enabled by default, and the newest.
VERSIONS = ("1.29", kubernetes_validate.latest_version())
AGENTS = Agents("mine/pictures/Ab_c1", 3, False, {"WANDB_BASE_URL": "https://wandb.example", "HOME": "/me"})


@pytest.fixture
def new_pids() -> list[str]:
    """The command before which another one is the first process of its own namespace, as in a container."""
    command = ["unshare", "--pid", "--fork"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"]).returncode != 0:
        pytest.skip("needs root and unshare (apt install util-linux)")
    return [*command, "--mount-proc"]


def job(text: str, agents: Agents = AGENTS) -> dict:
    return yaml.safe_load(job_files.parse(text).text(agents))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "options", ["image=registry/wandb_tl:1", "image=a,gpus=0,cpus=4,memory=8Gi,secret=key,claim=cache"]
)
def test_the_schema_of_kubernetes_takes_the_job(version, options):
    kubernetes_validate.validate(job(f"kubernetes,{options}"), version, strict=True)


def test_that_schema_refuses_what_kubernetes_would():
    wrong = job("kubernetes,image=a")
    wrong["spec"]["completions"] = "three"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def test_a_job_has_one_agent_per_index_and_outlives_preemption():
    made = job("kubernetes,image=registry/wandb_tl:1,claim=cache")
    spec, pod = made["spec"], made["spec"]["template"]["spec"]
    assert made["metadata"]["name"] == "wandb-tl-ab-c1"
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert spec["podFailurePolicy"]["rules"][0] == {
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    # Kubernetes allows a failure policy only for pods that are never restarted in place.
    assert pod["restartPolicy"] == "Never" and pod["terminationGracePeriodSeconds"] > 60
    [agent] = pod["containers"]
    assert agent["command"] == ["python", "-m", "wandb_tl.agent", "mine/pictures/Ab_c1"]
    assert agent["resources"] == {"limits": {"nvidia.com/gpu": 1}}
    variables = {one["name"]: one for one in agent["env"]}
    assert variables["WANDB_API_KEY"] == {
        "name": "WANDB_API_KEY",
        "valueFrom": {"secretKeyRef": {"name": "wandb", "key": "api-key"}},
    }
    assert variables["WANDB_BASE_URL"]["value"] == "https://wandb.example" and "HOME" not in variables
    assert pod["volumes"] == [{"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}}]
    assert agent["volumeMounts"] == [{"name": "cache", "mountPath": variables["WANDB_TL_CACHE"]["value"]}]


def test_the_command_that_creates_the_secret_quotes_its_name():
    text = job_files.parse("kubernetes,image=a,secret=my key;id").text(AGENTS)
    assert "# the API key: " in text and "generic 'my key;id' --from-file" in text


def test_a_task_of_skypilot_takes_the_key_from_whoever_launches_it():
    made = job("skypilot,accelerators=L4:1", Agents("a/b/c", 2, True, {"WANDB_BASE_URL": "https://x"}))
    assert made["secrets"] == {"WANDB_API_KEY": None} and made["envs"] == {"WANDB_BASE_URL": "https://x"}
    assert made["resources"] == {"accelerators": "L4:1", "use_spot": True}
    assert made["run"] == "exec uv run --extra local python -m wandb_tl.agent a/b/c --process-per-run\n"
    assert "setup" not in job("skypilot,image=registry/wandb_tl:1")
    text = job_files.parse("skypilot").text(AGENTS)
    assert "for agent in 0 1 2; do sky jobs launch" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kubernetes", "add image, such as kubernetes,image=REGISTRY/IMAGE"),
        ("k8s,image=a", "k8s is not a known kind of job; did you mean kubernetes?"),
        ("nomad", "takes kubernetes or skypilot"),
        ("kubernetes,image=a,gpu=1", "gpu is not a known option; did you mean gpus?"),
        ("kubernetes,image=a,gpus=some", "gpus: got some, takes an integer >= 0"),
        ("kubernetes,image", "takes KEY=VALUE"),
    ],
)
def test_bad_options_are_one_line(text, message):
    with pytest.raises(UsageError) as caught:
        job_files.parse(text)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_job_and_a_report_exclude_each_other(capsys):
    flags = ["laptop", "--print-job", "kubernetes,image=a", "--reports", "here"]
    assert run_sweep.COMMAND.main(flags) == 2
    assert capsys.readouterr().err.startswith("error: --reports: --print-job runs nothing here")


def print_job(server: Server, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "wandb_tl.run_sweep", *arguments, "--print-job", "kubernetes,image=a,gpus=0"],
        env=server.env,
        cwd=server.folder / "client",
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.long
def test_the_agent_of_a_pod_returns_its_run_when_the_pod_is_evicted(server, tmp_path, new_pids):
    settings = {"train_limit": 64, "test_limit": 64, "image_size": 32, "epochs": 300, "seed": 0}
    settings |= {"finetuning": True, "pretrained": True, "optimizer": "Adam"}
    flags = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    done = print_job(server, "laptop", *flags)
    assert done.returncode == 0, done.stderr
    assert server.key not in done.stdout + done.stderr
    [agent] = yaml.safe_load(done.stdout)["spec"]["template"]["spec"]["containers"]
    # A sweep that exists has the same file.
    assert print_job(server, agent["command"][-1]).stdout == done.stdout
    values = {one["name"]: one["value"] for one in agent["env"] if "value" in one}
    values["WANDB_TL_CACHE"] = server.env["WANDB_TL_CACHE"]
    # The first process of a container: signals that it does not handle do not reach it, and all others end
    # with it.
    command = [*new_pids, *agent["command"]]
    log = tmp_path / "log"
    with log.open("wb") as file:
        pod = subprocess.Popen(
            command, env=server.env | values, cwd=tmp_path, stdout=file, stderr=subprocess.STDOUT
        )
    wait_for(lambda: "epoch 2/" in log.read_text() or pod.poll() is not None)
    [first] = psutil.Process(pod.pid).children()
    os.kill(first.pid, signal.SIGTERM)
    assert pod.wait(timeout=job_files.GRACE_SECONDS) != 0, log.read_text()
    assert sqlite(server, "SELECT state FROM run") == "preempted"

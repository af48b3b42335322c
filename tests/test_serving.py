"""wandb_tl.local_server: this process's wandb client on the embedded server, and back."""

import subprocess
import sys
from pathlib import Path

import pytest
from live_server import Server, wait_for

from wandb_tl.serving import Link

USE = """
import json, os, sys, urllib.request, wandb, wandb_tl
root, other = sys.argv[1:]
said = {}

def log(x):
    with wandb.init(project="p") as run:
        run.log({"x": x})
    return run.url

before = dict(os.environ)
said["urls"] = [log(1)]
with wandb_tl.local_server(root) as server:
    said["urls"] += [log(2)]
    said["again"] = wandb_tl.local_server() is server and wandb_tl.local_server(root) is server
    said["texts"] = [repr(server), server._repr_html_(), str(server.link("local/p"))]
    said["key"] = os.environ["WANDB_API_KEY"]
    said["runs"] = len(wandb.Api().runs("local/p"))
    os.environ["JUPYTERHUB_SERVICE_PREFIX"] = "/user/x/"
    said["hub"] = str(server.link(server.url + "/local/p/sweeps/abc"))
    del os.environ["JUPYTERHUB_SERVICE_PREFIX"]
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(said["texts"][2]) as answer:
        said["page"] = answer.url
    try:
        wandb_tl.local_server(other)
    except wandb_tl.InputError as error:
        said["other"] = str(error)
    run = wandb.init(project="p", id="left-open")
said["restored"] = before == dict(os.environ)
said["open"] = wandb.run is not None
said["closed"] = server._repr_html_()
said["urls"] += [log(3)]
said["runs_here"] = len(wandb.Api().runs("local/p"))
with wandb.init(project="p") as run:
    try:
        wandb_tl.local_server(root)
    except wandb_tl.InputError as error:
        said["refused"] = str(error)
with wandb_tl.local_server(root):
    said["states"] = sorted(run.state for run in wandb.Api().runs("local/p"))
print(json.dumps(said))
"""


@pytest.mark.slow
def test_a_process_that_has_used_wandb_uses_the_server_and_goes_back(server: Server, tmp_path: Path):
    said = server.run(USE, str(tmp_path / "root"), str(tmp_path / "other"))
    first, inside, last = said["urls"]
    assert first.startswith(server.url) and last.startswith(server.url)
    url = inside.partition("/local/")[0]
    assert url != server.url and said["page"] == f"{url}/local/p"
    assert said["again"] and said["restored"] and not said["open"]
    assert said["runs"] == 1 and said["runs_here"] == 2 and said["states"] == ["finished", "finished"]
    assert not any(said["key"] in text for text in said["texts"])
    assert said["texts"][0] == f"LocalServer({url}, {tmp_path / 'root'})"
    assert f'<a href="{url}/login?token=' in said["texts"][1] and "closed" in said["closed"]
    port = url.rpartition(":")[2]
    assert said["hub"].startswith(f"/user/x/proxy/{port}/login?token=")
    assert said["hub"].endswith("&next=%2Flocal%2Fp%2Fsweeps%2Fabc")
    assert said["other"].startswith(f"this process uses LocalServer({url}, ")
    assert said["refused"].endswith("is open: end it first with wandb.finish()")


def test_a_link_is_escaped():
    assert Link("/a?b=1&c", "<x>")._repr_html_() == '<a href="/a?b=1&amp;c" target="_blank">&lt;x&gt;</a>'


HOLD = """
import sys, time, wandb_tl
server = wandb_tl.local_server(sys.argv[1])
print(server.url, flush=True)
sys.stdin.readline()
"""


@pytest.mark.long
def test_a_server_ends_after_its_last_user_even_if_it_was_killed(tmp_path: Path):
    def use() -> tuple[subprocess.Popen, str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return process, process.stdout.readline().strip()

    (first, url), (second, same) = use(), use()
    assert url == same != ""
    first.kill()
    first.wait()
    # The starter is gone, and the server stays for the other one.
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(13)
    assert (tmp_path / "server.json").exists()
    second.kill()
    second.wait()
    wait_for(lambda: not (tmp_path / "server.json").exists())

"""Real kernels: the notebook of the docs, the stop button, and what a cell shows."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "pictures.ipynb"


@pytest.fixture
def kernel_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a kernel whose server, cache and other files are under tmp_path."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "JUPYTERHUB_")):
            monkeypatch.delenv(name)
    for name in ("WANDB_TL_ROOT", "WANDB_TL_CACHE", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def texts_of(outputs: list[Any]) -> str:
    """Everything that a cell has shown, as one string."""
    parts = [part for one in outputs for part in (one.get("text"), *one.get("data", {}).values())]
    return "\n".join(str(part) for part in parts)


@pytest.mark.long
def test_the_notebook_of_the_docs_runs(kernel_environment: None, tmp_path: Path):
    notebook = nbformat.read(NOTEBOOK, 4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells), "commit it without outputs"
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = {cell.source.splitlines()[-1]: cell.outputs for cell in cells}
    assert not re.search("Warning|Traceback", "\n".join(map(texts_of, shown.values())))
    key = (tmp_path / "wandb_tl_root" / "key").read_text().strip()
    assert key not in nbformat.writes(notebook)
    assert texts_of(shown["server"]).count("/login?token=") == 1
    assert texts_of(shown["wandb_tl.compare(path)"]).count("<table") >= 1
    probabilities = texts_of(shown["model([new])[0].probabilities"])
    assert all(f"'{name}': " in probabilities for name in ("circle", "hexagon", "square", "triangle"))


class Kernel:
    """A kernel in which a test runs cells."""

    def __init__(self, folder: Path) -> None:
        self.manager, self.client = start_new_kernel(cwd=str(folder))

    def run(self, code: str, stop_at: str = "\0") -> list[dict[str, Any]]:
        """Run a cell; returns its outputs. Presses the stop button when they contain `stop_at`."""
        cell, outputs, deadline = self.client.execute(code), [], time.monotonic() + 300
        while time.monotonic() < deadline:
            message = self.client.get_iopub_msg(timeout=300)
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != cell:
                continue
            if kind == "status" and content["execution_state"] == "idle":
                return outputs
            if kind in ("stream", "display_data", "execute_result", "error"):
                outputs.append(content)
                if stop_at in texts_of([content]):
                    stop_at = "\0"
                    self.manager.interrupt_kernel()
        raise AssertionError(f"the cell has not ended: {outputs}")

    def value(self, expression: str) -> Any:
        """The value of an expression of literals."""
        [output] = self.run(expression)
        return eval(output["data"]["text/plain"])


@pytest.fixture
def kernel(kernel_environment: None, tmp_path: Path) -> Iterator[Kernel]:
    running = Kernel(tmp_path)
    yield running
    running.client.stop_channels()
    running.manager.shutdown_kernel()


SETUP = """
import time, numpy as np, wandb, wandb_tl
from torch import nn
dice = np.random.default_rng(0)
images, labels = dice.integers(0, 255, (48, 24, 24, 3), dtype=np.uint8), np.arange(48) % 3
network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
own = {"data": (images, labels), "model": network}
server = wandb_tl.local_server()
"""
RESUME = """
with wandb.init(project="wandb_tl", id=run.id, resume="must"):
    result = wandb_tl.fit(**own)
history = wandb.Api().run(f"local/wandb_tl/{run.id}").scan_history(["epoch", "test/loss"])
epochs = [row["epoch"] for row in history]
"""


@pytest.mark.long
def test_the_stop_button_leaves_a_run_that_resumes(kernel: Kernel):
    assert kernel.run(SETUP) == []
    fit = "wandb_tl.fit(epochs=6, batch_size=8, image_size=32, finetuning=True, on_epoch={}, **own)"
    stopped = kernel.run(fit.format("lambda row: time.sleep(1)"), stop_at="epoch 2/6:")
    assert stopped[-1]["ename"] == "KeyboardInterrupt"
    shown = texts_of(stopped)
    assert "epoch 1/6:   0%" in shown and "Warning" not in shown
    assert kernel.value("wandb.run is None")
    first = "[run for run in wandb.Api().runs('local/wandb_tl')][0]"
    assert kernel.value(f"run = {first}; run.state, run.id != ''") == ("killed", True)

    [error] = kernel.run("wandb_tl.fit(learning_rate=1)")
    message = "learning_rate: no such hyperparameter; did you mean lr?"
    assert (error["ename"], error["evalue"]) == ("InputError", message)
    second = kernel.run(fit.format("None").replace("epochs=6", "epochs=1"))
    html = second[-1]["data"]["text/html"]
    assert html.count("<img") == 1 and sum("image/png" in one.get("data", {}) for one in second) == 0

    assert "resuming after epoch" in texts_of(kernel.run(RESUME))
    assert kernel.value("result.metrics.index.tolist()") == [1, 2, 3, 4, 5, 6]
    assert kernel.value("epochs") == [1, 2, 3, 4, 5, 6]

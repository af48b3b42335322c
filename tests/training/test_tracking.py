"""The folder of a model as a run logs it."""

from multiprocessing import synchronize

from live_server import wait_for

from wandb_tl.training import tracking


def test_a_model_is_logged_without_a_semaphore_that_a_killed_process_would_leave(
    offline_run, tmp_path, monkeypatch
):
    made = []
    monkeypatch.setattr(synchronize.SemLock, "_make_name", staticmethod(lambda: made.append("one") or "/one"))
    folder = tmp_path / "model"
    (folder / "parts").mkdir(parents=True)
    (folder / "model.json").write_text("{}")
    (folder / "parts" / "model.safetensors").write_bytes(b"weights")
    with tracking.logged_model(offline_run, folder, {"classes": 2}):
        pass
    offline_run.finish()
    [records] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    # W&B's own process may write the last of it a little after the end of the run.
    wait_for(lambda: b"parts/model.safetensors" in records.read_bytes())
    kept = records.read_bytes()
    assert b"model.json" in kept and made == []
    # An error in the block deletes the folder before the end of the run uploads the rest.
    assert bytes(folder) + b"/" not in kept

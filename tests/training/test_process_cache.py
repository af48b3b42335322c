import pytest
from frozen_lab import cached

from wandb_tl.errors import InputError
from wandb_tl.training.process_cache import ProcessCache


@pytest.mark.parametrize("limit", ["x", "-1", "nan", "inf", "1e999"])
def test_a_limit_that_is_not_a_size_is_refused(monkeypatch, limit):
    monkeypatch.setenv("WANDB_TL_CACHE_GB", limit)
    cache = ProcessCache()
    with pytest.raises(InputError) as refusal:
        _ = cache.activations
    assert str(refusal.value).startswith(f"WANDB_TL_CACHE_GB: got {limit!r}, takes a ")


def test_activations_are_stored_in_the_cache_folder_within_its_limit(monkeypatch, tmp_path, few_images):
    monkeypatch.setenv("WANDB_TL_CACHE", str(tmp_path))
    # 128 images of 192 numbers are 98,304 bytes: one entry of them, but not two.
    monkeypatch.setenv("WANDB_TL_CACHE_GB", "0.00015")
    cached(few_images.test, ProcessCache().activations)
    (first,) = (tmp_path / "tensors").iterdir()
    cached(few_images.test, ProcessCache().activations, pretrained=False)
    (second,) = (tmp_path / "tensors").iterdir()
    assert first != second
    assert cached(few_images.test, ProcessCache().activations, pretrained=False)[1] == 0

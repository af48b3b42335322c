"""The temperature that makes probabilities as certain as they are right."""

import pytest
import torch
import torch.nn.functional as F

from wandb_tl.training import temperature


def drawn(certainty: float, count: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are `certainty` times those that the labels were drawn from."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(count, 4, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).flatten()
    return logits * certainty, labels


@pytest.mark.parametrize("certainty", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_too_much_or_too_little_certainty(certainty):
    assert temperature.fit(*drawn(certainty)) == pytest.approx(certainty, rel=0.03)


def test_no_other_temperature_has_a_lower_cross_entropy():
    logits, labels = drawn(2.5, count=300)
    best = temperature.fit(logits, labels)
    losses = [F.cross_entropy(logits.double() / (best * factor), labels) for factor in (0.99, 1, 1.01)]
    assert min(losses) == losses[1]


def test_answers_that_are_all_right_or_all_wrong_stay_within_the_limits():
    logits = torch.eye(3)
    assert temperature.fit(logits, torch.arange(3)) == pytest.approx(temperature.LOWEST, rel=1e-2)
    assert temperature.fit(logits, torch.arange(3).flip(0).roll(1)) <= temperature.HIGHEST


def test_nothing_is_concluded_from_no_logits_or_broken_ones():
    assert temperature.fit(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)) == 1
    assert temperature.fit(torch.full((2, 3), torch.nan), torch.zeros(2, dtype=torch.long)) == 1

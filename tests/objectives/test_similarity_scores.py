"""Log sums of scores, what is left out of them, and which images are of one class."""

import math

import pytest
import torch

from repscope._checking import UsageError
from repscope.objectives.similarity_scores import (
    check_temperature,
    log_sum_exp,
    mask_diagonal_,
    same_class,
    zero_rows,
)


def table(n=5, k=5, *, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(n, k, generator=generator, dtype=torch.float64)


def test_a_log_sum_by_hand():
    scores = torch.tensor([[math.log(2), math.log(6)], [1000.0, 1000.0]])
    found = log_sum_exp(scores)
    assert found.tolist() == pytest.approx([math.log(8), 1000 + math.log(2)])
    down = log_sum_exp(scores.T, dim=0)
    assert down.tolist() == found.tolist()


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_log_sums_and_their_gradients_are_those_of_torch(dim, scale):
    scores = table(4, 6, scale=scale).requires_grad_()
    found, expected = log_sum_exp(scores, dim), torch.logsumexp(scores, dim)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)
    slopes = torch.arange(1.0, len(found) + 1, dtype=torch.float64)
    gradients = [
        torch.autograd.grad(sums @ slopes, scores)[0] for sums in (found, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-14)


def test_what_is_masked_has_no_share_and_no_gradient():
    rows = table(4, 3).requires_grad_()
    scores = rows @ rows.T
    mask_diagonal_(scores)
    mask_diagonal_(scores, 2)
    kept = [[1, 3], [0, 2], [0, 1, 3], [0, 1, 2]]
    expected = torch.stack(
        [torch.logsumexp(rows[i] @ rows[k].T, 0) for i, k in enumerate(kept)]
    )
    found = log_sum_exp(scores)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(x.sum(), rows)[0] for x in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_classes_are_those_of_equal_labels_and_none_is_no_class():
    found = same_class(torch.tensor([4, 0, 4, -1, -1]))
    expected = torch.eye(5, dtype=torch.bool)
    expected[0, 2] = expected[2, 0] = True
    assert torch.equal(found, expected)


def test_rows_without_a_direction_are_counted_over_views():
    first, second = torch.eye(3), torch.eye(3)
    first[1] = second[0] = second[2] = 0
    assert float(zero_rows(first, second)) == 3
    assert zero_rows(first.double()).dtype == torch.float64


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_is_above_zero_and_finite(temperature):
    message = r"moco: temperature is .*\n.*expected: above 0"
    with pytest.raises(UsageError, match=message):
        check_temperature("moco", temperature)
    check_temperature("moco", 1e-3)

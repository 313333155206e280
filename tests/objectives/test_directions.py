import pytest
import torch

from repscope.objectives.directions import LEAST_NORM, directions


def test_rows_have_length_one_or_no_direction():
    rows = torch.tensor([[3.0, 4.0], [0.0, -2e-8], [0.0, 0.5e-8], [0.0, 0.0]])
    found = directions(rows)
    expected = torch.tensor([[0.6, 0.8], [0.0, -1.0], [0.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(found, expected)
    assert 0.5e-8 < LEAST_NORM < 2e-8


def test_gradients_are_those_of_finite_differences_and_zero_without_a_direction():
    rows = torch.tensor([[3.0, 4.0], [-1.0, 0.5]], dtype=torch.float64)
    assert torch.autograd.gradcheck(directions, (rows.requires_grad_(),))
    still = torch.zeros(2, 3, requires_grad=True)
    directions(still).sum().backward()
    assert still.grad.abs().max() == 0


@pytest.mark.parametrize("length", [1e-7, 1e18])
def test_the_length_does_not_matter(length):
    rows = torch.tensor([[1.0, 2.0, -2.0]])
    torch.testing.assert_close(directions(length * rows), rows / 3)

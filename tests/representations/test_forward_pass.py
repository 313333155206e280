import numpy as np
import pytest
import torch
from torch import nn

from representations.embedding_cases import (
    CLOSE,
    PREPROCESS,
    Tiny,
    expected,
    image_set,
)
from repscope._checking import ResourceError
from repscope.representations import forward_pass
from repscope.representations.embed import embed

# the network is left as it was


def state_of(module):
    values = {k: v.clone() for k, v in module.state_dict().items()}
    return values, [part.training for part in module.modules()]


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_it_was(fails):
    class Failing(Tiny):
        def forward(self, images):
            assert not self.training
            if fails and len(self.calls) > 1:
                raise KeyError("a bug")
            return super().forward(images)

    module = Failing()
    module.train()
    module.norm.eval()
    weights, flags = state_of(module)
    random = torch.random.get_rng_state()
    try:
        embed(module, image_set(20), preprocess=PREPROCESS, batch_size=4)
    except KeyError:
        assert fails
    after, flags_after = state_of(module)
    assert flags_after == flags
    assert all(torch.equal(after[name], value) for name, value in weights.items())
    assert torch.equal(torch.random.get_rng_state(), random)
    assert not module.first._forward_hooks


def test_features_carry_no_gradients_and_can_be_changed():
    features = embed(Tiny(), image_set(4), preprocess=PREPROCESS).features()
    features += 1
    assert isinstance(features, np.ndarray)


# memory


class Hungry(Tiny):
    """A network that fits at most `limit` images."""

    def __init__(self, limit, error):
        super().__init__()
        self.limit, self.error = limit, error

    def forward(self, images):
        if len(images) > self.limit:
            raise self.error
        return super().forward(images)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"),
    RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"
    ),
    MemoryError("Unable to allocate 3 GiB"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_the_batch_is_halved_where_memory_ends(error, caplog):
    module, images = Hungry(3, error), image_set(40)
    embedding = embed(module, images, preprocess=PREPROCESS, batch_size=16)
    reference = expected(module, images)["last"]
    np.testing.assert_allclose(embedding.features(), reference, **CLOSE)
    assert max(module.calls) == 2
    halved = [r.getMessage() for r in caplog.records if "out of memory" in r.message]
    assert halved == [
        f"out of memory: going on in batches of {size}" for size in (8, 4, 2)
    ]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_one_image_that_does_not_fit_is_an_error(error):
    with pytest.raises(ResourceError, match="out of memory on cpu with a single image"):
        embed(Hungry(0, error), image_set(4), preprocess=PREPROCESS)


def test_other_errors_of_the_network_are_not_hidden():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        embed(
            Hungry(2, RuntimeError("mat1 and mat2 shapes cannot be multiplied")),
            image_set(4),
            preprocess=PREPROCESS,
        )


def test_tf32_is_off_meanwhile_and_as_before_afterwards(monkeypatch):
    backend = torch.backends.cuda.matmul
    before = backend.fp32_precision
    backend.fp32_precision = "tf32"
    try:
        with forward_pass.evaluating(nn.Identity(), "cpu"):
            assert backend.fp32_precision == "ieee"
        assert backend.fp32_precision == "tf32"
    finally:
        backend.fp32_precision = before

"""MINE: a network learns to tell pairs (image, features) from pairs of strangers.

Needs torch. `information.mutual_information` turns what this returns into a
measurement.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from repscope._arrays import as_double, as_matrix, host
from repscope._checking import InputError, NonFiniteFeatureError, UsageError
from repscope._randomness import permutation
from repscope.metrics.information import MineResult
from repscope.metrics.probing import standardise
from repscope.models.devices import device_of
from repscope.models.initialisation import draw_uniform, generator_of, made

# Streams of random numbers of their own: first weights, and batches.
_WEIGHTS_STREAM, _BATCHES_STREAM = 2, 3
# The bound is the mean over the last tenth of the steps, taken this many times.
LAST_SHARE, EVALUATIONS = 0.1, 20
# Each held-out row is paired with this many strangers.
STRANGERS = 8
MINIMUM_PAIRS = 20


@dataclass(frozen=True, kw_only=True)
class MineSettings:
    """How the statistics network is trained.

    Args:
        steps: of Adam, for each seed.
        batch: pairs per step.
        learning_rate: of Adam.
        width: of the three hidden layers.
        average_rate: of the moving average of E exp T in the gradient.
        gradient_norm: gradients are cut to this Euclidean length.
        held_out: share of the rows that the bound is evaluated on.
        seeds: one training each.
        device: "auto", "cpu", "cuda", ...
    """

    steps: int = 4_000
    batch: int = 512
    learning_rate: float = 5e-4
    width: int = 256
    average_rate: float = 0.01
    gradient_norm: float = 1.0
    held_out: float = 0.2
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        counts = ("steps", "batch", "width")
        rates = ("learning_rate", "average_rate", "gradient_norm", "held_out")
        wrong = [name for name in counts if getattr(self, name) < 2]
        wrong += [name for name in rates if not getattr(self, name) > 0]
        if wrong or self.held_out >= 1 or not self.seeds:
            raise UsageError(
                "MINE: settings that cannot be trained",
                found=", ".join(wrong) or f"held_out {self.held_out}, {self.seeds}",
                expected="counts from 2, rates above 0, held_out below 1, a seed",
            )


class StatisticsNetwork(nn.Module):
    """T(x, z): the inputs through one layer, joined with z, two hidden layers of ELU.

    Args:
        inputs: width of x.
        features: width of z.
        width: of the hidden layers.
    """

    def __init__(self, inputs: int, features: int, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.rest = nn.Sequential(
            nn.Linear(width + features, width),
            nn.ELU(),
            nn.Linear(width, width),
            nn.ELU(),
            nn.Linear(width, 1),
        )

    def forward(
        self, inputs: Float[Tensor, "b k"], features: Float[Tensor, "b d"]
    ) -> Float[Tensor, " b"]:
        """Return one number per pair."""
        seen = nn.functional.elu(self.first(inputs))
        return self.rest(torch.cat([seen, features], dim=1))[:, 0]


def train_mine(
    inputs: Any, features: Any, *, settings: MineSettings | None = None
) -> MineResult:
    """Return the Donsker-Varadhan bounds that statistics networks reach.

    Inputs and features are standardised by the rows trained on. The gradient of
    log E exp T divides by a moving average of E exp T, which takes off most of the bias
    of small batches. After training, the bound is taken on held-out pairs, the mean
    over the last tenth of the steps.

    Args:
        inputs: (n, ...) images or vectors, flattened.
        features: (n, d) of the same rows.
        settings: of the training.

    Returns:
        Bits per seed; `information.mutual_information` gives mean and spread.

    Raises:
        InputError: where rows differ in number, or are fewer than 20.
        NonFiniteFeatureError: where a row of either holds NaN or infinity.
        UsageError: for a device that torch does not know.

    Source: Belghazi et al. 2018, Algorithm 1 and Section 3.2. Differs from the source
    in evaluating on held-out pairs.
    """
    settings = settings or MineSettings()
    values = host(inputs) if hasattr(inputs, "shape") else np.asarray(inputs)
    x = _finite(values.reshape(len(values), -1), "inputs")
    z = _finite(features, "features")
    if len(x) != len(z) or len(x) < MINIMUM_PAIRS:
        raise InputError(
            "MINE: pairs of inputs and features are needed",
            found=f"{len(x):,} inputs, {len(z):,} rows of features",
            expected=f"as many of both, {MINIMUM_PAIRS} at least",
        )
    n_held_out = max(2, round(settings.held_out * len(x)))
    order = permutation(0, 0, len(x))
    held_out, rest = order[:n_held_out], order[n_held_out:]
    pairs = [standardise(array[rest], array[held_out]) for array in (x, z)]
    device = device_of(settings.device)
    (x_train, x_test), (z_train, z_test) = (
        tuple(torch.from_numpy(part).to(device, torch.float32) for part in pair)
        for pair in pairs
    )
    runs = [
        _Training(settings, seed, (x_train, z_train), (x_test, z_test)).bound()
        for seed in settings.seeds
    ]
    return MineResult(
        bits=tuple(nats / math.log(2) for nats in runs),
        seeds=settings.seeds,
        n_train=len(rest),
        n_evaluated=n_held_out,
        log2_pairs_bits=math.log2(n_held_out * min(STRANGERS, n_held_out - 1)),
        steps=settings.steps,
    )


def _finite(values: Any, name: str) -> Float[np.ndarray, "n k"]:
    """Return rows in float64; raise where some are not finite."""
    rows = host(as_double(as_matrix(values, name)))
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise NonFiniteFeatureError(name, len(bad), int(bad[0]))
    return rows


Pair = tuple[Tensor, Tensor]  # (n k), (n d)


class _Training:
    """One statistics network on its way."""

    def __init__(
        self, settings: MineSettings, seed: int, train: Pair, held_out: Pair
    ) -> None:
        self.settings = settings
        self.inputs, self.features = train
        self.held_out = held_out
        widths = self.inputs.shape[1], self.features.shape[1], settings.width
        self.network = made(
            lambda: StatisticsNetwork(*widths),
            draw_uniform,
            generator_of(seed, _WEIGHTS_STREAM),
        ).to(self.inputs.device)
        self.batches = generator_of(seed, _BATCHES_STREAM)
        rate = settings.learning_rate
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=rate)
        self.log_average: Tensor | None = None

    def bound(self) -> float:
        """Train, and return the mean bound over the last steps, in nats."""
        steps = self.settings.steps
        first = max(1, round((1 - LAST_SHARE) * steps))
        taken = np.unique(np.linspace(first, steps, EVALUATIONS).round().astype(int))
        bounds = []
        for step in range(1, steps + 1):
            self._step()
            if step in taken:
                bounds.append(self._evaluated())
        return float(np.mean(bounds))

    def _step(self) -> None:
        n, batch = len(self.inputs), min(self.settings.batch, len(self.inputs))
        rows = torch.randint(n, (batch,), generator=self.batches)
        strangers = rows[torch.randperm(batch, generator=self.batches)]
        inputs = self.inputs[rows]
        joint = self.network(inputs, self.features[rows])
        marginal = self.network(inputs, self.features[strangers])
        log_mean = torch.logsumexp(marginal, 0) - math.log(batch)
        self.log_average = self._averaged(log_mean.detach())
        # The gradient of this ratio is that of log E exp T with the average below.
        loss = torch.exp(log_mean - self.log_average) - joint.mean()
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_norm)
        self.optimiser.step()

    def _averaged(self, log_mean: Tensor) -> Tensor:
        if self.log_average is None:
            return log_mean
        rate = self.settings.average_rate
        return torch.logaddexp(
            self.log_average + math.log1p(-rate), log_mean + math.log(rate)
        )

    @torch.no_grad()
    def _evaluated(self) -> float:
        """Return the bound on the held-out pairs, strangers taken by turning."""
        inputs, features = self.held_out
        n = len(inputs)
        joint = self.network(inputs, features).mean()
        turns = np.linspace(1, n - 1, min(STRANGERS, n - 1))
        marginal = torch.cat(
            [self.network(inputs, features.roll(int(turn), 0)) for turn in turns]
        )
        log_mean = torch.logsumexp(marginal, 0) - math.log(len(marginal))
        return float(joint - log_mean)

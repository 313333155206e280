"""Which factors of the images have the features learnt? A linear probe for each.

Class, subclass, each random bit, background: what was varied and is known. All factors
are probed at once, on the same rows and with the same noise floor.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from repscope._arrays import Array, as_double, as_matrix, host, namespace
from repscope._checking import Undecidable, check_length
from repscope.data.levels import encode_attribute
from repscope.metrics.linear_probes import LabelPair, LinearProbe, linear_probes
from repscope.metrics.metric import Estimate, metric, metric_of
from repscope.metrics.noise_floor import NoiseFloor, row_margin
from repscope.metrics.probing import ProbeResult, standardise
from repscope.records import Detail, Measurement


@metric(
    title="accuracy on a factor",
    formula="share of test rows whose value of the factor a linear probe reads; "
    "features standardised by training rows, after noise of the noise floor",
    needs="attribute",
    range="[0, 1]; guessing gives the majority share",
    bounds=(0.0, 1.0),
    direction="none",
    minimum_n=4,
    degree=0,
    invariances=("shift",),
    cost="O(n d²)",
    source="Xue et al. 2023; Chen, Luo, Li 2021",
    misleads="without a noise floor infinitesimal differences count as learnt, at "
    "initialisation too; read skill, not accuracy, where values are unequally frequent",
)
def feature_accuracy(
    features: Shaped[Array, "n d"],
    labels: Int[np.ndarray, " n"],
    is_test: Bool[np.ndarray, " n"],
    *,
    probe: LinearProbe = "squared_hinge",
    noise_floor: NoiseFloor | None = None,
) -> Estimate:
    """Return how well a linear probe reads one factor from features.

    Args:
        features: (n, d) as the encoder gives them, train and test.
        labels: (n,) the factor's codes, from 0.
        is_test: (n,) which rows test.
        probe: of C = 1; ridge chooses its penalty.
        noise_floor: noise added first; its margin is by default `row_margin` of the
            training rows, which no factor decides.

    Returns:
        From 0 to 1; higher means that the factor was learnt, which is good or bad as
        the factor is. Interval: Wilson's. Details: `skill` (0 is guessing the most
        frequent value, 1 is perfect), `chance`, `majority`, `train_accuracy`,
        `converged` and, with a noise floor, its `deviation`.

    Raises:
        InputError: where lengths differ.
        Undecidable: without training or test rows, or with one value only.

    Source: Xue et al. 2023; Chen, Luo, Li 2021 (RandBit). Differs from the source in
    the noise floor.
    """
    (result,), details = _probed(features, [labels], is_test, probe, noise_floor)
    return _estimate(result, details)


def feature_accuracies(
    features: Shaped[Array, "n d"],
    factors: Mapping[str, Any],
    is_test: Bool[np.ndarray, " n"],
    *,
    probe: LinearProbe = "squared_hinge",
    noise_floor: NoiseFloor | None = None,
) -> tuple[Measurement, ...]:
    """Return how well a linear probe reads each factor; all share one decomposition.

    Args:
        features: (n, d) as the encoder gives them, train and test.
        factors: name -> (n,) values: words, or numbers, of which many different ones
            are cut into fifths.
        is_test: (n,) which rows test.
        probe: of C = 1; ridge chooses its penalty.
        noise_floor: as for `feature_accuracy`.

    Returns:
        One measurement per factor, named by its `level`, in the order given; null with
        a reason where a factor cannot be probed.

    Raises:
        InputError: where lengths differ or a value is missing.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> bits = generator.integers(0, 2, (200, 2))
        >>> features = bits[:, :1] + 0.1 * generator.standard_normal((200, 3))
        >>> is_test = np.arange(200) % 2 == 0
        >>> factors = {"bit 0": bits[:, 0]}
        >>> feature_accuracies(features, factors, is_test)[0].value
        1.0
    """
    n = features.shape[0]
    encoded = [encode_attribute(name, values, n) for name, values in factors.items()]
    codes = [level.codes for level in encoded]
    results, details = _probed(features, codes, is_test, probe, noise_floor)
    entry = metric_of(feature_accuracy)
    return tuple(
        entry.measured(
            partial(_estimate, result, details),
            n=int(is_test.sum()),
            d=features.shape[1],
            level=level.name,
            split="test",
        )
        for level, result in zip(encoded, results, strict=True)
    )


def _probed(
    features: Shaped[Array, "n d"],
    codes: Sequence[Int[np.ndarray, " n"]],
    is_test: Bool[np.ndarray, " n"],
    probe: LinearProbe,
    noise_floor: NoiseFloor | None,
) -> tuple[tuple[ProbeResult | Undecidable, ...], dict[str, Detail]]:
    rows = as_double(as_matrix(features))
    for name, given in [("is_test", is_test), *(("labels", one) for one in codes)]:
        check_length(name, len(given), rows.shape[0])
    details: dict[str, Detail] = {"probe": probe}
    sides = [np.flatnonzero(~is_test), np.flatnonzero(is_test)]
    xp = namespace(rows)
    if noise_floor is not None and len(sides[0]):
        margin = noise_floor.margin
        if margin is None:
            margin = row_margin(xp.take(rows, _index(rows, sides[0]), axis=0))
        rows = noise_floor.added_to(rows, margin)
        details["deviation"] = noise_floor.share * margin
    train, test = standardise(
        *(xp.take(rows, _index(rows, side), axis=0) for side in sides)
    )
    pairs = [
        LabelPair(one[sides[0]], one[sides[1]], int(one.max(initial=0)) + 1)
        for one in (host(given) for given in codes)
    ]
    return linear_probes(train, test, pairs, probe=probe), details


def _index(rows: Float[Array, "n d"], side: Int[np.ndarray, " m"]) -> Array:
    return namespace(rows).asarray(side, device=rows.device)


def _estimate(
    result: ProbeResult | Undecidable, details: dict[str, Detail]
) -> Estimate:
    if isinstance(result, Undecidable):
        raise result
    accuracy, majority = result.test_accuracy, result.majority
    skill = (accuracy - majority) / (1 - majority) if majority < 1 else 0.0
    return Estimate(
        accuracy,
        result.interval,
        {
            "skill": float(skill),
            "chance": result.chance,
            "majority": majority,
            "train_accuracy": result.train_accuracy,
            "converged": result.converged,
            "interval": "Wilson",
            **details,
            **result.details,
        },
    )

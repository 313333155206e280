"""The scores of one row as the papers print them, in plain loops over its features.

Slow and obvious on purpose: no formula here shares code with the package.
"""

import math


def feature_mean(row):
    return math.fsum(row) / len(row)


def feature_std(row):
    mean = feature_mean(row)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in row) / len(row))


def l1_norm(row):
    return math.fsum(abs(value) for value in row)


def l2_norm(row):
    return math.sqrt(math.fsum(value**2 for value in row))


def z_max(row):
    """Kalibhat et al. 2022, Section 4."""
    if len(set(row)) == 1:
        return 0.0
    return (max(row) - feature_mean(row)) / feature_std(row)


def q_score(row):
    """Kalibhat et al. 2022, Eq. 2."""
    return z_max(row) / l1_norm(row) if any(row) else 0.0


def q_score_normalized(row):
    return z_max(row) * l2_norm(row) / l1_norm(row) if any(row) else 0.0


def soft_sparsity(row, eta):
    return sum(abs(value) < eta for value in row) / len(row)


def gini(row):
    """Hurley, Rickard 2009, Table I: 1 - 2 sum_k a_k / |a|_1 (d - k + 1/2) / d."""
    if not any(row):
        return 0.0
    ascending = sorted(abs(value) for value in row)
    d, total = len(row), l1_norm(row)
    terms = [
        value / total * (d - rank + 0.5) / d
        for rank, value in enumerate(ascending, start=1)
    ]
    return 1 - 2 * math.fsum(terms)


def hoyer(row):
    """Hoyer 2004, Section 3.1."""
    if not any(row):
        return 0.0
    root = math.sqrt(len(row))
    return (root - l1_norm(row) / l2_norm(row)) / (root - 1)

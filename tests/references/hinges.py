"""What support-vector machines minimise, in plain loops over rows and classes.

Slow and obvious on purpose: no formula here shares code with the package.
"""

import math


def squared_hinge_objective(rows, labels, weights, bias, C):
    """Fan et al. 2008, Section 2 (L2-loss), one class against the rest, summed.

    `weights` has one row per feature; the bias counts as one more feature of value 1.
    """
    total = 0.0
    for c in range(len(bias)):
        w = [row[c] for row in weights]
        total += math.fsum(x**2 for x in [*w, bias[c]]) / 2
        for row, label in zip(rows, labels, strict=True):
            y = 1 if label == c else -1
            score = math.fsum(x * z for x, z in zip(row, w, strict=True)) + bias[c]
            total += C * max(0.0, 1 - y * score) ** 2
    return total

"""LiDAR as the paper prints it, in plain loops over objects and views.

Slow and obvious on purpose: no formula here shares code with the package.
"""

import math

import numpy as np


def mean_of(rows):
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def outer_sum(differences):
    """Sum of v v^T, each entry summed exactly."""
    d = len(differences[0])
    return [
        [math.fsum(v[j] * v[k] for v in differences) for k in range(d)]
        for j in range(d)
    ]


def minus(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


def between(objects):
    """Sum over objects of (mu_x - mu)(mu_x - mu)^T; `objects` are lists of rows."""
    means = [mean_of(rows) for rows in objects]
    return outer_sum([minus(mean, mean_of(means)) for mean in means])


def within(objects):
    """Sum over all views of (e - mu_x)(e - mu_x)^T."""
    return outer_sum([minus(e, mean_of(rows)) for rows in objects for e in rows])


def lidar(objects, delta=1e-4, epsilon=1e-7, ddof=1):
    """Thilak et al. 2023, the definition: S_w^-1/2 S_b S_w^-1/2 by a general solver.

    Its eigenvalues are those of S_w^-1 S_b, which is not symmetric.
    """
    d, n = len(objects[0][0]), len(objects)
    views = sum(len(rows) for rows in objects)
    s_b = np.array(between(objects)) / (n - ddof)
    s_w = np.array(within(objects)) / views + delta * np.eye(d)
    eigenvalues = np.linalg.eigvals(np.linalg.solve(s_w, s_b)).real.tolist()
    # Rounding leaves eigenvalues of -1e-17 where there are none.
    eigenvalues = [max(value, 0.0) for value in eigenvalues]
    total = math.fsum(eigenvalues)
    shares = [value / total + epsilon for value in eigenvalues]
    return math.exp(-math.fsum(p * math.log(p) for p in shares))


def flat_with_epsilon(rank, d, epsilon=1e-7):
    """The closed form for `rank` equal eigenvalues of d."""
    equal, none = 1 / rank + epsilon, epsilon
    entropy = -rank * equal * math.log(equal) - (d - rank) * none * math.log(none)
    return math.exp(entropy)

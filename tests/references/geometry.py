"""Geometry of directions and similarity of features, in plain loops over rows.

Slow and obvious on purpose: no formula here shares code with the package.
"""

import itertools
import math

from references.classifiers import cosine


def unit(row):
    length = math.hypot(*row)
    return [x / length for x in row]


def uniformity(rows, t):
    """Wang, Isola 2020: log E exp(-t |u - v|^2) over pairs of different rows."""
    units = [unit(row) for row in rows]
    values = [
        math.exp(-t * math.dist(a, b) ** 2) for a, b in itertools.combinations(units, 2)
    ]
    return math.log(math.fsum(values) / len(values))


def mean_cosine(rows):
    values = [cosine(a, b) for a, b in itertools.combinations(rows, 2)]
    return math.fsum(values) / len(values)


def tolerance(rows, labels):
    """Mean cosine of two different rows of one class, every such pair alike."""
    values = [
        cosine(rows[i], rows[j])
        for i, j in itertools.combinations(range(len(rows)), 2)
        if labels[i] == labels[j]
    ]
    return math.fsum(values) / len(values)


def occurrences(rows, k):
    """How many other rows have each row among their k most similar; ties: the first."""
    counts = [0] * len(rows)
    for i, row in enumerate(rows):
        others = [j for j in range(len(rows)) if j != i]
        others.sort(key=lambda j: (-round(cosine(rows[j], row), 12), j))
        for j in others[:k]:
            counts[j] += 1
    return counts


def skewness(values):
    """Radovanovic et al. 2010, Eq. 1: E (N - mean)^3 / std^3."""
    mean = math.fsum(values) / len(values)
    second = math.fsum((v - mean) ** 2 for v in values) / len(values)
    third = math.fsum((v - mean) ** 3 for v in values) / len(values)
    return third / second**1.5


def gram(rows):
    return [
        [math.fsum(x * y for x, y in zip(a, b, strict=True)) for b in rows]
        for a in rows
    ]


def centred(matrix):
    """H K H with H = I - 1 1' / n, entry by entry."""
    n = len(matrix)
    means = [math.fsum(row) / n for row in matrix]
    columns = [math.fsum(column) / n for column in zip(*matrix, strict=True)]
    mean = math.fsum(means) / n
    return [
        [matrix[i][j] - means[i] - columns[j] + mean for j in range(n)]
        for i in range(n)
    ]


def trace_of_product(k, m):
    n = len(k)
    return math.fsum(k[i][j] * m[j][i] for i in range(n) for j in range(n))


def linear_cka(x, y):
    """Kornblith et al. 2019, Eqs. 3-4: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))."""
    k, m = centred(gram(x)), centred(gram(y))
    return trace_of_product(k, m) / math.sqrt(
        trace_of_product(k, k) * trace_of_product(m, m)
    )


def unbiased_hsic(k, m):
    """Song et al. 2012, Eq. 4: the U-statistic over all ordered quadruples."""
    n = len(k)
    total = math.fsum(
        k[i][j] * (m[i][j] + m[q][r] - 2 * m[i][q])
        for i, j, q, r in itertools.permutations(range(n), 4)
    )
    return total / (n * (n - 1) * (n - 2) * (n - 3))


def debiased_cka(x, y):
    """Nguyen et al. 2021: linear CKA of unbiased terms."""
    k, m = gram(x), gram(y)
    return unbiased_hsic(k, m) / math.sqrt(unbiased_hsic(k, k) * unbiased_hsic(m, m))

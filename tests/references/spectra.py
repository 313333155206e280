"""The spectral formulas as the papers print them, in plain loops over Python floats.

Slow and obvious on purpose: no formula here shares code with the package.
"""

import math


def column_means(rows):
    n, d = len(rows), len(rows[0])
    return [math.fsum(row[k] for row in rows) / n for k in range(d)]


def scatter(rows):
    """Sum over rows of (x - mean)(x - mean)^T, each entry summed exactly."""
    d = len(rows[0])
    means = column_means(rows)
    centred = [[row[k] - means[k] for k in range(d)] for row in rows]
    return [
        [math.fsum(row[j] * row[k] for row in centred) for k in range(d)]
        for j in range(d)
    ]


def exponential_entropy(values):
    """exp(-sum p log p) with p the values over their sum (Roy, Vetterli 2007)."""
    total = math.fsum(values)
    shares = [value / total for value in values]
    return math.exp(-math.fsum(p * math.log(p) for p in shares if p > 0))


def rankme(singular_values, epsilon=1e-7):
    """Garrido et al. 2023, Eq. 1: epsilon is added after normalising."""
    total = math.fsum(singular_values)
    shares = [value / total + epsilon for value in singular_values]
    return math.exp(-math.fsum(p * math.log(p) for p in shares))


def participation_ratio(eigenvalues):
    total = math.fsum(eigenvalues)
    return total**2 / math.fsum(value**2 for value in eigenvalues)


def components_for(eigenvalues, share):
    """The least k whose first k eigenvalues hold the share of their sum."""
    total = math.fsum(eigenvalues)
    for k in range(1, len(eigenvalues) + 1):
        if math.fsum(eigenvalues[:k]) >= share * total:
            return k
    return len(eigenvalues)


def weighted_power_law(values, first, last):
    """Solve the 2 x 2 normal equations of log value = a - alpha log k, weights 1/k.

    Returns alpha, the intercept a and the weighted R squared.
    """
    ranks = range(first, last + 1)
    weight = {k: 1.0 / k for k in ranks}
    y = {k: math.log(values[k - 1]) for k in ranks}
    x = {k: -math.log(k) for k in ranks}
    s0 = math.fsum(weight[k] for k in ranks)
    s1 = math.fsum(weight[k] * x[k] for k in ranks)
    s2 = math.fsum(weight[k] * x[k] ** 2 for k in ranks)
    t0 = math.fsum(weight[k] * y[k] for k in ranks)
    t1 = math.fsum(weight[k] * x[k] * y[k] for k in ranks)
    determinant = s0 * s2 - s1**2
    alpha = (s0 * t1 - s1 * t0) / determinant
    intercept = (s2 * t0 - s1 * t1) / determinant
    residual = math.fsum(
        weight[k] * (y[k] - intercept - alpha * x[k]) ** 2 for k in ranks
    )
    spread = math.fsum(weight[k] * (y[k] - t0 / s0) ** 2 for k in ranks)
    return alpha, intercept, 1 - residual / spread


def weighted_slope_error(values, first, last):
    """Spec N.2: the root of s^2 (X^T W X)^-1, s^2 = sum w r^2 / (m - 2), w = 1/k."""
    ranks = range(first, last + 1)
    alpha, intercept, _ = weighted_power_law(values, first, last)
    s0 = math.fsum(1.0 / k for k in ranks)
    s1 = math.fsum(-math.log(k) / k for k in ranks)
    s2 = math.fsum(math.log(k) ** 2 / k for k in ranks)
    squares = math.fsum(
        (math.log(values[k - 1]) - intercept + alpha * math.log(k)) ** 2 / k
        for k in ranks
    )
    variance = squares / (len(ranks) - 2) * s0 / (s0 * s2 - s1**2)
    return math.sqrt(variance)


def equal_power_law(values, first, last):
    """Ordinary least squares of log value on log rank, by sums of deviations."""
    ranks = range(first, last + 1)
    x = [math.log(k) for k in ranks]
    y = [math.log(values[k - 1]) for k in ranks]
    x_mean, y_mean = math.fsum(x) / len(x), math.fsum(y) / len(y)
    above = math.fsum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True))
    return -above / math.fsum((a - x_mean) ** 2 for a in x)


def hill(values, count):
    """Hill 1975: the mean log of the count largest over the next one."""
    logs = [math.log(values[k] / values[count]) for k in range(count)]
    return math.fsum(logs) / count


def median_of_octaves(values, first, last):
    """The median of the exponents over ranks k to 2 k within the given ranks."""
    slopes = sorted(
        equal_power_law(values, k, 2 * k)
        for k in range(first, last + 1)
        if 2 * k <= last
    )
    middle = len(slopes) // 2
    if len(slopes) % 2:
        return slopes[middle]
    return (slopes[middle - 1] + slopes[middle]) / 2


def bartlett_r(eigenvalues, k):
    """Bartlett et al. 2020, Definition 3; eigenvalues[i] is their lambda_{i+1}."""
    return math.fsum(eigenvalues[k:]) / eigenvalues[k]


def bartlett_large_r(eigenvalues, k):
    tail = eigenvalues[k:]
    return math.fsum(tail) ** 2 / math.fsum(value**2 for value in tail)


def delete_one_variance(replicates):
    """Tukey 1958: (n - 1)/n times the sum of squares about the mean replicate."""
    n = len(replicates)
    mean = math.fsum(replicates) / n
    return (n - 1) / n * math.fsum((one - mean) ** 2 for one in replicates)


def delete_group_variance(value, replicates, sizes):
    """Busing, Meijer, Van der Leeden 1999, Eqs. 7-9, one block at a time."""
    n, g = sum(sizes), len(sizes)
    estimate = g * value
    for size, replicate in zip(sizes, replicates, strict=True):
        estimate -= (1 - size / n) * replicate
    total = 0.0
    for size, replicate in zip(sizes, replicates, strict=True):
        h = n / size
        pseudo = h * value - (h - 1) * replicate
        total += (pseudo - estimate) ** 2 / (h - 1)
    return total / g

"""The clustering formulas as the papers print them, in plain loops over rows.

Slow and obvious on purpose: no formula here shares code with the package.
"""

import math


def squared_distance(a, b):
    return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def centre(rows):
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def by_class(rows, labels):
    groups = {}
    for row, label in zip(rows, labels, strict=True):
        groups.setdefault(label, []).append(row)
    return dict(sorted(groups.items()))


def class_variance(rows):
    """E |f - centre|^2."""
    middle = centre(rows)
    return math.fsum(squared_distance(row, middle) for row in rows) / len(rows)


def within_variance(rows, labels):
    groups = by_class(rows, labels)
    return math.fsum(class_variance(group) for group in groups.values()) / len(groups)


def _pairs(groups):
    return [(i, j) for i in groups for j in groups if i != j]


def cdnv(rows, labels):
    """Galanti et al. 2022: mean of (v_i + v_j) / (2 |mu_i - mu_j|^2) over i != j."""
    groups = by_class(rows, labels)
    ratios = []
    for i, j in _pairs(groups):
        gap = squared_distance(centre(groups[i]), centre(groups[j]))
        width = class_variance(groups[i]) + class_variance(groups[j])
        ratios.append(width / (2 * gap))
    return math.fsum(ratios) / len(ratios)


def between_squared_distance(rows, labels):
    groups = by_class(rows, labels)
    gaps = [
        squared_distance(centre(groups[i]), centre(groups[j]))
        for i, j in _pairs(groups)
    ]
    return math.fsum(gaps) / len(gaps)


def nearest_centre(row, centres):
    """The class of the nearest centre; of several, the smallest class."""
    gaps = [(squared_distance(row, middle), label) for label, middle in centres.items()]
    return min(gaps)[1]


def variance_share(rows, labels):
    """Kelley 1935: epsilon squared, with sums of squares over all dimensions."""
    groups = by_class(rows, labels)
    grand = centre(rows)
    within = math.fsum(
        squared_distance(row, centre(group))
        for group in groups.values()
        for row in group
    )
    total = math.fsum(squared_distance(row, grand) for row in rows)
    mean_within = within / (len(rows) - len(groups))
    return (total - within - (len(groups) - 1) * mean_within) / total


def class_collapse_index(fine_groups, parents, *, corrected):
    """Mean subclass distance per class, over the mean distance of classes.

    `fine_groups`: subclass -> rows; `parents`: subclass -> class.
    """

    def distance(a, b):
        gap = squared_distance(centre(a), centre(b))
        noise = sum(class_variance(g) / max(len(g) - 1, 1) for g in (a, b))
        return math.sqrt(max(gap - noise, 0)) if corrected else math.sqrt(gap)

    def mean_distance(groups):
        gaps = [distance(groups[i], groups[j]) for i, j in _pairs(groups)]
        return math.fsum(gaps) / len(gaps)

    classes = sorted(set(parents.values()))
    within = []
    merged = {}
    for one in classes:
        members = {k: rows for k, rows in fine_groups.items() if parents[k] == one}
        merged[one] = [row for rows in members.values() for row in rows]
        if len(members) > 1:
            within.append(mean_distance(members))
    return math.fsum(within) / len(within) / mean_distance(merged)

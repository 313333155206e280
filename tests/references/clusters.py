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


def _scatter(rows, middle, weights=None):
    """sum_i w_i (f_i - middle)(f_i - middle)^T, entry by entry."""
    d = len(middle)
    weights = weights or [1.0] * len(rows)
    apart = [[x - m for x, m in zip(row, middle, strict=True)] for row in rows]
    return [
        [
            math.fsum(
                w * one[i] * one[j] for w, one in zip(weights, apart, strict=True)
            )
            for j in range(d)
        ]
        for i in range(d)
    ]


def neural_collapse_1(rows, labels, pseudo_inverse):
    """Papyan et al. 2020: tr(S_W S_B^+) / C; the pseudo-inverse is given."""
    groups = by_class(rows, labels)
    d, n_classes = len(rows[0]), len(groups)
    within = [[0.0] * d for _ in range(d)]
    for group in groups.values():
        own = _scatter(group, centre(group))
        within = [
            [x + y / len(rows) for x, y in zip(a, b, strict=True)]
            for a, b in zip(within, own, strict=True)
        ]
    centres = [centre(group) for group in groups.values()]
    between = _scatter(centres, centre(centres), [1 / n_classes] * n_classes)
    inverse = pseudo_inverse(between)
    product = math.fsum(
        within[i][j] * float(inverse[j][i]) for i in range(d) for j in range(d)
    )
    return product / n_classes


def _spread(values):
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((x - mean) ** 2 for x in values) / len(values)), mean


def neural_collapse_2(rows, labels):
    """Variation of lengths, deviation of cosines, mean distance from -1 / (C - 1)."""
    centres = [centre(group) for group in by_class(rows, labels).values()]
    middle = centre(centres)
    apart = [[x - m for x, m in zip(one, middle, strict=True)] for one in centres]
    lengths = [math.hypot(*one) for one in apart]
    deviation, mean = _spread(lengths)
    cosines = [
        math.fsum(x * y for x, y in zip(a, b, strict=True))
        / math.hypot(*a)
        / math.hypot(*b)
        for i, a in enumerate(apart)
        for b in apart[:i]
    ]
    ideal = -1 / (len(centres) - 1)
    far = math.fsum(abs(one - ideal) for one in cosines) / len(cosines)
    return deviation / mean, _spread(cosines)[0], far


def silhouettes(rows, labels):
    """Rousseeuw 1987, Section 2; a row alone in its class has 0."""
    values = []
    for i, row in enumerate(rows):
        distances = {}
        for j, other in enumerate(rows):
            if i != j:
                distances.setdefault(labels[j], []).append(math.dist(row, other))
        if labels[i] not in distances:
            values.append(0.0)
            continue
        means = {k: math.fsum(x) / len(x) for k, x in distances.items()}
        own = means.pop(labels[i])
        nearest = min(means.values())
        greatest = max(own, nearest)
        values.append((nearest - own) / greatest if greatest else 0.0)
    return values


def adjusted_rand_index(first, second):
    """Hubert, Arabie 1985, from every pair of rows."""
    n = len(first)
    pairs = [(i, j) for i in range(n) for j in range(i)]
    a = sum(first[i] == first[j] for i, j in pairs)
    b = sum(second[i] == second[j] for i, j in pairs)
    both = sum(first[i] == first[j] and second[i] == second[j] for i, j in pairs)
    expected = a * b / len(pairs)
    return (both - expected) / ((a + b) / 2 - expected)


def _entropy(values):
    shares = [values.count(one) / len(values) for one in set(values)]
    return -math.fsum(share * math.log(share) for share in shares)


def normalised_mutual_information(first, second):
    """2 (H(X) + H(Y) - H(X, Y)) / (H(X) + H(Y))."""
    joint = _entropy(list(zip(first, second, strict=True)))
    total = _entropy(first) + _entropy(second)
    return 2 * (total - joint) / total


def deviance(profile):
    """How far the greatest feature of a mean row stands out from its features."""
    deviation, mean = _spread(profile)
    return (max(profile) - mean) / deviation


def exclusivity(profiles, top):
    """The share of the classes' greatest features that only one class has."""
    owners = {}
    for label, profile in enumerate(profiles):
        order = sorted(range(len(profile)), key=lambda k: (-profile[k], k))
        for k in order[:top]:
            owners.setdefault(k, set()).add(label)
    return sum(len(one) == 1 for one in owners.values()) / len(owners)


def active_share(rows, k, deviations):
    """The share of rows whose feature k exceeds mean + deviations x std of the row."""
    active = 0
    for row in rows:
        deviation, mean = _spread(row)
        active += row[k] > mean + deviations * deviation
    return active / len(rows)


def cause_of_error(row, own, predicted, heatmaps):
    """Spec of the causes: missing, spurious or confusable.

    `own`, `predicted`: dominant features of the class and of the prediction;
    `heatmaps`: for each, (energy of this row, 10th percentile of right answers).
    """

    def z(k):
        deviation, mean = _spread(row)
        return (row[k] - mean) / deviation if deviation else 0.0

    if z(own) < 2:
        return "missing"
    for k, (energy, least) in zip((own, predicted), heatmaps, strict=False):
        if z(k) >= 2 and energy < least:
            return "spurious"
    return "confusable"

"""What probes compute, in plain loops over rows and classes.

Slow and obvious on purpose: no formula here shares code with the package.
"""

import math


def logistic_objective(rows, labels, weights, bias, penalty):
    """Sum of cross-entropies + penalty / 2 |W|^2; `weights` has one row per feature."""
    total = 0.0
    for row, label in zip(rows, labels, strict=True):
        logits = [
            bias[c] + math.fsum(x * w[c] for x, w in zip(row, weights, strict=True))
            for c in range(len(bias))
        ]
        total += math.log(math.fsum(math.exp(z) for z in logits)) - logits[label]
    return total + penalty / 2 * math.fsum(w**2 for one in weights for w in one)


def cosine(a, b):
    product = math.fsum(x * y for x, y in zip(a, b, strict=True))
    lengths = math.hypot(*a) * math.hypot(*b)
    return product / lengths if lengths else 0.0


def nearest(bank, query, k):
    """The k rows of greatest cosine; of ties, the first."""
    order = sorted(
        range(len(bank)), key=lambda i: (-round(cosine(bank[i], query), 12), i)
    )
    return order[:k]


def neighbour_votes(bank, labels, query, n_classes, k, temperature):
    """Wu et al. 2018, Eq. in Section 3.4: sum of exp(cosine / temperature)."""
    votes = [0.0] * n_classes
    for i in nearest(bank, query, k):
        votes[labels[i]] += math.exp(cosine(bank[i], query) / temperature)
    return votes

"""S2-F5: which negatives does a draw by the skew normal take from a queue?

Nothing is trained: keys and queries are pictures of digits as vectors. Ranks u go from
0, the negative most similar to the queries, to 1, the least.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from repscope.data.imageset import ImageSet
from repscope.data.sources import open_images
from repscope.experiments.digits_recipes import digits_recipe
from repscope.experiments.experiment import (
    Condition,
    Experiment,
    Observation,
    Quantity,
    Workplace,
)
from repscope.objectives.batch import ViewBatch
from repscope.objectives.catalogue import build_objective
from repscope.objectives.directions import directions
from repscope.objectives.momentum_contrast import MoCo
from repscope.objectives.negatives import hard_negatives, skew_normal_weights
from repscope.training.recipe import Recipe
from repscope.training.sections import EncoderSection, HeadSection, ObjectiveSection

K, N_QUERIES, N_DRAWS = 1024, 256, 50
GREATEST_RANK = 0.35
# Ranks from, to: the very hardest, which are often of the query's class; those that
# the draw is meant to favour; and the easy ones.
BANDS = {"hardest": (0.0, 0.02), "semi_hard": (0.1, 0.3), "easy": (0.7, 1.0)}


def recipe_with(**options: object) -> Recipe:
    """Return the recipe of MoCo with a queue of `K` keys, some of which are drawn."""
    return digits_recipe(
        encoder=EncoderSection(name="res_lh", depth=2, width=32),
        head=HeadSection(name="mlp2", hidden=64, out=32),
        objective=ObjectiveSection(
            name="moco", options={"queue": K, "mining": "skew_normal", **options}
        ),
        epochs=1,
    )


def measure(
    recipes: Mapping[str, Recipe], place: Workplace
) -> Mapping[str, Observation]:
    """Return which ranks are drawn, how often in all, and what becomes of the queue.

    Args:
        recipes: "mined" and "uniform", whose objectives are used; nothing is trained.
        place: is not used.
    """
    train, test = (open_images("digits", split=split) for split in ("train", "test"))
    centre = _vectors(train).mean(dim=0)
    keys = directions(_vectors(train)[:K] - centre)
    queries = directions(_vectors(test)[:N_QUERIES] - centre)
    found: dict[str, float] = {}
    for name, recipe in recipes.items():
        objective = build_objective("moco", recipe.objective.options)
        assert isinstance(objective, MoCo)
        numbers = _drawn(objective, queries @ keys.T)
        found |= {f"{name}_{key}": one for key, one in numbers.items()}
        found["queue_changed"] = max(
            found.get("queue_changed", 0.0), _changed_by_loss(objective, queries, keys)
        )
    # of both, the worse
    found["number"] = min(found.pop(f"{name}_number") for name in recipes)
    return {name: Observation(one) for name, one in found.items()}


def _vectors(images: ImageSet) -> Float[Tensor, "n d"]:
    pixels = images.pixels(np.arange(images.n)).array
    return torch.from_numpy(pixels.reshape(images.n, -1)).float() / 255


def _drawn(objective: MoCo, similarities: Float[Tensor, "n k"]) -> dict[str, float]:
    """Return what many draws have in common, as `measure` names it."""
    chances = skew_normal_weights(
        K, objective.location, objective.scale, objective.skewness
    )
    order = similarities.mean(dim=0).argsort(descending=True, stable=True)
    counts: list[Int[Tensor, " k"]] = []
    for draw in range(N_DRAWS):
        generator = torch.Generator().manual_seed(draw)
        drawn = hard_negatives(similarities, chances, generator, rank_by="batch")
        counts.append(drawn.counts[order])
    of_ranks = torch.stack(counts).double()  # (draws, ranks), the hardest first
    ranks = torch.linspace(0, 1, K, dtype=torch.float64)
    shares = of_ranks.sum(dim=0) / of_ranks.sum()
    similarity = similarities.mean(dim=0)[order].double()
    densities = {
        band: float(shares[(ranks >= low) & (ranks < high)].sum() / (high - low))
        for band, (low, high) in BANDS.items()
    }
    return densities | {
        "mean_rank": float((shares * ranks).sum()),
        "similarity": float((shares * similarity).sum()),
        "number": float((of_ranks.sum(dim=1) == K).double().mean()),
        "unique": float((of_ranks > 0).double().mean()),
    }


def _changed_by_loss(
    objective: MoCo, queries: Float[Tensor, "n m"], keys: Float[Tensor, "k m"]
) -> float:
    """Return the share of the queue's rows that differ after the loss was computed."""
    memory = {"queue": keys.clone(), "queue_labels": torch.full((len(keys),), -1)}
    objective(ViewBatch(h=(), z=(queries,), targets=(queries,), memory=memory))
    same = (memory["queue"] == keys).all(dim=1)
    return float(1 - same.double().mean())


# Of the density itself at K ranks: its mean, shares of bands over their widths, and the
# mean of 1 - (1 - w)^K.
_EXPECTED = {
    "mined": {
        "mean_rank": 0.294,
        "hardest": 1.39,
        "semi_hard": 2.02,
        "easy": 0.149,
        "unique": 0.527,
    },
    "uniform": {
        "mean_rank": 0.5,
        "hardest": 1.0,
        "semi_hard": 1.0,
        "easy": 1.0,
        "unique": 0.632,
    },
}
# About three standard errors of 50 x 1,024 draws.
_TOLERANCES = {
    "mean_rank": 0.005,
    "hardest": 0.15,
    "semi_hard": 0.04,
    "easy": 0.03,
    "unique": 0.005,
}
_TITLES = {
    "mean_rank": "mean rank u",
    "hardest": "density of u in 0 to .02",
    "semi_hard": "density of u in .1 to .3",
    "easy": "density of u in .7 to 1",
    "unique": "share of the queue that is drawn",
}

EXPERIMENT = Experiment(
    id="S2-F5",
    title="Hard negatives by a skew normal",
    claim="Drawn by a skew normal over their ranks, negatives are mostly hard but less "
    "often the very hardest, and as many as the queue holds.",
    source="Appalaraju et al. 2020, Fig. 5 and section 3.3",
    recipes={
        "mined": recipe_with(),
        "uniform": recipe_with(scale=1e6, skewness=0.0),
    },
    quantities=(
        *(
            Quantity(
                f"{name}_{key}",
                f"{name}: {title}",
                expected=_EXPECTED[name][key],
                tolerance=_TOLERANCES[key],
            )
            for name in _EXPECTED
            for key, title in _TITLES.items()
        ),
        Quantity("mined_similarity", "mined: mean similarity", 0.016, 0.002),
        Quantity("uniform_similarity", "uniform: mean similarity", 0.0, 0.002),
        Quantity("number", "draws with as many as the queue holds", 1.0, 0.0),
        Quantity("queue_changed", "keys of the queue that the loss changed", 0.0, 0.0),
    ),
    conditions=(
        Condition(
            f"the mean rank of what is drawn is below {GREATEST_RANK:g} (uniform: .5)",
            lambda n: n["mined_mean_rank"] < GREATEST_RANK,
        ),
        Condition(
            "the very hardest are drawn less than the semi-hard",
            lambda n: n["mined_hardest"] < n["mined_semi_hard"],
        ),
        Condition(
            f"each draw is of {K:,} negatives, as many as the queue holds",
            lambda n: n["number"] == 1,
        ),
        Condition("the queue itself is as it was", lambda n: n["queue_changed"] == 0),
    ),
    measure=measure,
    cost="nothing is trained: a second on a CPU core",
    caveats=(
        "The source shows the idea and gives no parameters: location 0, scale .35 and "
        "skewness 4 are ours.",
        "Ranked once, by the mean similarity of a negative with all queries.",
    ),
)

"""A batch that has all that an objective may need."""

import torch

from repscope.objectives.batch import ViewBatch
from repscope.objectives.objective import AbstractMemoryObjective, MemorySizes

N, WIDTH, PROTOTYPES = 6, 3, 5


def whole_batch(objective, *, seed: int = 0) -> ViewBatch:
    """Return random projections, predictions, targets, labels and first memory."""
    generator = torch.Generator().manual_seed(seed)

    def rows(width):
        return torch.randn(N, width, generator=generator).requires_grad_()

    needs = objective.needs
    predicted = {None: 0, "prototypes": PROTOTYPES, "classes": 2}
    width = predicted.get(needs.predictor, WIDTH)
    trained = needs.trained_views or 2
    targets = () if needs.target is None else needs.target.views
    memory = {}
    if isinstance(objective, AbstractMemoryObjective):
        memory = objective.first_memory(MemorySizes(N, WIDTH, width), generator)
    prototypes = torch.nn.functional.normalize(rows(WIDTH).detach()[:PROTOTYPES])
    return ViewBatch(
        h=(),
        z=tuple(rows(WIDTH) for _ in range(trained)),
        predictions=tuple(rows(width) for _ in range(trained if width else 0)),
        targets=tuple(rows(WIDTH).detach() for _ in targets),
        ids=torch.arange(N),
        labels=torch.arange(N) % 2,
        memory=memory,
        prototypes=prototypes if needs.predictor == "prototypes" else None,
    )

"""Work for several cores at once: as many threads as BLAS would take, BLAS one each.

Selecting and measuring run beside products then, rather than after them.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import threadpoolctl

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Workers:
    """Threads that share a job.

    Args:
        count: how many.
        pool: that runs them; None where the caller's thread does it all.
    """

    count: int = 1
    pool: ThreadPoolExecutor | None = None

    def each(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> list[Result]:
        """Return the function's result of each item, in order."""
        if self.pool is None:
            return [function(item) for item in items]
        return list(self.pool.map(function, items))


@contextlib.contextmanager
def worker_threads() -> Iterator[Workers]:
    """Yield as many threads as BLAS was allowed, which is held to one meanwhile."""
    libraries = threadpoolctl.threadpool_info()
    allowed = [one["num_threads"] for one in libraries if one["user_api"] == "blas"]
    count = max(allowed, default=1)
    if count == 1:
        yield Workers()
        return
    with (
        threadpoolctl.threadpool_limits(1, user_api="blas"),
        ThreadPoolExecutor(count) as pool,
    ):
        yield Workers(count, pool)

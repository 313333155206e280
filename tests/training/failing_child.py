"""`repscope train` on a rank of a job, of which one breaks after two steps.

Call: failing_child.py BROKEN_RANK WORD ...
"""

import os
import sys

from repscope import cli
from repscope.training.learner import Learner

original = Learner.take_step


def take_step(self, *arguments, **options):
    if self.step == 2 and os.environ["RANK"] == sys.argv[1]:
        raise ValueError("this rank is broken on purpose")
    return original(self, *arguments, **options)


if __name__ == "__main__":
    Learner.take_step = take_step
    sys.exit(cli.main(["train", *sys.argv[2:]]))

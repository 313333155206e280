"""With which weights does a run begin, where not with random ones?

Weights alone are taken over: neither step numbers nor the optimiser's memory, and no
head. That is another run, not the continuation of one.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from repscope._checking import InputError
from repscope.files.file_access import local_path
from repscope.models.backbones import Backbone
from repscope.models.encoder import Encoder
from repscope.models.weights import weights_fingerprint
from repscope.training.checkpoint import step_of
from repscope.training.run_folder import ENCODER_NAME
from repscope.training.saved_run import checkpoint_of, weights_of


def read_weights(
    backbone: Backbone, source: str | Path | Encoder
) -> tuple[Mapping[str, Tensor], str]:
    """Return the weights that a backbone is to begin with, and a word on where from.

    Args:
        backbone: that they must fit.
        source: an encoder, its file, the folder of a run, finished or not, or one of
            the checkpoints in it.

    Raises:
        InputError: where the weights are those of another network, or there are none.
    """
    name, state = _weights_of(source)
    own = backbone.state_dict()
    wrong = [key for key in own if key not in state] + [
        key for key in state if key not in own or own[key].shape != state[key].shape
    ]
    if wrong:
        raise InputError(
            f"{name}: the weights are those of another network",
            found=f"{wrong[0]} and {len(wrong) - 1} more do not fit",
            expected=str(backbone.architecture),
            fix="give the encoder of the recipe the same name, depth and width",
        )
    return state, f"{name}, weights {weights_fingerprint(state)}"


def _weights_of(source: str | Path | Encoder) -> tuple[str, Mapping[str, Tensor]]:
    if isinstance(source, Encoder):
        return source.name, source.module.state_dict()
    path = local_path(source)
    file = path / ENCODER_NAME if path.is_dir() else path
    if file.is_file() and step_of(file.name) is None:
        encoder = Encoder.load(file)
        return encoder.name, encoder.module.state_dict()
    found = checkpoint_of(path)
    run = path if path.is_dir() else path.resolve().parent.parent
    return f"{run.name}, step {found.step}", weights_of(found, path)

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
from repscope.training.checkpoint import load_latest
from repscope.training.run_folder import CHECKPOINTS_NAME, ENCODER_NAME


def load_weights(backbone: Backbone, source: str | Path | Encoder) -> str:
    """Give a backbone the weights of another one, and return a word on where from.

    Args:
        backbone: its weights are replaced.
        source: an encoder, its file, or the folder of a run, finished or not.

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
    backbone.load_state_dict(dict(state))
    return f"{name}, weights {weights_fingerprint(state)}"


def _weights_of(source: str | Path | Encoder) -> tuple[str, Mapping[str, Tensor]]:
    if isinstance(source, Encoder):
        return source.name, source.module.state_dict()
    path = local_path(source)
    if path.is_dir() and not (path / ENCODER_NAME).is_file():
        found = load_latest(path / CHECKPOINTS_NAME)
        return f"{path.name}, step {found.step}", found.state["backbone"]
    file = path / ENCODER_NAME if path.is_dir() else path
    encoder = Encoder.load(file)
    return encoder.name, encoder.module.state_dict()

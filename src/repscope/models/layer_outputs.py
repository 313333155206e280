"""What a layer of any network holds: its outputs by forward hooks, pooled to vectors.

Outputs are pooled inside the hook. So a later operation in place (a ReLU of
torchvision, a residual sum) cannot change them, and maps do not pile up in memory.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal, get_args

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from repscope._checking import InputError, UsageError, check_choice

Pool = Literal["gap", "cls", "mean", "flatten"]
# The path by which torch names a module itself.
WHOLE_MODULE = ""


def pooled_outputs(
    module: nn.Module,
    images: Float[Tensor, "n c h w"],
    paths: Mapping[str, str],
    pool: Pool = "gap",
) -> dict[str, Float[Tensor, "n _"]]:
    """Return one vector per image and layer, all layers from one forward pass.

    A submodule that runs several times (a shared ReLU) counts with its last output. Of
    a tuple, list or dictionary the first tensor is taken. The hooks are removed in any
    case; training mode and gradients stay as the caller set them.

    Args:
        module: the network; it is called with the images alone.
        images: as the network wants them.
        paths: name of a layer → path of its submodule, "" for what the module returns.
        pool: "gap", the mean over positions of maps (n c h w); "cls", the first of the
            tokens (n t d); "mean", the mean of all tokens, a class token included;
            "flatten", all values. Vectors (n d) stay as they are. Maps with channels
            last (n h w c) cannot be told apart from others and come out wrong.

    Raises:
        UsageError: where the pooling does not fit the shape of a layer.
        InputError: where a layer does not run, or gives no floating-point tensor with
            one entry per image.
    """
    check_choice("pool", pool, get_args(Pool))
    outputs: dict[str, Tensor] = {}

    def keeping(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            outputs[name] = pooled(first_tensor(output, name), pool, len(images), name)

        return hook

    with ExitStack() as hooks:
        for name, path in paths.items():
            handle = module.get_submodule(path).register_forward_hook(keeping(name))
            hooks.callback(handle.remove)
        module(images)
    for name in paths:
        if name not in outputs:
            raise InputError(
                f"layer {name}: did not run in the forward pass",
                fix="choose a layer that the network calls for images",
            )
    return {name: outputs[name] for name in paths}


def listed(layers: Sequence[str]) -> list[str]:
    """Return the layers' names as a list.

    Raises:
        UsageError: for a single text, whose letters would be taken for names, or none.
    """
    if isinstance(layers, str) or not layers:
        raise UsageError(
            "layers: a list of names is needed",
            found=repr(layers),
            fix=f"layers=[{layers!r}]" if layers else "name one layer at least",
        )
    return list(layers)


def first_tensor(output: Any, layer: str) -> Tensor:
    """Return a layer's output, or the first tensor in its tuple, list or dictionary.

    Raises:
        InputError: where there is none.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, tuple | list):
        for entry in output:
            if isinstance(entry, Tensor):
                return entry
    raise InputError(
        f"layer {layer}: gives no tensor",
        found=type(output).__name__,
        expected="a tensor, or a tuple, list or dictionary with one",
        fix="choose a submodule of it as the layer",
    )


def pooled(
    output: Shaped[Tensor, "..."], pool: Pool, n_images: int, layer: str
) -> Float[Tensor, "n _"]:
    """Return a layer's output as one vector per image; see `pooled_outputs`.

    Raises:
        UsageError: where the pooling does not fit the shape.
        InputError: where there is not one entry per image.
    """
    shape = tuple(output.shape)
    if not output.is_floating_point() or len(shape) < 2 or shape[0] != n_images:
        raise InputError(
            f"layer {layer}: not one vector, map or list of tokens per image",
            found=f"{output.dtype} of shape {shape}",
            expected=f"floating point, {n_images} entries first",
            fix="choose another layer",
        )
    if len(shape) == 2:
        return output
    if pool == "flatten":
        return output.flatten(1).clone()  # no view: a later operation may be in place
    if len(shape) == 4 and pool == "gap":
        return output.mean(dim=(2, 3))
    if len(shape) == 3 and pool == "cls":
        return output[:, 0].clone()
    if len(shape) == 3 and pool == "mean":
        return output.mean(dim=1)
    fits = {4: "gap (maps) or flatten", 3: "cls, mean (tokens) or flatten"}
    raise UsageError(
        f"layer {layer}: pool {pool!r} does not fit its output",
        found=f"shape {shape}",
        expected=fits.get(len(shape), "flatten"),
    )

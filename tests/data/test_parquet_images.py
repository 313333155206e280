import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from data.encoded_cases import png, value_of
from data_files import cifar, data_file
from repscope._checking import InputError, MissingExtraError, UsageError
from repscope._images import Preprocess
from repscope.data import parquet_images
from repscope.data.cifar import CIFAR100
from repscope.data.parquet_images import open_parquet_images

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

PNGS = [png(value) for value in range(12)]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FINE, COARSE = [k % 4 for k in range(12)], [k % 4 // 2 for k in range(12)]
NAMES = {"fine": ["ant", "bee", "cat", "dog"], "coarse": ["insect", "pet"]}


def cells(pngs=PNGS):
    """Return a column of pictures as Hugging Face writes it."""
    values = [None if one is None else {"bytes": one, "path": "a.png"} for one in pngs]
    return pa.array(values, IMAGE)


def save(tmp_path, *, names=NAMES, rows=5, **columns):
    """Write a table in groups of 5 rows; `names` are the classes of its columns."""
    features = {
        column: {"names": classes, "_type": "ClassLabel"}
        for column, classes in names.items()
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table(columns).replace_schema_metadata(metadata)
    path = tmp_path / "pets.parquet"
    parquet.write_table(table, path, row_group_size=rows, write_page_checksum=True)
    return path


def test_each_row_is_its_cell_and_classes_have_their_names(tmp_path):
    path = save(tmp_path, coarse=COARSE, img=cells(), fine=FINE)
    pets = open_parquet_images(path)
    assert (pets.name, pets.n) == ("pets.parquet", 12)
    assert pets.ids.tolist() == list(range(12))
    assert [value_of(pets.images, row) for row in range(12)] == list(range(12))
    assert [level.name for level in pets.levels] == ["fine", "coarse"]
    assert pets.labels["fine"][:5].tolist() == ["ant", "bee", "cat", "dog", "ant"]
    assert pets.labels["coarse"][:4].tolist() == ["insect", "insect", "pet", "pet"]


def test_a_plain_binary_column_will_do(tmp_path):
    path = save(tmp_path, names={}, image=pa.array(PNGS, pa.binary()))
    pets = open_parquet_images(path)
    assert [value_of(pets.images, row) for row in (11, 0)] == [11, 0]
    assert pets.levels == ()


@pytest.mark.parametrize(
    ("labels", "names"),
    [(None, ["fine", "coarse"]), (["coarse"], ["coarse"]), ([], []), (["text"],) * 2],
)
def test_label_columns_are_chosen(labels, names, tmp_path):
    text = [f"word {k}" for k in FINE]
    path = save(tmp_path, img=cells(), fine=FINE, coarse=COARSE, text=text)
    pets = open_parquet_images(path, labels=labels)
    assert [level.name for level in pets.levels] == names


def test_without_class_names_the_columns_names_tell(tmp_path):
    path = save(tmp_path, names={}, img=cells(), label=FINE, width=FINE)
    (level,) = open_parquet_images(path).levels
    assert (level.name, level.classes) == ("label", ("0", "1", "2", "3"))


def test_a_label_column_that_is_not_there_is_named(tmp_path):
    path = save(tmp_path, img=cells(), fine=FINE)
    with pytest.raises(UsageError, match="has no label column 'fime'") as error:
        open_parquet_images(path, labels=["fime"])
    assert error.value.fix == "did you mean fine?"
    with pytest.raises(UsageError, match="has no label column 'img'"):
        open_parquet_images(path, labels=["img"])


def test_unlabelled_rows_are_refused_and_unlabelled_tables_read(tmp_path):
    path = save(tmp_path, img=cells(), fine=[-1, *FINE[1:]])
    with pytest.raises(InputError, match="`fine` lacks 1 of 12 labels"):
        open_parquet_images(path)
    assert open_parquet_images(path, labels=[]).n == 12
    assert open_parquet_images(save(tmp_path, img=cells(), fine=[-1] * 12)).levels == ()


def test_several_columns_of_pictures_need_a_choice(tmp_path):
    path = save(tmp_path, image=cells(), mask=cells(PNGS[::-1]))
    with pytest.raises(UsageError, match="2 columns could be the pictures") as error:
        open_parquet_images(path)
    assert error.value.found == "image, mask"
    assert value_of(open_parquet_images(path, column="mask").images, 0) == 11
    with pytest.raises(UsageError, match="no column of pictures 'masks'") as error:
        open_parquet_images(path, column="masks")
    assert error.value.fix == "did you mean mask?"


@pytest.mark.parametrize("empty", [None, b""])
def test_a_cell_without_a_picture_is_named(empty, tmp_path):
    path = save(tmp_path, img=cells([*PNGS[:7], empty, *PNGS[8:]]))
    pets = open_parquet_images(path)
    assert value_of(pets.images, 6) == 6
    with pytest.raises(InputError, match="row 7 of `img` holds no picture") as error:
        pets.images.read(7)
    assert "paths are not followed" in error.value.fix


def test_a_picture_that_is_none_names_its_row(tmp_path):
    path = save(tmp_path, img=cells([*PNGS[:7], b"<html>", *PNGS[8:]]))
    with pytest.raises(InputError, match="pets.parquet: row 7: is an HTML page, not a"):
        open_parquet_images(path).images.read(7)


def test_groups_are_read_when_asked_for_and_kept(tmp_path, monkeypatch):
    pets = open_parquet_images(save(tmp_path, img=cells()))
    opened = []
    monkeypatch.setattr(parquet_images, "open_table", spy(opened))
    for row in (0, 4, 11, 10, 0):
        assert value_of(pets.images, row) == row
    assert len(opened) == 2


def test_a_small_cache_holds_the_last_groups_only(tmp_path, monkeypatch):
    pets = open_parquet_images(save(tmp_path, img=cells()))
    opened = []
    monkeypatch.setattr(parquet_images, "open_table", spy(opened))
    monkeypatch.setattr(parquet_images, "CACHE_BYTES", 1)
    for row in (0, 4, 11, 10, 0):
        assert value_of(pets.images, row) == row
    assert len(opened) == 3


def spy(opened):
    """Return `open_table` that notes each call."""
    open_table = parquet_images.open_table

    def noted(path, stamp):
        opened.append(path)
        return open_table(path, stamp)

    return noted


def test_threads_read_the_same_as_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_images, "CACHE_BYTES", 1)
    pets = open_parquet_images(save(tmp_path, img=cells()))
    rows = list(range(12)) * 10
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda row: value_of(pets.images, row), rows)) == rows


def test_a_group_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    """One picture a thousand times takes no room in the file."""
    monkeypatch.setattr(parquet_images, "GROUP_BYTES", 2**20)
    large = np.random.default_rng(0).bytes(100_000)
    path = save(tmp_path, img=cells([large] * 1000), rows=1000)
    assert path.stat().st_size < 2**20
    with pytest.raises(InputError, match="row group 0 unpacks to more than") as error:
        open_parquet_images(path).images.read(0)
    assert "row_group_size" in error.value.fix


def test_a_table_without_pictures_says_what_it_holds(tmp_path):
    path = save(tmp_path, emb=[[1.0, 2.0]] * 3, label=[0, 1, 0])
    with pytest.raises(InputError, match="pets.parquet: holds no pictures") as error:
        open_parquet_images(path)
    assert error.value.found.startswith("emb (list<")
    assert error.value.fix == "if it holds features: repscope diagnose pets.parquet"


def test_a_table_without_rows_is_refused(tmp_path):
    with pytest.raises(InputError, match="pets.parquet: has no rows"):
        open_parquet_images(save(tmp_path, img=cells([])))


def test_repeated_names_are_refused(tmp_path):
    table = pa.table([cells(), cells()], names=["img", "img"])
    parquet.write_table(table, tmp_path / "two.parquet")
    with pytest.raises(InputError, match="two.parquet: damaged .two columns of one"):
        open_parquet_images(tmp_path / "two.parquet")


def test_other_files_are_named(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(InputError, match="is a Git-LFS pointer, not a Parquet table"):
        open_parquet_images(tmp_path / "x.parquet")
    with pytest.raises(InputError, match="is a folder, not a Parquet table") as error:
        open_parquet_images(tmp_path)
    assert error.value.fix == "pass one of its .parquet files"


def test_a_changed_byte_is_found_by_its_pages_checksum(tmp_path):
    random = np.random.default_rng(0)
    blobs = [random.bytes(200) for _ in range(12)]
    path = save(tmp_path, img=cells(blobs))
    content = bytearray(path.read_bytes())
    content[content.index(blobs[6]) + 20] ^= 1
    path.write_bytes(content)
    pets = open_parquet_images(path)
    assert pets.images.bytes_of(0) == blobs[0]
    with pytest.raises(InputError, match="pets.parquet: damaged .*CRC checksum"):
        pets.images.bytes_of(6)


def test_any_damage_gives_the_same_pictures_or_an_error(tmp_path):
    random = np.random.default_rng(1)
    blobs = [random.bytes(60) for _ in range(12)]
    path = save(tmp_path, img=cells(blobs), fine=FINE)
    content = path.read_bytes()
    for _ in range(100):
        damaged = bytearray(content)
        damaged[random.integers(len(damaged))] = random.integers(256)
        path.write_bytes(damaged)
        try:
            pets = open_parquet_images(path)
        except (InputError, UsageError):
            continue
        for row in range(pets.n):
            try:
                assert pets.images.bytes_of(row) in blobs
            except InputError:
                continue


@pytest.mark.parametrize("end", [4, 200, -1])
def test_a_truncated_table_is_refused(end, tmp_path):
    path = save(tmp_path, img=cells())
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(InputError, match="pets.parquet: (truncated|damaged)"):
        open_parquet_images(path)


def test_a_table_that_changes_is_found(tmp_path):
    path = save(tmp_path, img=cells())
    pets = open_parquet_images(path)
    save(tmp_path, img=cells(PNGS[:6]))
    with pytest.raises(InputError, match="pets.parquet: changed while it was read"):
        pets.images.read(0)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    path = save(tmp_path, img=cells())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="pets.parquet: pyarrow is needed") as e:
        open_parquet_images(path)
    assert e.value.fix == 'pip install "repscope[parquet]"'


def test_the_fingerprint_tells_tables_and_rows_apart(tmp_path):
    pets = open_parquet_images(save(tmp_path, img=cells()))
    rows = pets.subset([0, 1]).fingerprint, pets.subset([1, 2]).fingerprint
    assert open_parquet_images(save(tmp_path, img=cells())).fingerprint == (
        pets.fingerprint
    )
    edited = save(tmp_path, img=cells([png(9, side=5), *PNGS[1:]]))
    other = open_parquet_images(edited).fingerprint
    assert len({pets.fingerprint, other, *rows}) == 4


def test_cifar100_is_its_pictures_and_both_levels():
    cifar100 = open_parquet_images(data_file("cifar100-test.parquet"))
    assert cifar100.n == 10_000
    fine, coarse = cifar100.levels
    assert (fine.name, coarse.name) == ("fine_label", "coarse_label")
    assert np.bincount(fine.codes).tolist() == [100] * 100
    assert np.bincount(coarse.codes).tolist() == [500] * 20
    # codes in alphabetical order are those of the file
    pixels, labels = cifar("cifar100-test", 1500)
    np.testing.assert_array_equal(fine.codes[:1500], labels["fine_label"])
    np.testing.assert_array_equal(coarse.codes[:1500], labels["coarse_label"])
    for row in (0, 1, 999, 1000, 1499):
        np.testing.assert_array_equal(cifar100.images.read(row), pixels[row])
    chosen = cifar100.subset(np.arange(0, 10_000, 2000))
    assert chosen.pixels(np.arange(5), Preprocess(32)).array.shape == (5, 32, 32, 3)


def test_the_classes_of_cifar100_are_those_of_the_file():
    cifar100 = open_parquet_images(data_file("cifar100-test.parquet"))
    fine, coarse = cifar100.levels
    assert fine.classes == CIFAR100.fine
    assert coarse.classes == CIFAR100.coarse
    np.testing.assert_array_equal(CIFAR100.parents[fine.codes], coarse.codes)


def test_cifar10_has_one_level():
    cifar10 = open_parquet_images(data_file("cifar10-test.parquet"))
    (level,) = cifar10.levels
    assert level.classes[:3] == ("airplane", "automobile", "bird")
    assert np.bincount(level.codes).tolist() == [200] * 10

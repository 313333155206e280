"""Pictures of rows, wherever they are; what cannot be read becomes a notice."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repscope._checking import InputError
from repscope._images import THUMBNAIL_SIDE
from repscope.diagnosis.diagnose import diagnose
from repscope.diagnosis.thumbnails import thumbnails
from repscope.representations.representation import Representation

COLOURS = np.array(
    [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [9, 9, 9]], dtype=np.uint8
)
N = len(COLOURS)


def rows_of(n=N, **fields):
    return Representation.of(np.zeros((n, 2)), **fields)


def pictures():
    """Return a plain picture of 4 x 6 in each colour."""
    return np.broadcast_to(COLOURS[:, None, None], (N, 4, 6, 3)).copy()


def colour_of(thumbnail):
    code = thumbnail.address.removeprefix("data:image/png;base64,")
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(code))))
    assert picture.shape == (thumbnail.height, thumbnail.width, 3)
    return picture[0, 0].tolist()


def shown(images, representation=None, rows=(3, 0)):
    """Return the colours of the thumbnails, and the notices."""
    found, notices = thumbnails(images, representation or rows_of(), rows)
    assert [one.row for one in found] == list(rows)[: len(found)]
    return [colour_of(one) for one in found], notices


def write(folder, names, suffix=".png"):
    for name, colour in zip(names, COLOURS, strict=True):
        path = folder / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.broadcast_to(colour, (4, 6, 3))
        Image.fromarray(np.ascontiguousarray(picture)).save(path)
    return folder


TWO = [COLOURS[3].tolist(), COLOURS[0].tolist()]
LAYOUTS = {
    "n h w c": pictures(),
    "n c h w": np.moveaxis(pictures(), -1, 1),
    "floats": pictures() / 255,
    "with alpha": np.concatenate([pictures(), np.full((N, 4, 6, 1), 255, np.uint8)], 3),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_of_colour(layout):
    assert shown(LAYOUTS[layout]) == (TWO, ())


@pytest.mark.parametrize("shape", [(N, 4, 6), (N, 4, 6, 1), (N, 1, 4, 6)])
def test_grey_arrays(shape):
    greys = np.arange(N, dtype=np.uint8) * 50
    images = np.broadcast_to(greys[:, None], (N, 24)).reshape(shape).copy()
    assert shown(images) == ([[150, 150, 150], [0, 0, 0]], ())


def test_three_rows_of_pixels_with_three_channels_last_are_not_turned():
    wide = np.broadcast_to(COLOURS[:, None, None], (N, 3, 6, 3)).copy()
    assert shown(wide) == (TWO, ())


def test_tensors():
    torch = pytest.importorskip("torch", reason="torch is an extra")
    assert shown(torch.from_numpy(LAYOUTS["n c h w"])) == (TWO, ())


def test_a_thumbnail_keeps_its_shape_and_shows_small_pixels_whole():
    (one,), _ = thumbnails(pictures(), rows_of(), [0])
    assert (one.width, one.height) == (THUMBNAIL_SIDE, THUMBNAIL_SIDE * 4 // 6)


@pytest.mark.parametrize("images", [np.zeros((N - 1, 4, 6, 3)), np.zeros((N, 24))])
def test_an_array_that_does_not_fit_is_refused(images):
    with pytest.raises(InputError, match="one picture per row of features is needed"):
        shown(images)


def test_a_folder_of_files_named_by_id(tmp_path):
    ids = np.array(["e", "d", "c", "b", "a"])
    folder = write(tmp_path, ids)
    assert shown(folder, rows_of(ids=ids)) == (TWO, ())


@pytest.mark.parametrize("names", [("x/e", "x/d", "y/c", "y/b", "a")])
def test_a_folder_of_ids_with_folders_and_suffixes(tmp_path, names):
    folder = write(tmp_path, names)
    ids = np.array([f"{name}.png" for name in names])
    assert shown(str(folder), rows_of(ids=ids)) == (TWO, ())


def test_a_folder_in_the_order_of_the_rows_counts_as_people_do(tmp_path):
    names = ["2", "10", "11", "100", "1000"]
    assert shown(write(tmp_path, names)) == (TWO, ())


def test_names_that_several_files_share_are_no_ids(tmp_path):
    # Rows 0 to 2 could be named 0 to 2, but there are two files of each name.
    write(tmp_path, ("cat/0", "cat/1", "cat/2", "dog/0", "dog/1"))
    with pytest.raises(InputError, match="cannot be matched to rows"):
        shown(tmp_path, rows_of(2), rows=(0, 1))
    colours, _ = shown(tmp_path, rows=(0, 1, 2, 3, 4))
    assert colours == COLOURS.tolist()


def test_other_files_in_a_folder_do_not_count(tmp_path):
    folder = write(tmp_path, "abcde")
    (folder / "README.txt").write_text("not a picture")
    assert shown(folder) == (TWO, ())


def test_a_folder_of_another_number_of_files_is_refused(tmp_path):
    folder = write(tmp_path, "abcde")
    with pytest.raises(InputError, match="cannot be matched to rows") as refused:
        shown(folder, rows_of(7))
    assert "5 images, named like 'a.png'" in str(refused.value)
    assert "pass ids that are the images' file names" in str(refused.value)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="no images"):
        shown(tmp_path)


def test_a_list_of_paths(tmp_path):
    write(tmp_path, "abcde")
    paths = [tmp_path / f"{name}.png" for name in "abcde"]
    assert shown(paths) == (TWO, ())
    assert shown([str(path) for path in paths]) == (TWO, ())
    with pytest.raises(InputError, match="images: one per row of features is needed"):
        shown(paths[:4])


def test_a_picture_that_cannot_be_read_becomes_a_notice(tmp_path):
    folder = write(tmp_path, "abcde")
    (folder / "d.png").write_bytes((folder / "d.png").read_bytes()[:40])
    paths = [folder / f"{name}.png" for name in "abcde"]
    found, notices = thumbnails(paths, rows_of(), (3, 0))
    assert [one.row for one in found] == [0]
    assert len(notices) == 1
    assert notices[0].startswith("no thumbnail of row 3: d.png: no readable picture")


def test_a_picture_that_is_not_there_becomes_a_notice(tmp_path):
    paths = [tmp_path / f"{name}.png" for name in "abcde"]
    found, notices = thumbnails(paths, rows_of(), (3,))
    assert found == ()
    assert notices == ("no thumbnail of row 3: d.png: No such file or directory",)


def test_rows_count_in_what_was_given_even_after_some_were_dropped():
    features = np.random.default_rng(0).random((N, 3))
    features[1] = np.nan
    report = diagnose(features, images=pictures(), drop_nonfinite=True)
    colours = {one.row: colour_of(one) for one in report.record.thumbnails}
    assert colours == {row: COLOURS[row].tolist() for row in (0, 2, 3, 4)}


def stored(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads Parquet")
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = write(tmp_path / "images", "abcde")
    encoded = [(folder / f"{name}.png").read_bytes() for name in "abcde"]
    encoded[1], encoded[2] = None, b"no picture"
    values = np.random.default_rng(0).random((N, 4)).tolist()
    table = pyarrow.table(
        {
            "emb": pyarrow.array(values, pyarrow.list_(pyarrow.float64(), 4)),
            "img": [{"bytes": one, "path": None} for one in encoded],
        }
    )
    path = tmp_path / "rows.parquet"
    parquet.write_table(table, path)
    return path


def test_an_image_column_of_the_features_file(tmp_path):
    representation = Representation.of(stored(tmp_path))
    colours, notices = shown("img", representation, rows=(3, 0))
    assert (colours, notices) == (TWO, ())


def test_rows_without_a_readable_image_become_notices(tmp_path):
    representation = Representation.of(stored(tmp_path))
    found, notices = thumbnails("img", representation, (3, 2, 1))
    assert [one.row for one in found] == [3]
    assert notices[0].startswith("no thumbnail of row 2: rows.parquet, row 2: no read")
    assert notices[1] == (
        "no thumbnail of row 1: rows.parquet: row 1 of `img` holds no image"
    )


def test_a_column_that_is_not_there_is_refused(tmp_path):
    representation = Representation.of(stored(tmp_path))
    with pytest.raises(InputError, match="no column `image`") as refused:
        shown("image", representation)
    assert "did you mean" in str(refused.value)


def test_a_name_without_a_file_is_refused():
    name = str(Path("no") / "such" / "folder")
    with pytest.raises(InputError, match=f"there is no folder '{name}'"):
        shown(name)

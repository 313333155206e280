import errno
import os
import re

import pytest

from repscope._checking import EXIT_ENVIRONMENT, ResourceError
from repscope.files.saving import resource_error, write_together


def _raising(number):
    def fail(*_arguments, **_options):
        raise OSError(number, os.strerror(number))

    return fail


def _writers(**contents):
    return {
        name: lambda file, content=content: file.write(content)
        for name, content in contents.items()
    }


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_files_and_folders_are_made(tmp_path):
    write_together(tmp_path / "a" / "b", _writers(one=b"1", two=b"2"), need=2)
    assert (tmp_path / "a" / "b" / "one").read_bytes() == b"1"
    assert _names(tmp_path / "a" / "b") == ["one", "two"]


def test_files_obey_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_together(tmp_path, _writers(one=b"1"), need=1)
    finally:
        os.umask(before)
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.ENOSPC, "no space left on the disk"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EFBIG, "it would be larger than the limit for file sizes (ulimit -f)"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "no permission"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_a_failed_write_is_named_and_loses_nothing(
    tmp_path, monkeypatch, call, number, cause
):
    (tmp_path / "one").write_bytes(b"old")
    monkeypatch.setattr(os, call, _raising(number))
    where = re.escape(f"cannot write {tmp_path / 'one'}: {cause}")
    with pytest.raises(ResourceError, match=where) as caught:
        write_together(tmp_path, _writers(one=b"new", two=b"2"), need=3)
    monkeypatch.undo()
    assert caught.value.exit_code == EXIT_ENVIRONMENT
    assert (tmp_path / "one").read_bytes() == b"old"
    assert _names(tmp_path) == ["one"]


def test_a_later_file_that_fails_leaves_the_earlier_one_as_it_was(tmp_path):
    (tmp_path / "one").write_bytes(b"old")
    writers = _writers(one=b"new") | {"two": _raising(errno.ENOSPC)}
    with pytest.raises(ResourceError, match="two: no space left"):
        write_together(tmp_path, writers, need=3)
    assert (tmp_path / "one").read_bytes() == b"old"


def test_a_full_disk_names_free_and_needed_space(tmp_path):
    error = resource_error(tmp_path / "f", OSError(errno.ENOSPC, "full"), 2_500_000)
    assert re.search(r"found: [\d,.]+ MB free; expected: about 2.5 MB", str(error))
    assert "fix: free some space, or choose a folder on another disk" in str(error)


def test_a_limit_of_file_sizes_names_the_command_that_raises_it(tmp_path):
    error = resource_error(tmp_path / "f", OSError(errno.EFBIG, "big"), 2_500_000)
    assert "about 2.5 MB" in str(error)
    assert "fix: raise the limit (ulimit -f unlimited" in str(error)
    assert "may write to" not in str(error)


def test_a_link_in_the_place_of_a_file_is_replaced_not_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / "one").symlink_to(elsewhere)
    write_together(out, _writers(one=b"new"), need=3)
    assert elsewhere.read_bytes() == b"precious"
    assert (out / "one").read_bytes() == b"new"

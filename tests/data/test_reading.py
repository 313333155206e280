import pytest

from repscope._checking import InputError
from repscope.data.reading import Failure, check_failures

FAILURES = [Failure(row, f"{row}.png", f"photos: {row}.png: cut") for row in (3, 8)]


@pytest.mark.parametrize("reason", ["photos: a.png: cut", "photos/a.png: cut"])
def test_a_set_is_named_once(reason):
    with pytest.raises(InputError, match=f"^{reason}\n"):
        check_failures("photos", [Failure(0, "a", reason)], 10)


@pytest.mark.parametrize(
    ("n_read", "found"),
    [
        (None, "2 unreadable of 150 pictures"),
        (150, "2 unreadable of 150 pictures"),
        (20, "at least 2 unreadable of the first 20 read"),
    ],
)
def test_what_was_not_read_is_not_counted(n_read, found):
    with pytest.raises(InputError, match="photos: 3.png: cut, and 1 more\n") as error:
        check_failures("photos", FAILURES, 150, n_read=n_read)
    assert error.value.found == found
    assert error.value.expected == "at most 1 % of 150"


@pytest.mark.parametrize(
    ("allowed", "fix"),
    [
        (None, "repair or remove them"),
        (
            0.005,
            "repair or remove them, or allow a larger share: --allow-unreadable 0.1 "
            "(allowed_failures=0.1 in Python)",
        ),
    ],
)
def test_more_is_allowed_only_where_it_can_be(allowed, fix):
    with pytest.raises(InputError) as error:
        check_failures("photos", FAILURES, 150, allowed=allowed)
    assert error.value.fix == fix
    check_failures("photos", FAILURES, 150, allowed=0.1)

"""What of a folder is not taken is named; hidden files and what this project itself lays there are not."""

from simswap_jax.io import folders


def test_what_is_left_is_counted_by_ending_and_named(tmp_path):
    (tmp_path / "ana").mkdir()
    for name in ("ana/a.mp4", "b.mp4", "c.txt", "labels.npz", ".hidden", "taken.png"):
        (tmp_path / name).touch()
    rest = folders.files_below(tmp_path, {"taken.png"})
    assert folders.describe_rest(tmp_path, rest) == "2 .mp4 (ana/a.mp4, b.mp4), 1 .txt (c.txt)"


def test_nothing_left_is_nothing_said(tmp_path, caplog):
    (tmp_path / "labels.npz").touch()
    folders.warn_of_rest(tmp_path, [tmp_path, tmp_path / "labels.npz"], "photos are taken")
    assert caplog.text == ""

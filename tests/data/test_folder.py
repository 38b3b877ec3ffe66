from simswap_jax.data.dataset import list_people
from tests.support.errors import raises_user_error


def fill(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")


def test_list_people(tmp_path):
    fill(tmp_path / "bea", "2.JPG", "1.png", "notes.txt", ".hidden.jpg")
    fill(tmp_path / "abe", "x.webp")
    fill(tmp_path / "nobody")
    fill(tmp_path / ".cache", "x.jpg")
    fill(tmp_path, "readme.md")
    listing = list_people(tmp_path)
    assert list(listing) == ["abe", "bea", "nobody"]
    assert [file.name for file in listing["bea"]] == ["1.png", "2.JPG"]
    assert listing["nobody"] == []


def test_what_is_not_taken_is_named_and_counted(tmp_path, caplog):
    """A video, a text, a picture beside the people and pictures one level too deep."""
    fill(tmp_path / "bea", "1.png", "clip.mp4", ".hidden.jpg")
    fill(tmp_path / "bea" / "album", "1.jpg", "2.jpg", "3.jpg", "4.JPG")
    fill(tmp_path, "stray.jpg", "readme.md")
    assert [file.name for file in list_people(tmp_path)["bea"]] == ["1.png"]
    assert len(caplog.messages) == 1
    assert "5 .jpg (bea/album/1.jpg, bea/album/2.jpg, bea/album/3.jpg, …), 1 .md (readme.md)" in caplog.text
    assert "1 .mp4 (bea/clip.mp4)" in caplog.text
    assert "hidden" not in caplog.text


def test_a_folder_in_which_all_is_taken_says_nothing(tmp_path, caplog):
    fill(tmp_path / "bea", "1.png", ".hidden.jpg")
    list_people(tmp_path)
    assert caplog.messages == []


def test_list_people_explains_wrong_folders(tmp_path):
    with raises_user_error("no-folder", tmp_path / "gone"):
        list_people(tmp_path / "gone")
    with raises_user_error("folder-empty", tmp_path):
        list_people(tmp_path)
    fill(tmp_path / "a" / "b", "1.jpg")
    with raises_user_error("folder-too-deep", tmp_path / "a"):
        list_people(tmp_path)
    with raises_user_error("no-person-folders", tmp_path / "a" / "b"):
        list_people(tmp_path / "a" / "b")
    with raises_user_error("folder-is-file", "1.jpg"):
        list_people(tmp_path / "a" / "b" / "1.jpg")
    fill(tmp_path / "other" / "c", "text.txt")
    with raises_user_error("no-pictures", tmp_path / "other"):
        list_people(tmp_path / "other")

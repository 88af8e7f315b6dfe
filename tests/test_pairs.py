"""Pairs of noisy and clean pictures in two folders."""

import pytest

from dvae_tf.kinds.image import pairs
from dvae_tf.streamed import DatasetError


@pytest.fixture
def put(tmp_path):
    def put(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return put


def match(tmp_path):
    return pairs.match(tmp_path / "noisy", str(tmp_path / "clean"))


def test_names_match_whatever_the_suffix(tmp_path, put):
    put("noisy/b.tif", "noisy/a.1.png", "noisy/sub/a.1.PNG", "noisy/notes.txt", "noisy/.a.png")
    put("clean/a.1.npy", "clean/b.tiff", "clean/sub/a.1.jpg")
    noisy, clean = tmp_path / "noisy", tmp_path / "clean"
    assert match(tmp_path) == [
        (noisy / "a.1.png", clean / "a.1.npy"),
        (noisy / "b.tif", clean / "b.tiff"),
        (noisy / "sub" / "a.1.PNG", clean / "sub" / "a.1.jpg"),
    ]


def test_missing_partners_are_named(tmp_path, put):
    put(*(f"noisy/{index}.png" for index in range(7)), "clean/0.png", "clean/sub/1.png")
    with pytest.raises(DatasetError) as raised:
        match(tmp_path)
    text = str(raised.value)
    assert "noisy/1.png" in text and "noisy/3.png and 3 more without a partner in" in text
    assert "noisy/4.png" not in text
    assert f"{tmp_path}/clean and {tmp_path}/clean/sub/1.png without a partner" in text
    assert text.endswith("Add or remove them.") and "\n" not in text


def test_two_files_of_one_name(tmp_path, put):
    put("noisy/a.png", "noisy/a.tif", "clean/a.png")
    with pytest.raises(DatasetError, match=r"one picture of each name. Received: a.png and a.tif"):
        match(tmp_path)


def test_no_folder_and_no_pictures(tmp_path, put):
    put("noisy/a.png")
    with pytest.raises(
        DatasetError, match=r"clean must be a folder of pictures. Received: nothing"
    ):
        match(tmp_path)
    put("clean/a.txt")
    with pytest.raises(
        DatasetError, match=r"clean must hold pictures \(.png, .*a folder without any"
    ):
        match(tmp_path)
    with pytest.raises(DatasetError, match="Received: a file"):
        pairs.match(tmp_path / "noisy" / "a.png", tmp_path / "clean")

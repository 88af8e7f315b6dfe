"""Pairs of pictures: a noisy and a clean one, in two folders, matched by name."""

import os
from collections.abc import Mapping
from pathlib import Path

from dvae_tf.kinds.image import folders, reading
from dvae_tf.streamed import DatasetError

_NAMED = 3  # examples in a message


def match(noisy: str | os.PathLike, clean: str | os.PathLike) -> list[tuple[Path, Path]]:
    """Return the pairs (noisy, clean) of two folders, in the order of their names.

    Two files match if their paths in the folders are equal up to the suffix: noisy/a/1.tif and
    clean/a/1.png. Hidden files and other types are passed over.

    Raises:
        DatasetError: if one is not a folder, there are no pictures, a partner is missing, or two
            files of a folder differ in their suffixes alone.
    """
    left, right = _by_stem(Path(noisy)), _by_stem(Path(clean))
    lone = [_missing(left, right, clean), _missing(right, left, noisy)]
    if any(lone):
        raise DatasetError(
            f"Every picture of a pair must have a partner of its name. Received: "
            f"{' and '.join(filter(None, lone))}. Add or remove them."
        )
    return [(left[stem], right[stem]) for stem in sorted(left)]


def _by_stem(folder: Path) -> dict[str, Path]:
    """Return the pictures of a folder by their paths in it, without the suffix."""
    if not folder.is_dir():
        what = "a file" if folder.exists() else "nothing"
        raise DatasetError(
            f"{folder} must be a folder of pictures. Received: {what} at this place. Name a folder."
        )
    found: dict[str, Path] = {}
    for path in folders.search(folder, reading.SUFFIXES)[0]:
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise DatasetError(
                f"{folder} must hold one picture of each name. Received: {found[stem].name} and "
                f"{path.name}. Remove or rename one."
            )
        found[stem] = path
    if not found:
        raise DatasetError(
            f"{folder} must hold pictures ({', '.join(reading.SUFFIXES)}). "
            "Received: a folder without any. Name another one."
        )
    return found


def _missing(these: Mapping[str, Path], those: Mapping[str, Path], there) -> str:
    """Return in words which of these have no partner; empty if all have one."""
    lone = sorted(these.keys() - those.keys())
    if not lone:
        return ""
    named = ", ".join(str(these[stem]) for stem in lone[:_NAMED])
    more = f" and {len(lone) - _NAMED} more" if len(lone) > _NAMED else ""
    return f"{named}{more} without a partner in {os.fspath(there)}"

"""What the sources on disk share: their root, the expected tree in an error, folder listings."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from seglab.data.reading import FileFaults
from seglab.errors import DataError

_CLUTTER = re.compile(r"\..*|Thumbs\.db|desktop\.ini", re.IGNORECASE)


def root_folder(name: str, root: str | os.PathLike | None, tree: str) -> Path:
    """The absolute path of `root`. Errors: DataError with the tree where it is no folder."""
    if root is None or not str(root):
        raise DataError(
            f"dataset {name}: where is it? Give dataset.root=FOLDER, or set the environment "
            f"variable SEGLAB_{name.upper()} once for all.\nexpected there:\n{tree}"
        )
    folder = Path(root).expanduser().absolute()
    if not folder.is_dir():
        raise layout_error(name, folder, tree, "no such folder")
    return folder


def layout_error(name: str, root: Path, tree: str, wrong: str) -> DataError:
    """The error for a folder that is not laid out as it should be, with the expected tree."""
    there = sorted(entry.name for entry in os.scandir(root)) if root.is_dir() else []
    found = f"found there: {', '.join(there[:8]) or 'nothing'}{', ...' * (len(there) > 8)}\n"
    return DataError(
        f"dataset {name}: {wrong}\n"
        f"expected under dataset.root={root}:\n{tree}\n"
        f"{found if root.is_dir() else ''}"
        f"Set dataset.root to the folder that holds this tree."
    )


def file_names(folder: Path) -> list[str]:
    """Names in a folder, sorted, without hidden files and what desktops leave behind."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not _CLUTTER.fullmatch(entry.name))


def files_by_stem(
    name: str,
    root: Path,
    folder: str,
    suffixes: Sequence[str],
    tree: str,
    what: str,
    *,
    skip_folders: bool,
) -> dict[str, Path]:
    """Name without suffix -> file, of the files in root/folder with one of the suffixes.

    Args:
        what: they are called in the error where there are none.
        skip_folders: whose names end as a file's; else they are found, and the check names them.

    Errors: DataError with the tree where there is no folder or no file, FileFaults for two files
    of one name.
    """
    place = root / folder
    if not place.is_dir():
        raise layout_error(name, root, tree, f"no folder {folder}")
    found: dict[str, Path] = {}
    for path in (place / file for file in file_names(place)):
        if path.suffix.lower() in suffixes and (path.is_file() or not skip_folders):
            if path.stem in found:
                both = f"{found[path.stem].name} and {path.name}"
                raise FileFaults([(path, f"two files of one name: {both}")])
            found[path.stem] = path
    if not found:
        wrong = f"no {what} in {folder} ({', '.join(suffixes)})"
        raise layout_error(name, root, tree, wrong)
    return found


def folder_names(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))

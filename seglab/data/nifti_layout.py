"""Folders of NIfTI files as nnU-Net (versions 1 and 2) and the Medical Segmentation Decathlon have.

Isensee et al. "nnU-Net: a self-configuring method for deep learning-based biomedical image
segmentation." Nature Methods 2021; its documentation, dataset_format.md. Antonelli et al. "The
Medical Segmentation Decathlon." Nature Communications 2022. `dataset.json` tells them apart: of
nnU-Net 2 its labels go from name to number, of the others from number to name.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from seglab.data.layout import file_names, layout_error
from seglab.data.source import IGNORE, Fault
from seglab.errors import DataError

TREE = """\
  dataset.json
  imagesTr/case_0000.nii.gz ...    one file for each channel: _0000, _0001 (nnU-Net);
           case.nii.gz ...         or one file with all channels (Decathlon)
  labelsTr/case.nii.gz ..."""
ENDINGS = (".nii.gz", ".nii")
MAX_LABELS = IGNORE  # 0 .. 254


@dataclass(frozen=True)
class Description:
    """What dataset.json says.

    Attributes:
        path: of dataset.json.
        channels: names of the channels, in order.
        labels: names of the labels 0, 1, ...; the first is the background.
        ignore: number of the label that nothing counts under, if there is one.
        ending: of the files.
        listed: "training" and "test" of version 1: (image, label) relative to the root, the label
            of a test image guessed. None: the folders say which cases there are.
        num_training: cases that there should be, if it says.
    """

    path: Path
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    ignore: int | None
    ending: str
    listed: Mapping[str, tuple[tuple[str, str], ...]] | None
    num_training: int | None


@dataclass(frozen=True)
class Case:
    """One scan: its image's files (one for each channel, or one with all), and its label."""

    name: str
    images: tuple[Path, ...]
    label: Path


def read_description(name: str, root: Path) -> Description:
    """dataset.json of a data set. Errors: DataError naming the file, what is wrong, what to do."""
    path = root / "dataset.json"
    plain = read_json(path) if path.is_file() else None
    if plain is None:
        raise layout_error(name, root, TREE, "no file dataset.json")
    if not isinstance(plain, dict):
        raise DataError(f"{path}: must be an object in braces, with labels and channel_names")
    labels, ignore = _labels(path, plain.get("labels"))
    ending = plain.get("file_ending", ".nii.gz")
    if ending not in ENDINGS:
        raise DataError(f"{path}: file_ending {ending!r}; only {' and '.join(ENDINGS)} are read")
    number = plain.get("numTraining")
    return Description(
        path=path,
        channels=_channels(path, plain.get("channel_names", plain.get("modality"))),
        labels=labels,
        ignore=ignore,
        ending=ending,
        listed=_listed(path, plain) if "training" in plain else None,
        num_training=number if isinstance(number, int) else None,
    )


def read_json(path: Path) -> Any:
    """What a JSON file holds. Errors: DataError where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error})") from None


def find_cases(name: str, root: Path, about: Description, part: str) -> dict[str, Case]:
    """Case name -> case, sorted; of imagesTr and labelsTr (part "Tr") or of their like ("Ts").

    A case may have files that are missing: who reads it, says so.

    Errors: DataError where the folders are missing or hold no image.
    """
    for folder in (f"images{part}", f"labels{part}"):
        if not (root / folder).is_dir():
            raise layout_error(name, root, TREE.replace("Tr", part), f"no folder {folder}")
    if about.listed is None:
        names = [found[1] for found in _named(root, about, part) if found]
        paths = {case: (None, f"labels{part}/{case}{about.ending}") for case in names}
    else:
        paths = {}
        for image, label in about.listed["training" if part == "Tr" else "test"]:
            case = _stem(image, about.ending)
            if case in paths:
                raise DataError(f"{about.path}: lists {case} twice")
            paths[case] = (image, label)
    if not paths:
        wrong = f"no image in images{part} (names like case_0000{about.ending})"
        raise layout_error(name, root, TREE.replace("Tr", part), wrong)
    return {
        case: Case(case, _images(root, about, part, case, image), root / label)
        for case, (image, label) in sorted(paths.items())
    }


def folder_faults(
    root: Path, about: Description, part: str, cases: Mapping[str, Case]
) -> list[Fault]:
    """Files that belong to no case, names that say nothing, and another number of cases."""
    used = {path for case in cases.values() for path in (*case.images, case.label)}
    faults = []
    for kind in ("images", "labels"):
        for file in file_names(root / f"{kind}{part}"):
            path, where = root / f"{kind}{part}" / file, f"{kind}{part}/{file}"
            if path in used:
                continue
            if not file.endswith(about.ending):
                faults.append(Fault(where, f"expected names that end in {about.ending}"))
            elif kind == "labels":
                faults.append(Fault(where, "no image for it"))
            elif about.listed is not None:
                faults.append(Fault(where, "dataset.json does not list it"))
            elif _CHANNEL.search(_stem(file, about.ending)):
                channels = f"{len(about.channels)} channel{'s' * (len(about.channels) > 1)}"
                faults.append(Fault(where, f"dataset.json has {channels}"))
            else:
                faults.append(Fault(where, f"expected names like case_0000{about.ending}"))
    if part == "Tr" and about.num_training not in (None, len(cases)):
        reason = f"numTraining {about.num_training}, found {len(cases)} cases"
        faults.append(Fault("dataset.json", reason))
    return faults


_CHANNEL = re.compile(r"^(.+)_(\d{4})$")


def _named(root: Path, about: Description, part: str) -> Iterator[re.Match[str] | None]:
    """For each file of images<part> its case and its number, as a match."""
    for file in file_names(root / f"images{part}"):
        if file.endswith(about.ending):
            yield _CHANNEL.search(_stem(file, about.ending))


def _images(
    root: Path, about: Description, part: str, case: str, listed: str | None
) -> tuple[Path, ...]:
    """One file of all channels if it is listed and there, else one for each channel."""
    numbered = tuple(
        root / f"images{part}" / f"{case}_{number:04d}{about.ending}"
        for number in range(len(about.channels))
    )
    if listed is None or (numbered[0].exists() and not (root / listed).exists()):
        return numbered  # version 1 of nnU-Net lists case.nii.gz, and has case_0000.nii.gz
    return (root / listed,)


def _stem(file: str, ending: str) -> str:
    return PurePosixPath(file).name.removesuffix(ending)


def _channels(path: Path, plain: Any) -> tuple[str, ...]:
    numbers = sorted(map(str, range(len(plain)))) if isinstance(plain, dict) else []
    if not numbers or sorted(map(str, plain)) != numbers:
        raise DataError(
            f"{path}: channel_names (nnU-Net) or modality (Decathlon) must name the channels, "
            f'such as {{"0": "T2"}}, numbered from 0; found {plain}'
        )
    return tuple(str(plain[str(number)]) for number in range(len(plain)))


def _labels(path: Path, plain: Any) -> tuple[tuple[str, ...], int | None]:
    """The names of the labels 0, 1, ..., and the number of the label `ignore`."""
    wanted = 'such as {"background": 0, "tumour": 1}'
    if not isinstance(plain, dict) or not plain:
        raise DataError(f"{path}: labels must name the labels, {wanted}; found {plain}")
    if all(str(key).isdigit() for key in plain):
        numbers = {str(name): int(key) for key, name in plain.items()}  # version 1
        if len(numbers) < len(plain):
            raise DataError(f"{path}: two labels have the same name: {plain}")
    else:
        regions = [name for name, number in plain.items() if isinstance(number, list)]
        if regions:
            raise DataError(
                f"{path}: label {regions[0]!r} is a region, {plain[regions[0]]}: classes must "
                "exclude one another here. Give every label one number of its own"
            )
        numbers = plain
        if not all(type(number) is int for number in numbers.values()):
            raise DataError(f"{path}: labels must be whole numbers, {wanted}; found {plain}")
    if sorted(numbers.values()) != list(range(len(numbers))):
        found = ", ".join(map(str, sorted(numbers.values())))
        raise DataError(f"{path}: labels {found}: must be consecutive from 0 (the background)")
    ordered = sorted(numbers, key=numbers.__getitem__)
    ignore = numbers.get("ignore")
    if ignore is not None:
        if ignore != len(ordered) - 1:
            raise DataError(f"{path}: label ignore is {ignore}, must be the last number")
        ordered = ordered[:-1]
    if not 2 <= len(ordered) <= MAX_LABELS:
        raise DataError(
            f"{path}: {len(ordered)} labels beside ignore: must be 2 (with the background) to "
            f"{MAX_LABELS}"
        )
    return tuple(ordered), ignore


def _listed(path: Path, plain: Mapping[str, Any]) -> dict[str, tuple[tuple[str, str], ...]]:
    """ "training" and "test" as (image, label), without the hidden files that macOS adds."""
    try:
        training = [(_relative(row["image"]), _relative(row["label"])) for row in plain["training"]]
        test = [
            _relative(row["image"] if isinstance(row, dict) else row)
            for row in plain.get("test", [])
        ]
    except (TypeError, KeyError, AttributeError):
        raise DataError(
            f'{path}: training must be a list of {{"image": "./imagesTr/a.nii.gz", "label": '
            '"./labelsTr/a.nii.gz"}, and test a list of images'
        ) from None
    labelled = [(image, f"labelsTs/{PurePosixPath(image).name}") for image in test]
    return {
        part: tuple((i, label) for i, label in rows if not PurePosixPath(i).name.startswith("."))
        for part, rows in (("training", training), ("test", labelled))
    }


def _relative(text: str) -> str:
    return str(PurePosixPath(text.removeprefix("./")))

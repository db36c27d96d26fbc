"""Volumes as nnU-Net has them: made ones, and blocks of the MNI template that nilearn ships."""

import json
from pathlib import Path

import nibabel
import nilearn
import numpy as np

TEMPLATE = Path(nilearn.__file__).parent / "datasets" / "data"


def write_cases(root, cases, labels):
    """(name, image, labels, affine) of each case -> root, with imagesTr, labelsTr, dataset.json."""
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for name, image, mask, affine in cases:
        for array, path in ((image, f"imagesTr/{name}_0000"), (mask, f"labelsTr/{name}")):
            nibabel.save(nibabel.Nifti1Image(array, affine), root / f"{path}.nii.gz")
    settings = {
        "channel_names": {"0": "MRI"},
        "labels": {name: number for number, name in enumerate(("background", *labels))},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(settings))
    return root


def balls(root, cases=8):
    """Two balls in noise, voxels of 1 x 0.5 x 0.5 mm; sizes differ from case to case."""
    rng = np.random.default_rng(0)
    made = []
    for case in range(cases):
        shape = (24 + case, 24, 18 + case % 2)
        places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
        labels = np.zeros(shape, np.uint8)
        for label in (1, 2):
            centre = [rng.uniform(0.3, 0.7) * side for side in shape]
            distance = np.linalg.norm((places - centre) * (0.5, 0.5, 1.0), axis=-1)
            labels[distance < rng.uniform(2.5, 4)] = label
        image = (60 * labels + rng.normal(100, 10, shape)).astype(np.float32)
        made.append((f"case_{case:03}", image, labels, np.diag([0.5, 0.5, 1.0, 1.0])))
    return write_cases(root, made, ("left", "right"))


def mni(root):
    """Grey and white matter in the middle of the template, three blocks of slices far apart."""
    t1, grey, white = (
        nibabel.load(TEMPLATE / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz")
        for kind in ("t1", "gm", "wm")
    )
    shares = np.stack([np.asanyarray(image.dataobj) for image in (grey, white)])
    labels = np.where(shares.max(axis=0) >= 128, 1 + shares.argmax(axis=0), 0).astype(np.uint8)
    image = np.asanyarray(t1.dataobj)
    blocks = {"low": (40, 72), "mid": (84, 100), "top": (112, 128)}
    boxes = {name: np.s_[66:130, 84:148, start:end] for name, (start, end) in blocks.items()}
    cases = [(name, image[box], labels[box], t1.affine) for name, box in boxes.items()]
    write_cases(root, cases, ("grey", "white"))
    fold = [{"train": ["low"], "val": ["mid", "top"]}]
    (root / "blocks.json").write_text(json.dumps(fold))
    return root

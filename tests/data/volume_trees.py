"""Made volumes as nnU-Net has them: two balls in noise, voxels of 1 x 0.5 x 0.5 mm."""

import json

import numpy as np


def write_balls(root, cases=8):
    """-> root, with imagesTr, labelsTr and dataset.json; sizes differ from case to case."""
    import nibabel

    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for case in range(cases):
        shape = (24 + case, 24, 18 + case % 2)
        places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
        labels = np.zeros(shape, np.uint8)
        for label in (1, 2):
            centre = [rng.uniform(0.3, 0.7) * side for side in shape]
            distance = np.linalg.norm((places - centre) * (0.5, 0.5, 1.0), axis=-1)
            labels[distance < rng.uniform(2.5, 4)] = label
        image = (60 * labels + rng.normal(100, 10, shape)).astype(np.float32)
        affine = np.diag([0.5, 0.5, 1.0, 1.0])
        name = f"case_{case:03}"
        for array, path in ((image, f"imagesTr/{name}_0000"), (labels, f"labelsTr/{name}")):
            nibabel.save(nibabel.Nifti1Image(array, affine), root / f"{path}.nii.gz")
    settings = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "left": 1, "right": 2},
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(settings))
    return root

"""What is drawn for a sample: alike for image and mask, never repeated, never left to chance."""

from itertools import pairwise

import albumentations as A
import cv2
import numpy as np
import pytest

from seglab import config
from seglab.data import augment, module
from seglab.data.planes import Drawn
from seglab.errors import ConfigError
from tests.conftest import ROOT

CHOICES = sorted(path.stem for path in (ROOT / "configs" / "augmentation").glob("*.yaml"))
FLIPS = (A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5))


class Numbers:
    """Images whose pixels are all different, and masks and instances that follow from them."""

    ids = tuple("abcdef")

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        grey = np.arange(256, dtype=np.uint8).reshape(16, 16) ^ np.uint8(index)
        return np.repeat(grey[..., None], 3, axis=2), grey % 5

    def instances(self, index):
        return self[index][0][..., 0].astype(np.int32) + 300


def rng(seed=0):
    return np.random.default_rng(seed)


def test_image_mask_and_instances_are_moved_together():
    image, mask = Numbers()[3]
    numbers = Numbers().instances(3).astype(np.uint16)
    steps = augment.Steps([*FLIPS, A.RandomRotate90(p=0.5), A.RandomCrop(9, 9, p=1.0)])
    seen = set()
    for seed in range(20):
        drawn, labels, instances = steps(rng(seed), image, mask, numbers)
        np.testing.assert_array_equal(labels, drawn[..., 0] % 5)
        np.testing.assert_array_equal(instances, drawn[..., 0].astype(np.uint16) + 300)
        assert labels.shape == (9, 9)
        seen.add(drawn.tobytes())
    assert len(seen) > 10


def test_the_steps_of_a_pipeline_decide_each_for_itself():
    """albumentations' set_random_seed would always mirror both ways, or neither."""
    image, mask = Numbers()[0]
    steps = augment.Steps(FLIPS)
    nested = augment.Steps([A.Sequential(list(FLIPS), p=1.0)])
    for pipeline in (steps, nested):
        corners = [int(pipeline(rng(seed), image, mask)[0][0, 0, 0]) for seed in range(200)]
        counts = [corners.count(value) for value in (0, 15, 240, 255)]
        assert min(counts) > 25
        assert sum(counts) == 200


def test_a_draw_is_a_function_of_seed_epoch_and_sample_alone():
    def images(seed):
        return module.Images(Numbers(), None, augment.Steps(FLIPS), (seed, 5))

    def epoch(number, workers, seed=42):
        batches = module.TrainBatches(6, 2, seed)
        keyed = module.WithEpoch(batches)
        loader = module.loader(images(seed), keyed, workers, 0, pin=False)
        loader.batch_sampler.sampler.set_epoch(number)
        items = {}
        for batch in loader:
            items |= dict(zip(batch["index"].tolist(), batch["image"], strict=True))
        return [items[index].numpy().tobytes() for index in range(6)]

    epochs = [epoch(number, 0) for number in range(12)]
    assert epoch(3, 2) == epochs[3]  # workers, and an epoch that nothing came before
    assert all(one != other for one, other in pairwise(epochs))
    assert all(len({e[index] for e in epochs}) > 1 for index in range(6))
    assert epoch(3, 0, seed=43) != epochs[3]


def test_evaluated_images_are_drawn_once():
    images = module.Images(Numbers(), None, augment.Steps([A.RandomCrop(4, 4, p=1.0)]), (0, 6))
    first = [images[index]["image"].numpy().tobytes() for index in range(6)]
    assert first == [images[index]["image"].numpy().tobytes() for index in range(6)]
    places = {images[index]["image"][0, 0, 0].item() ^ index for index in range(6)}
    assert len(places) > 1  # not the same crop of each


def test_the_plane_is_of_the_drawn_mask_and_its_drawn_instances():
    def make(mask, instances):
        return (mask + 1000.0 * instances).astype(np.float32)

    images = module.Images(Numbers(), Drawn(Numbers(), make), augment.Steps(FLIPS), (0, 5))
    for key in ((0, 1), (1, 1), (2, 1), (3, 4)):
        item = images[key]
        expected = item["target"] + 1000.0 * (item["image"][0].int() + 300)
        np.testing.assert_array_equal(item["weights"], expected)


def test_a_part_of_a_split_and_a_repeated_one_know_their_instances():
    split = Numbers()
    head, repeated = module.head(split, 2), module.Repeated(split, 3)
    np.testing.assert_array_equal(head.instances(1), split.instances(1))
    np.testing.assert_array_equal(repeated.instances(5), split.instances(1))


def test_a_slice_of_a_volume_is_moved_as_the_others():
    volume = np.tile(np.arange(256, dtype=np.float32).reshape(1, 16, 16, 1), (5, 1, 1, 1))
    drawn, mask = augment.Steps(FLIPS)(rng(4), volume, volume[..., 0].astype(np.uint8) % 5)
    assert (drawn == drawn[:1]).all()
    assert not (drawn == volume).all()
    np.testing.assert_array_equal(mask, drawn[..., 0] % 5)


# ---------------------------------------------------------------- patches


def volume(shape, seed=0):
    """Each voxel of the image says where it is."""
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    labels = (rng(seed).random(shape) < 0.001).astype(np.uint8)
    labels[tuple(side // 2 for side in shape)] = 2
    return places.astype(np.float32), labels


def test_a_patch_is_a_box_of_the_volume_anywhere_in_it():
    image, mask = volume((12, 20, 30))
    patch = augment.Patch((5, 8, 13), foreground=0.0)
    corners = set()
    for seed in range(300):
        part, labels = patch(rng(seed), image, mask)
        corner = tuple(part[0, 0, 0].astype(int))
        box = tuple(slice(a, a + side) for a, side in zip(corner, (5, 8, 13), strict=True))
        np.testing.assert_array_equal(part, image[box])
        np.testing.assert_array_equal(labels, mask[box])
        corners.add(corner)
    for axis, last in enumerate((7, 12, 17)):
        assert {corner[axis] for corner in corners} == set(range(last + 1))


def test_a_small_volume_is_padded_with_what_counts_nowhere():
    image, mask = volume((3, 9, 30))
    part, labels = augment.Patch((5, 8, 40), foreground=1.0)(rng(), image, mask)
    assert part.shape == (5, 8, 40, 3)
    assert (labels[3:] == 255).all()
    assert (labels[:, :, 30:] == 255).all()
    assert (part[3:] == 0).all()
    assert (labels[:3, :, :30] != 255).all()


def test_patches_around_a_class_take_the_classes_evenly():
    image, mask = volume((24, 24, 24), seed=1)
    mask[0, 0, 0] = 255
    patch = augment.Patch((1, 1, 1), foreground=1.0)
    drawn = [int(patch(rng(seed), image, mask)[1].item()) for seed in range(200)]
    assert set(drawn) == {1, 2}
    assert 70 < drawn.count(2) < 130  # one voxel of 2, about fourteen of 1
    empty = np.where(mask == 255, mask, 0).astype(np.uint8)
    assert patch(rng(), image, empty)[1].shape == (1, 1, 1)
    half = augment.Patch((1, 1, 1), foreground=0.5)
    hits = sum(half(rng(seed), image, mask)[1].item() in (1, 2) for seed in range(400))
    assert 150 < hits < 250


# ---------------------------------------------------------------- the choices


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_keeps_labels_labels(read, choice):
    settings = read(f"augmentation={choice}")
    found = config.build(settings, "augmentation")
    image = rng().integers(0, 256, (512, 512, 3), dtype=np.uint8)
    mask = np.kron(rng().integers(0, 2, (64, 64), dtype=np.uint8) * 7, np.ones((8, 8), np.uint8))
    assert (found.train is None) == (choice == "none")
    for draw in filter(None, (found.train, found.evaluation)):
        drawn, labels = draw(rng(1), image, mask)
        assert drawn.dtype == labels.dtype == np.uint8
        assert drawn.shape[:2] == labels.shape
        assert set(np.unique(labels)) <= {0, 7, 255}


def test_a_random_pick_lies_in_its_patch_at_any_angle(read):
    found = config.build(read("augmentation=random_pick"), "augmentation")
    image, mask = np.full((512, 512, 3), 9, np.uint8), np.ones((512, 512), np.uint8)
    image[::2] = 200
    angles = set()
    for seed in range(40):
        drawn, labels = found.train(rng(seed), image, mask)
        assert labels.shape == (256, 256)
        assert (labels == 1).all()
        angles.add(drawn[:, :, 0].tobytes())
    assert len(angles) == 40
    one, other = (found.evaluation(rng(3), image, mask)[0] for _ in range(2))
    np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("ignore:TimeMasking is a specialized version")
@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("{_target_: albumentations.Rotate, limit: 9}", r"train\[0\]\.fill_mask=0.*=255"),
        ("{_target_: albumentations.Rotate, limt: 9}", r"augmentation/none\.yaml.*limt"),
        ("{_target_: os.system}", r"augmentation\.train\[0\]\._target_=os\.system"),
        (
            "{_target_: albumentations.OneOf, transforms: [{_target_: albumentations.Affine}]}",
            r"train\[0\]\.transforms\[0\]\.fill_mask=0",
        ),
        ("{_target_: albumentations.CoarseDropout, fill_mask: 0}", r"train\[0\]\.fill_mask=0"),
        ("{_target_: albumentations.PixelDropout, mask_drop_value: 1}", r"mask_drop_value=1.*=255"),
        ("{_target_: albumentations.CoarseDropout3D}", r"\[0\]: CoarseDropout3D puts.*Dropout"),
        (
            "{_target_: albumentations.TimeMasking, time_mask_param: 5}",
            r"train\[0\]: TimeMasking puts 0 into the mask.*XYMasking",
        ),
        (
            "{_target_: albumentations.GridElasticDeform, num_grid_xy: [4, 4], magnitude: 9}",
            r"train\[0\]: GridElasticDeform puts 0.*ElasticTransform",
        ),
    ],
)
def test_a_faulty_step_is_named(read, step, words):
    with pytest.raises(ConfigError, match=words):
        config.build(read(f"augmentation.train=[{step}]"), "augmentation")


def test_a_step_that_fills_nothing_needs_no_label_for_it():
    reflected = A.Rotate(border_mode=cv2.BORDER_REFLECT_101)
    assert augment.Augmentation([reflected, A.RandomCrop(4, 4)], []).evaluation is None


CUTS = {
    A.CoarseDropout: {},
    A.GridDropout: {},
    A.Erasing: {},
    A.XYMasking: {"num_masks_x": (1, 2), "num_masks_y": 0, "mask_x_length": (5, 9)},
    A.ConstrainedCoarseDropout: {"mask_indices": [1]},
    A.PixelDropout: {},
}


@pytest.mark.parametrize("kind", CUTS)
def test_what_is_cut_out_of_the_image_may_stay_in_the_mask(kind):
    image, mask = np.full((40, 40, 3), 200, np.uint8), np.ones((40, 40), np.uint8)
    cases = [(image, mask)]
    if kind not in (A.ConstrainedCoarseDropout, A.PixelDropout):  # these know no volumes
        cases.append((np.tile(image, (6, 1, 1, 1)), np.tile(mask, (6, 1, 1))))
    steps = augment.Augmentation([kind(**CUTS[kind], p=1.0)], []).train
    for given, labels in cases:
        drawn, same = steps(rng(1), given, labels)
        assert (drawn == 0).any()
        np.testing.assert_array_equal(same, labels)


WARPS = {
    A.ElasticTransform: {"alpha": 300, "sigma": 8},
    A.GridDistortion: {"distort_limit": 0.9},
    A.OpticalDistortion: {"distort_limit": (0.8, 0.9)},
    A.Perspective: {"scale": (0.3, 0.31), "fit_output": True},
    A.ThinPlateSpline: {"scale_range": (0.5, 0.6)},
}


@pytest.mark.parametrize("kind", WARPS)
def test_a_warp_of_volumes_is_refused_where_it_would_fill_slices_with_a_class(kind):
    """It would: of the seven slices OpenCV fills four."""
    image, mask = np.ones((7, 64, 64, 1), np.float32), np.ones((7, 64, 64), np.uint8)

    def labels(**border):
        found = augment.Augmentation([A.Sequential([kind(**WARPS[kind], **border, p=1.0)])], [])
        drawn = [found.train(rng(seed), image, mask)[1] for seed in range(3)]
        return found, set(np.unique(drawn))

    filled, seen = labels(fill_mask=255)
    assert seen == {0, 1, 255}
    with pytest.raises(ConfigError, match=rf"train\[0\]\.transforms\[0\]: {kind.__name__} puts 0"):
        filled.refuse_for_volumes()
    reflected, seen = labels(border_mode=cv2.BORDER_REFLECT_101)
    reflected.refuse_for_volumes()
    assert seen == {1}

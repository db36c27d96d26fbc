"""Volumes through the same engine: patches in training, a sliding window in an evaluation."""

import numpy as np
import pandas as pd
import pytest
import torch

from seglab import config, experiment, inference, record, reload, samples
from seglab.data import cache, check, module
from seglab.data.preprocess import Preprocess
from seglab.errors import ConfigError
from seglab.metrics import boundary_counts, region_counts
from seglab.models import sizes
from seglab.models.vnet import VNet
from seglab.status import cells
from tests.data import trees, volume_trees
from tests.test_training import assert_same_numbers, cut_at

TINY = (
    "dataset=nifti",
    "dataset.patch=[16,16,16]",
    "dataset.patches_per_volume=2",
    "trainer=cpu",
    "trainer.epochs=2",
    "trainer.batch_size=2",
    "trainer.max_steps=2",
    "logger=none",
)
SMALL = ("model=vnet", "model.channels=4")
WARP = "{_target_: albumentations.ElasticTransform, fill_mask: 255}"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Eight volumes of several sizes with two balls in each."""
    return volume_trees.balls(tmp_path_factory.mktemp("volumes") / "Dataset001_Balls")


@pytest.fixture
def balls(read, tree):
    return lambda *overrides: read(*TINY, f"dataset.root='{tree}'", *overrides)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tree):
    results = tmp_path_factory.mktemp("finished") / "results"
    overrides = [*TINY, f"dataset.root='{tree}'", *SMALL, f"results_dir='{results}'"]
    overrides += ["augmentation=inplane_rotation", "postprocess=closing_largest", "loss=dist"]
    overrides += ["metrics.further=[ba,auc,ap,mahd,accuracy]"]
    return experiment.run(config.read(*config.compose(overrides)))


def split_of(settings, name):
    source = config.build(settings, "dataset")
    preprocess = Preprocess(settings.dataset.size, settings.dataset.pad)
    verdict = check.require_clean(source, settings.cache_dir)
    return cache.open_split(source, preprocess, settings.cache_dir, verdict, name)


def test_the_counts_are_of_whole_volumes_under_the_stored_weights(finished):
    run = reload.load(finished)
    table = pd.read_parquet(finished / "images.parquet")
    table = table[(table["checkpoint"] == "best") & (table["split"] == "test")]
    split = split_of(run.settings, "test")
    assert len({split[index][1].shape for index in range(len(split))}) > 1
    for index, name in enumerate(split.ids):
        image, mask = split[index]
        target = torch.from_numpy(np.array(mask))[None].long()
        predicted = run.predict(torch.from_numpy(np.moveaxis(image, -1, 0).copy())[None])
        assert predicted.shape == target.shape
        rows = table[table["image"] == name].set_index("class").sort_index()
        counts = region_counts(predicted, target, 3)[0].numpy()
        np.testing.assert_array_equal(rows[["tp", "fp", "fn"]], counts)
        d = max(1, round(0.02 * float(np.sqrt(sum(side**2 for side in mask.shape)))))
        assert set(rows["boundary_0.02_d"]) == {d}
        bands = boundary_counts(predicted, target, 3, d)[0].numpy()
        columns = [f"boundary_0.02_{what}" for what in ("tp", "fp", "fn")]
        np.testing.assert_array_equal(rows[columns], bands)


def test_the_record_has_what_was_chosen_and_the_epochs_what_was_asked_for(finished):
    found = record.read_record(finished)
    assert found["status"] == "finished"
    assert found["science"]["augmentation"]["train"][0]["limit"] == 15
    assert found["science"]["postprocess"]["components"] == 3
    epochs = pd.read_csv(finished / "epochs.csv").set_index("split")
    further = ["ba", "auc", "ap", "mahd", "mahd_misses", "accuracy"]
    assert epochs.loc["train", further].isna().all(axis=None)
    assert epochs.loc["val", ["ba", "auc", "ap", "accuracy"]].notna().all(axis=None)
    assert (finished / "figures" / "samples.png").exists()


def test_a_network_learns_grey_and_white_matter_of_the_mni_template(read, tmp_path):
    """One average of 152 brains, whose brightness nearly says the tissue: a smoke test."""
    root = volume_trees.mni(tmp_path / "mni")
    folder = experiment.run(
        read(
            *TINY, *SMALL, f"dataset.root='{root}'", "dataset.split_file=blocks.json",
            "dataset.patch=[16,32,32]", "dataset.patches_per_volume=16", "dataset.patch_overlap=0",
            "trainer.epochs=4", "trainer.max_steps=null", "loss=dice_focal", "optimizer.lr=0.01",
        )
    )  # fmt: skip
    epochs = pd.read_csv(folder / "epochs.csv").query("split == 'val'")
    assert epochs["dice"].max() > 0.5
    assert record.read_record(folder)["dataset"]["classes"] == ["background", "grey", "white"]


def test_a_run_on_drawn_patches_that_was_cut_ends_like_an_unbroken_one(balls, results, monkeypatch):
    overrides = (*SMALL, "augmentation=inplane_rotation", "data.workers=0")
    whole = experiment.run(balls(*overrides, "data.workers=2", f"results_dir='{results / 'w'}'"))
    with cut_at(2, monkeypatch):
        experiment.run(balls(*overrides))
    assert_same_numbers(experiment.run(balls(*overrides)), whole)


def test_images_that_are_drawn_anew_are_resumed_alike_too(tiny, results, monkeypatch):
    overrides = ("loss=shape_aware", "augmentation=flips", "data.on_device=yes")
    whole = experiment.run(tiny(*overrides, f"results_dir='{results / 'whole'}'"))
    plain = experiment.run(tiny("loss=shape_aware", f"results_dir='{results / 'plain'}'"))
    assert record.read_record(plain)["hash"] != record.read_record(whole)["hash"]
    with cut_at(4, monkeypatch):
        experiment.run(tiny(*overrides))
    assert_same_numbers(experiment.run(tiny(*overrides)), whole)
    with pytest.raises(AssertionError):
        assert_same_numbers(whole, plain)


def test_each_epoch_of_a_run_draws_anew_and_an_evaluation_does_not(tiny, monkeypatch):
    keys, untouched = [], module.Images.__getitem__

    def noted(self, key):
        if self.draw is not None:
            keys.append(key)
        return untouched(self, key)

    monkeypatch.setattr(module.Images, "__getitem__", noted)
    crop = "{_target_: albumentations.CenterCrop, height: 32, width: 32}"
    experiment.run(tiny("augmentation=flips", f"augmentation.evaluation=[{crop}]"))
    trained = [key for key in keys if isinstance(key, tuple)]
    assert {epoch for epoch, _ in trained[-12:]} == {0, 1}  # 2 epochs of 6 images
    assert sorted(trained[-6:]) == [(1, index) for index in range(6)]
    assert {key for key in keys if not isinstance(key, tuple)} == set(range(5))


def test_further_metrics_may_wait_for_the_last_epochs(tiny):
    folder = experiment.run(tiny("metrics.further=[ba,mahd]", "metrics.further_last=1"))
    found = pd.read_csv(folder / "epochs.csv").query("split == 'val'").set_index("epoch")
    assert found["ba"].notna().to_dict() == {1: False, 2: True}
    assert found["mahd"].isna()[1]
    with pytest.raises(ConfigError, match=r"metrics\.further_last=0"):
        tiny("metrics.further_last=0")


def test_what_takes_nothing_new_keeps_its_name(tiny):
    tree = tiny().tree
    said = record.science(tree, {}, None, None)
    old = {k: v for k, v in tree.items() if k not in ("augmentation", "postprocess")}
    old["metrics"] = {"boundary_ratios": tree["metrics"]["boundary_ratios"]}
    assert record.science(old, {}, None, None) == said
    for override in ("augmentation=flips", "postprocess=closing_largest", "metrics.further=[ba]"):
        assert record.science(tiny(override).tree, {}, None, None) != said


def test_a_sliding_window_of_a_local_network_is_the_network():
    torch.manual_seed(0)
    image = torch.randn(1, 2, 11, 20, 17)
    network = torch.nn.Conv3d(2, 3, 1)
    with torch.no_grad():
        for patch in ((8, 8, 8), (16, 32, 16)):
            found = inference.sliding_window(patch, 0.5)(image, network)
            torch.testing.assert_close(found, network(image), rtol=1e-5, atol=1e-5)


def test_vnet_is_milletaris():
    """The receptive fields of the paper's Table 1 follow from its convolutions; so do ours."""
    network = VNet(2, 1, 16, "prelu", 0.0, "none")
    sizes.check_size(network, (16, 32, 48), 2, 1)
    seen, step, fields = 1, 1, []
    for stage in (network.first, *network.down, *network.up):
        for layer in stage.modules():
            if isinstance(layer, torch.nn.ConvTranspose3d):
                step //= 2
                seen += step
            elif isinstance(layer, torch.nn.Conv3d):
                seen += (layer.kernel_size[0] - 1) * step
                step *= layer.stride[0]
        fields.append(seen)
    assert fields == [5, 22, 72, 172, 372, 476, 528, 546, 551]
    widths = [stage.down_conv.out_channels for stage in network.down]
    assert widths == [32, 64, 128, 256]
    kinds = {type(m) for m in network.modules()}
    assert torch.nn.PReLU in kinds
    assert torch.nn.ELU not in kinds
    image = torch.randn(2, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(network.train()(image), network(image))  # nothing is dropped
        dropping = VNet(2, 1, 4, "prelu", 0.5, "none")
        assert not torch.equal(dropping(image), dropping(image))
        assert torch.equal(dropping.eval()(image), dropping(image))


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("model=vnet", "dataset.patch=[20,16,16]"), r"20 x 16 x 16 voxels.*16 x 16 x 16"),
        (("model=unet", "encoder.weights=null"), r"model=unet is for images.*model=vnet"),
        (
            ("model=vnet", "model.in_channels=3"),
            r"model\.in_channels=3: must divide model\.channels=16",
        ),
        (("model=vnet", "model.in_channels=2"), r"in_channels=2: .*Set model\.in_channels=1"),
        (("model=vnet", "model.channels=abc"), r"model\.channels=abc: must be a whole number"),
        (("model=vnet", "trainer.precision=bf16-mixed"), r"bf16-mixed: on a CPU.*precision=32"),
        (("model=vnet", "dataset.patch=null"), r"dataset\.patch:.*dataset\.patch=\["),
        (("model=vnet", "dataset.patch=[16,16]"), r"dataset\.patch=\[16, 16\]: must be three"),
        (("model=vnet", "dataset.patch_foreground=2"), r"dataset\.patch_foreground=2"),
        (("model=vnet", "dataset.patch_overlap=1"), r"dataset\.patch_overlap=1"),
        (("model=vnet", "dataset.patches_per_volume=0"), r"patches_per_volume=0"),
        (("model=vnet", "trainer.batch_size=1"), "trainer.batch_size=1: each process would train"),
        (("model=vnet", "trainer.devices=2"), r"trainer\.devices=2.*split val has 1 image"),
        (("model=vnet", "metrics.further=[auk]"), r"metrics\.further.*auk.*auc"),
        (
            ("model=vnet", f"augmentation.train=[{WARP}]"),
            r"augmentation\.train\[0\]: ElasticTransform puts 0 into most slices",
        ),
    ],
)
def test_a_mistake_is_named_before_training(balls, overrides, words):
    with pytest.raises(ConfigError, match=words):
        experiment.run(balls(*overrides))


def test_a_patch_for_images_and_crops_that_differ_are_refused(tiny):
    with pytest.raises(ConfigError, match=r"dataset\.patch=\[4, 4, 4\].*augmentation"):
        experiment.run(tiny("+dataset.patch=[4,4,4]"))
    step = "{_target_: albumentations.RandomScale, scale_limit: 0.5, p: 1.0}"
    with pytest.raises(ConfigError, match=r"augmentation/none\.yaml: train: .*several sizes"):
        experiment.run(tiny(f"augmentation.train=[{step}]"))
    step = "{_target_: albumentations.RandomCrop, height: 99, width: 99}"
    with pytest.raises(ConfigError, match=r"augmentation/none\.yaml: evaluation: .*99"):
        experiment.run(tiny(f"augmentation.evaluation=[{step}]"))


def test_a_forecast_counts_the_patches_of_an_epoch(balls, tree, results):
    settings = balls(*SMALL)
    check.require_clean(config.build(settings, "dataset"), settings.cache_dir)
    line = [*TINY, *SMALL, f"dataset.root='{tree}'", f"results_dir='{results}'"]
    lines = cells.command_lines([*line, "trainer.max_steps=null", "dataset.patches_per_volume=3"])
    (cell,) = cells.grid(lines, cells.read(lines))
    assert cell.images == {"train": 14, "val": 1, "test": 2}  # 5 volumes, 15 patches, batches of 2


def test_volumes_on_a_cpu_are_trained_in_single_precision(balls, tiny, monkeypatch):
    """PyTorch's conv3d in bfloat16 gives other gradients in each call on a CPU that has it."""
    monkeypatch.setattr(experiment, "cpu_computes_bf16", lambda: True)
    assert experiment.choose_device(balls("trainer.precision=auto")).precision == "32"
    assert experiment.choose_device(tiny("trainer.precision=auto")).precision == "bf16-mixed"


def test_a_patch_beyond_every_volume_is_said(balls, capfd):
    experiment.open_data(balls("dataset.patch=[16,48,16]"), main=True)
    said = capfd.readouterr().err
    assert "dataset.patch=[16, 48, 16] reaches beyond every volume" in said
    assert "[19, 24, 31]" in said
    assert "at least 50% of each patch is padding" in said
    experiment.open_data(balls(), main=True)
    assert "Warning" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ("dataset=nifti", "loss=distance_penalty"),
            "loss.spacing=null: the loss measures distances in voxels, which are [3,1,1] mm. "
            "For millimetres: loss.spacing=[3,1,1]",
        ),
        (
            ("dataset=nifti", "loss=boundary_bce", "dataset.axis=coronal"),
            "loss.terms.boundary.loss.spacing=null: the loss measures distances in voxels, which "
            "are [1,3,1] mm. For millimetres: loss.terms.boundary.loss.spacing=[1,3,1]",
        ),
        (
            ("dataset=nifti", "loss=shape_aware", "dataset.spacing=[4,0.7,1]"),  # 4.5 of 18 mm: 4
            "loss.spacing=null: the loss measures distances in voxels, which are [4,0.7,1] mm. "
            "For millimetres: loss.spacing=[4,0.7,1]",
        ),
        (
            ("dataset=nifti_slices", "loss=boundary", "dataset.axis=coronal", "dataset.size=20"),
            "loss.spacing=null: the loss measures distances in pixels, which are [1.5,0.5] mm. "
            "For millimetres: loss.spacing=[1.5,0.5]",
        ),
        (("dataset=nifti", "loss=boundary", "dataset.spacing=[1,1,1]"), None),
        (("dataset=nifti", "loss=boundary", "loss.spacing=[3,1,1]"), None),
        (("dataset=nifti", "loss=dice"), None),
        (("dataset=nifti_slices", "loss=boundary"), None),  # axial: square pixels
    ],
)
def test_distances_in_voxels_that_are_no_cubes_are_said(read, tmp_path, capfd, overrides, said):
    root = trees.nifti(tmp_path / "scans")
    settings = read(f"dataset.root='{root}'", "trainer=cpu", *overrides)
    data = experiment.open_data(settings, main=True)
    capfd.readouterr()
    experiment.look_at_spacing(settings, data, config.build(settings, "loss"))
    assert capfd.readouterr().err == ("" if said is None else f"Warning: {said}\n")


@pytest.mark.parametrize(
    ("overrides", "rest"),
    [
        (("dataset=nifti",), "For millimetres resample them to one: dataset.spacing=[3,1,1]"),
        (
            ("dataset=nifti_slices", "dataset.axis=coronal", "dataset.size=null"),
            "No one spacing fits all; that of the median:",
        ),
    ],
)
def test_where_spacings_differ_the_warning_says_how_to_make_them_one(
    read, tmp_path, capfd, overrides, rest
):
    root = trees.nifti(tmp_path / "scans")
    settings = read(f"dataset.root='{root}'", "trainer=cpu", "loss=boundary", *overrides)
    source = config.build(settings, "dataset")
    name = source.samples("train")[0].files[0].name.removesuffix("_0000.nii.gz")
    image, labels = trees.scan(0)
    for path, array in ((f"imagesTr/{name}_0000", image[..., 0]), (f"labelsTr/{name}", labels)):
        trees.save_nifti(root / f"{path}.nii.gz", array, np.diag([1, 1, 5, 1]))
    data = experiment.open_data(settings, main=True)
    capfd.readouterr()
    experiment.look_at_spacing(settings, data, config.build(settings, "loss"))
    said = capfd.readouterr().err
    assert "which differ from volume to volume (median [3,1" in said
    assert f"{rest} loss.spacing=[3,1" in said


def test_a_run_says_it_before_training(balls, capfd):
    experiment.run(balls(*SMALL, "loss=distance_penalty", "trainer.epochs=1"))
    said = capfd.readouterr().err
    assert said.count("loss.spacing=[1,0.5,0.5]") == 1


def test_images_for_a_network_of_volumes_are_refused(tiny):
    with pytest.raises(ConfigError, match=r"model=vnet is for volumes, and dataset=shapes has im"):
        experiment.run(tiny("model=vnet", "encoder=none"))


def test_a_volume_is_shown_by_its_fullest_slice():
    target = np.zeros((4, 5, 6), np.uint8)
    target[1, 2, :3] = 255
    target[2, 2, 2:4] = 1
    target[3, 0, 0] = 2
    assert samples.most_foreground(target) == 2

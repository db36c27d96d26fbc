"""The adapter of segmentation-models-pytorch: networks, sizes, weights of files and of the hub."""

import itertools
import time
from pathlib import Path

import huggingface_hub
import pytest
import segmentation_models_pytorch as library
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import nn

from seglab.errors import ConfigError
from seglab.models import smp
from seglab.models.sizes import check_size, minimum_batch
from seglab.models.smp import build, identity, load_encoder

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
NETWORKS = list(
    itertools.product(("unet", "deeplabv3plus"), ("resnet34", "resnet50", "mobilenet_v2"))
)


def encoder_of(name):
    return library.encoders.get_encoder(name, weights=None)


def config(model, encoder, weights=None):
    """The two files, put together as the command line does."""
    tree = OmegaConf.create(
        {
            "dataset": {"recipe": {"encoder_weights": weights}},
            "encoder": OmegaConf.load(CONFIGS / "encoder" / f"{encoder}.yaml"),
            "model": OmegaConf.load(CONFIGS / "model" / f"{model}.yaml"),
        }
    )
    return tree.model


@pytest.fixture(scope="module")
def states():
    """Random weights of three encoders."""
    torch.manual_seed(7)
    return {name: encoder_of(name).state_dict() for name in ("resnet18", "resnet34", "resnet50")}


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """An empty cache and no hub, whatever the machine has."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def saved(state, path):
    save = save_file if path.suffix == ".safetensors" else torch.save
    save(dict(state), path)
    return str(path)


def same(encoder, state):
    ours = encoder.state_dict()
    assert ours.keys() == state.keys()
    return all(torch.equal(ours[key], state[key]) for key in state)


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize(("model", "encoder"), NETWORKS)
def test_the_six_networks_of_the_thesis_map_images_to_logits(model, encoder):
    network = instantiate(config(model, encoder), classes=19)
    assert network.training
    with torch.no_grad():
        logits = network(torch.rand(2, 3, 64, 96))
    assert logits.shape == (2, 19, 64, 96)
    assert (logits < 0).any()  # not probabilities
    check_size(network, (512, 512), classes=19)


def test_every_architecture_is_chosen_by_name_and_every_encoder_too():
    for model_class in library.MODEL_ARCHITECTURES_MAPPING.values():
        if model_class is not library.DPT:  # takes timm's transformers alone
            network = build(model_class.__name__, "resnet18", None, 2)
            assert isinstance(network, model_class)
            check_size(network, (256, 256), classes=2)
    for encoder in ("mit_b0", "efficientnet-b0", "tu-convnext_atto"):
        check_size(build("FPN", encoder, None, 1), (64, 64), classes=1)
    assert isinstance(build("deeplabv3plus", "resnet18", None, 1), library.DeepLabV3Plus)


def test_options_reach_the_architecture():
    narrow = build("Unet", "resnet18", None, 1, decoder_channels=[64, 32, 16, 8, 4])
    assert smp.num_parameters(narrow) < smp.num_parameters(build("Unet", "resnet18", None, 1))


def test_parameters_are_those_that_train():
    network = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    assert smp.num_parameters(network) == 3 * 5 + 5 + 5 + 5
    network[0].weight.requires_grad = False
    assert smp.num_parameters(network) == 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("UnetPlus", "resnet34"), r"model.architecture=UnetPlus: .*Did you mean .*UnetPlusPlus"),
        (("Unet", "resnet43"), r"encoder.name=resnet43: .*Did you mean .*resnet34.*mobilenet_v2"),
        (("Unet", "tu-resnet43"), r"encoder.name=tu-resnet43: timm has no .*tu-resnet34"),
        (("Linknet", "mit_b0"), r"architecture=Linknet with encoder.name=mit_b0: cannot be built"),
        (("DPT", "resnet34"), r"Only Timm encoders"),
    ],
)
def test_names_that_do_not_exist_or_do_not_go_together(arguments, message):
    with pytest.raises(ConfigError, match=message):
        build(*arguments, None, 1)


@pytest.mark.parametrize(
    ("encoder", "option"),
    [
        ("resnet18", "decoder_chanels"),
        ("resnet18", "encoder_name2"),
        ("resnet18", "activation"),
        ("tu-convnext_atto", "aux_params"),  # timm may take what the architecture does not know
    ],
)
def test_options_that_would_be_dropped_or_change_the_output_are_refused(encoder, option):
    with pytest.raises(ConfigError, match=rf"model.{option}: Unet takes no such") as caught:
        build("Unet", encoder, None, 1, **{option: "softmax"})
    assert "Choices: encoder_depth, " in str(caught.value)
    assert ", activation" not in str(caught.value)


def test_the_smp_file_wants_an_architecture():
    assert OmegaConf.missing_keys(config("smp", "resnet34")) == {"model.architecture"}


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("architecture", "good", "bad", "near"),
    [
        ("DeepLabV3Plus", (256, 512), (250, 500), "240 x 496, 256 x 512"),  # multiples of 16
        ("FPN", (64, 96), (100, 128), "96 x 128, 128 x 128"),  # multiples of 32
        ("PAN", (128, 128), (96, 160), "128 x 192"),  # of 16, and eight pixels at the deepest
    ],
)
def test_a_size_that_does_not_fit_is_refused_with_sizes_near_it_that_do(
    architecture, good, bad, near
):
    network = build(architecture, "resnet18", None, 2)
    check_size(network, good)
    message = f"{bad[0]} x {bad[1]} pixels: .*Sizes near it that will do: {near}\\."
    with pytest.raises(ConfigError, match=message):
        check_size(network, bad)
    for size in near.split(", "):
        check_size(network, [int(side) for side in size.split(" x ")])


def test_a_network_that_gives_back_another_size_or_number_of_channels_is_refused():
    shrinking = nn.Conv2d(3, 4, 2, stride=2)
    with pytest.raises(ConfigError, match="its output has 32 x 48 pixels"):
        check_size(shrinking, (64, 96))
    with pytest.raises(ConfigError, match="gives 4 channels, and the data set has 19"):
        check_size(nn.Conv2d(3, 4, 1), (64, 64), classes=19)

    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(ConfigError, match="not one .* tensor"):
        check_size(Pair(), (64, 64))


def test_a_network_that_looks_at_values_is_tried_for_real():
    class Peeking(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 2, 1)

        def forward(self, x):
            assert x.shape[-1] != 65, "65 is too wide"
            return self.layer(x) if x.max().item() < 1 else None

    check_size(Peeking(), (64, 64), classes=2)
    with pytest.raises(ConfigError, match="65 is too wide"):
        check_size(Peeking(), (64, 65))


@pytest.mark.parametrize(
    ("architecture", "size", "least"),
    [
        ("Unet", (64, 64), 1),
        ("Unet", (32, 32), 2),  # one pixel at the deepest
        ("DeepLabV3Plus", (512, 512), 2),  # pools the whole image to one value per channel
        ("FPN", (64, 64), 1),
    ],
)
def test_minimum_batch_is_the_smallest_that_trains(architecture, size, least):
    network = build(architecture, "resnet18", None, 1)
    assert minimum_batch(network, size) == least
    if max(size) < 100:
        network(torch.rand(least, 3, *size))
    if least == 2:
        with pytest.raises(ValueError, match="more than 1 value"):
            network(torch.rand(1, 3, *size))


def test_probing_leaves_the_network_and_the_random_numbers_alone():
    network = build("DeepLabV3Plus", "resnet18", None, 1)
    network.encoder.eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    check_size(network, (64, 64), classes=1)
    assert minimum_batch(network, (512, 512)) == 2
    assert torch.equal(torch.rand(4), expected)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network.training
    assert not network.encoder.training


def test_a_trial_with_values_leaves_the_network_and_the_random_numbers_alone_too():
    class Peeking(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Dropout())

        def forward(self, x):
            return self.layers(x) if x.max().item() < 1 else None

    network = Peeking()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    assert minimum_batch(network, (8, 8)) == 1
    assert torch.equal(torch.rand(4), expected)
    assert network.layers[1].num_batches_tracked == 0
    check_size(network, (8, 8), classes=2)
    assert network.training


# ---------------------------------------------------------------- weights from a file


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_a_file_fills_the_encoder_and_nothing_else(states, tmp_path, suffix):
    path = saved(states["resnet34"], tmp_path / f"w{suffix}")
    torch.manual_seed(1)
    filled = build("Unet", "resnet34", path, 3)
    torch.manual_seed(1)
    blank = build("Unet", "resnet34", None, 3)
    assert same(filled.encoder, states["resnet34"])
    assert not same(blank.encoder, states["resnet34"])
    assert same(filled.decoder, blank.decoder.state_dict())
    assert same(filled.segmentation_head, blank.segmentation_head.state_dict())


WRAPPINGS = {
    "encoder.": lambda state: {f"encoder.{key}": value for key, value in state.items()},
    "module.": lambda state: {f"module.{key}": value for key, value in state.items()},
    "module.encoder.": lambda state: {f"module.encoder.{key}": v for key, v in state.items()},
    "state_dict": lambda state: {"state_dict": dict(state), "epoch": 3},
    "classifier": lambda state: {
        **state,
        "fc.weight": torch.ones(9, 512),
        "fc.bias": torch.ones(9),
    },
    "network": lambda state: {
        **{f"encoder.{key}": value for key, value in state.items()},
        "decoder.x": torch.ones(2),
    },
    "without counters": lambda state: {
        key: value for key, value in state.items() if not key.endswith("num_batches_tracked")
    },
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_usual_wrappings_are_taken_off(states, tmp_path, wrapping, caplog):
    path = saved(WRAPPINGS[wrapping](states["resnet18"]), tmp_path / "w.pth")
    encoder = encoder_of("resnet18")
    load_encoder(encoder, "resnet18", path)
    assert same(encoder, states["resnet18"])
    said = {"classifier": "left out: fc.weight, fc.bias", "network": "left out: decoder.x"}
    if wrapping in said:
        assert said[wrapping] in caplog.text
    else:
        assert not caplog.text


def test_a_torchvision_style_mobilenet_loses_its_classifier(tmp_path):
    state = encoder_of("mobilenet_v2").state_dict()
    path = saved({**state, "classifier.1.weight": torch.ones(2)}, tmp_path / "w.safetensors")
    encoder = encoder_of("mobilenet_v2")
    load_encoder(encoder, "mobilenet_v2", path)
    assert same(encoder, state)


def test_a_file_of_timms_own_naming_fills_a_timm_encoder(tmp_path):
    whole = smp.timm.create_model("convnext_atto", pretrained=False)
    path = saved(whole.state_dict(), tmp_path / "w.safetensors")
    network = build("Unet", "tu-convnext_atto", path, 1)
    assert torch.equal(network.encoder.model.stem_0.weight, whole.stem[0].weight)
    assert torch.equal(
        network.encoder.model.stages_3.blocks[1].conv_dw.weight,
        whole.stages[3].blocks[1].conv_dw.weight,
    )
    state = whole.state_dict()
    del state["stem.0.weight"]
    path = saved(state, tmp_path / "less.safetensors")
    with pytest.raises(ConfigError, match="1 missing: model.stem_0.weight"):
        build("Unet", "tu-convnext_atto", path, 1)


def test_the_file_of_another_encoder_is_refused_key_by_key(states, tmp_path):
    path = saved(states["resnet50"], tmp_path / "resnet50.safetensors")
    with pytest.raises(ConfigError) as caught:
        build("Unet", "resnet34", path, 1)
    text = str(caught.value)
    assert text.startswith(f"encoder.weights={path}: does not fit encoder.name=resnet34.")
    assert "layer1.0.conv1.weight (file [64, 64, 1, 1], network [64, 64, 3, 3])" in text
    assert "102 unknown: " in text  # 16 third convolutions, 80 of their norms, 6 of a shortcut
    assert "and 92 more" in text
    assert len(text) < 2500


@pytest.mark.parametrize("key", ["conv1.weight", "bn1.running_mean", "layer4.1.bn2.bias"])
def test_one_missing_key_is_enough_to_refuse(states, tmp_path, key):
    state = {name: value for name, value in states["resnet18"].items() if name != key}
    path = saved(state, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=f"1 missing: {key}\\."):
        load_encoder(encoder_of("resnet18"), "resnet18", path)


def test_one_unknown_key_is_enough_to_refuse(states, tmp_path):
    path = saved({**states["resnet18"], "conv9.weight": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match="1 unknown: conv9.weight"):
        load_encoder(encoder_of("resnet18"), "resnet18", path)


def test_a_refused_file_leaves_the_encoder_as_it_was(states, tmp_path):
    path = saved({**states["resnet18"], "conv9.weight": torch.ones(1)}, tmp_path / "w.pt")
    encoder = encoder_of("resnet18")
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with pytest.raises(ConfigError):
        load_encoder(encoder, "resnet18", path)
    assert same(encoder, before)


class Trap:
    """What a hostile file would hold."""

    def __reduce__(self):
        return (Path.touch, (Path("trap-was-run"),))


def test_files_that_are_not_what_they_say(states, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder.pth").mkdir()
    Path("w.bin").write_bytes(b"x")
    Path("noise.safetensors").write_bytes(b"not tensors at all, whatever the name says")
    Path("noise.pth").write_bytes(bytes(range(256)) * 10)
    Path("empty.pt").write_bytes(b"")
    whole = Path(saved(states["resnet18"], tmp_path / "whole.safetensors")).read_bytes()
    Path("cut.safetensors").write_bytes(whole[: len(whole) // 2])
    whole = Path(saved(states["resnet18"], tmp_path / "whole.pth")).read_bytes()
    Path("cut.pth").write_bytes(whole[: len(whole) // 2])
    torch.save([1, 2], "list.pth")
    torch.save({"conv1.weight": 3}, "numbers.pth")
    torch.save({"state_dict": Trap()}, "trap.pth")
    for name, message in {
        "nowhere.safetensors": "there is no such file",
        "folder.pth": "this is a folder",
        "w.bin": r"cannot read \.bin\. Known suffixes: \.safetensors, \.pth, \.pt",
        "some/model": "there is no such file",
        "noise.safetensors": r"is not a whole \.safetensors file",
        "cut.safetensors": r"is not a whole \.safetensors file",
        "noise.pth": "is damaged, or holds more than tensors",
        "empty.pt": r"is not a whole \.pt file",
        "cut.pth": r"is not a whole \.pth file",
        "list.pth": "holds no state_dict",
        "numbers.pth": "these are not tensors: conv1.weight",
        "trap.pth": "holds more than tensors, which could run code",
    }.items():
        with pytest.raises(ConfigError, match=f"^encoder.weights={name}: .*{message}"):
            load_encoder(encoder_of("resnet18"), "resnet18", name)
    assert not Path("trap-was-run").exists()


# ---------------------------------------------------------------- weights from the hub


def test_without_a_network_the_error_says_what_to_fetch_and_how_to_pass_it():
    started = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        build("Unet", "resnet34", "imagenet", 1)
    assert time.monotonic() - started < 60  # it does not wait for retries
    text = str(caught.value)
    revision = "7a57b34f723329ff020b3f8bc41771163c519d0c"
    assert text.startswith(
        "encoder.weights=imagenet: cannot fetch model.safetensors of smp-hub/resnet34.imagenet "
        f"at revision {revision}"
    )
    command = f"hf download smp-hub/resnet34.imagenet model.safetensors --revision {revision}"
    assert command in text
    assert "encoder.weights=path/to/model.safetensors" in text
    assert "encoder.weights=null" in text


def test_a_hub_that_cannot_be_reached_is_asked_once(monkeypatch):
    asked = []

    def unreachable(address, **_):
        asked.append(address)
        raise OSError("Name or service not known")

    def only_the_cache(*_, local_files_only=False, **__):
        assert local_files_only, "would retry for half a minute"
        raise LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", only_the_cache)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    with pytest.raises(ConfigError, match="Name or service not known"):
        build("Unet", "mobilenet_v2", "imagenet", 1)
    assert len(asked) == 1
    assert "smp-hub/mobilenet_v2.imagenet/resolve/e67aa804" in asked[0]


def test_weights_in_the_cache_need_no_network(states, tmp_path):
    revision = "7a57b34f723329ff020b3f8bc41771163c519d0c"
    folder = tmp_path / "hub" / "models--smp-hub--resnet34.imagenet" / "snapshots" / revision
    folder.mkdir(parents=True)
    saved(states["resnet34"], folder / "model.safetensors")
    network = instantiate(config("unet", "resnet34", weights="imagenet"), classes=1)
    assert same(network.encoder, states["resnet34"])


@pytest.mark.parametrize(
    ("encoder", "weights", "message"),
    [
        ("resnet34", "imagnet", "Did you mean imagenet.*Choices: imagenet, null, or the path"),
        ("resnext101_32x4d", "imagenet", "Choices: ssl, swsl, null, or the path of a file"),
        ("tu-convnext_atto", "ssl", "Choices: imagenet, null"),
    ],
)
def test_unknown_sets_of_weights_are_refused_with_those_there_are(encoder, weights, message):
    with pytest.raises(ConfigError, match=f"^encoder.weights={weights}: .*{message}"):
        smp._published(encoder, weights)


def test_timms_weights_are_looked_for_in_timms_repository():
    with pytest.raises(ConfigError, match="timm/convnext_atto.d2_in1k at revision main"):
        build("Unet", "tu-convnext_atto", "imagenet", 1)


# ---------------------------------------------------------------- identity


def test_identity_of_a_file_is_its_content_wherever_it_lies(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"abc")
    (tmp_path / "b.pth").write_bytes(b"abc")
    (tmp_path / "c.pth").write_bytes(b"abd")
    ours = [identity(str(tmp_path / f"{name}.pth")) for name in "abc"]
    # the SHA-256 of "abc", FIPS 180-2, appendix B.1
    assert ours[0] == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert ours[0] == ours[1] != ours[2]


def test_identity_of_names_is_the_name():
    assert identity(None) is None
    assert identity("imagenet") == "imagenet"
    with pytest.raises(ConfigError, match="there is no such file"):
        identity("nowhere.safetensors")

"""Checkpoints are whole, verified, and run no code."""

import pytest
import torch

from seglab import checkpoint
from seglab.errors import RunError

STATE = {"state_dict": {"w": torch.arange(6.0)}, "epoch": 3}


@pytest.fixture
def io():
    return checkpoint.VerifiedCheckpointIO()


def test_what_is_written_is_read_back(io, tmp_path):
    io.save_checkpoint(STATE, tmp_path / "x.ckpt")
    found = io.load_checkpoint(tmp_path / "x.ckpt")
    assert found["epoch"] == 3
    assert torch.equal(found["state_dict"]["w"], STATE["state_dict"]["w"])


def test_a_full_disk_keeps_the_old_checkpoint_and_says_so(io, tmp_path, monkeypatch):
    path = tmp_path / "x.ckpt"
    io.save_checkpoint(STATE, path)
    old = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunError, match=r"x\.ckpt: .*No space left on device.*kept"):
        io.save_checkpoint({"epoch": 4}, path)
    assert path.read_bytes() == old


def test_what_does_not_read_back_is_not_given_the_name(io, tmp_path, monkeypatch):
    whole = torch.save

    def truncated(value, path):
        whole(value, path)
        path.write_bytes(path.read_bytes()[:-50])

    monkeypatch.setattr(torch, "save", truncated)
    with pytest.raises(RunError, match="does not read back"):
        io.save_checkpoint(STATE, tmp_path / "x.ckpt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["empty", "half", "flipped"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(io, tmp_path, damage):
    path = tmp_path / "last.ckpt"
    io.save_checkpoint({**STATE, "epoch": 1}, path)
    checkpoint.keep_previous(path)
    io.save_checkpoint({**STATE, "epoch": 2}, path)
    content = bytearray(path.read_bytes())
    flip = content.find(STATE["state_dict"]["w"].numpy().tobytes())
    content[flip] ^= 1
    path.write_bytes({"empty": b"", "half": content[: len(content) // 2]}.get(damage, content))
    found, warning = checkpoint.newest_whole(path)
    assert found == tmp_path / "last.ckpt.previous"
    assert "last.ckpt is damaged; going on from last.ckpt.previous" in warning
    assert io.load_checkpoint(found)["epoch"] == 1


def test_no_checkpoint_is_no_warning(tmp_path):
    assert checkpoint.newest_whole(tmp_path / "last.ckpt") == (None, None)


class Malice:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def test_a_checkpoint_that_would_run_code_is_refused(io, tmp_path):
    marker = tmp_path / "was-here"
    torch.save({"state": Malice(marker)}, tmp_path / "x.ckpt")
    with pytest.raises(Exception, match="[Ww]eights only"):
        io.load_checkpoint(tmp_path / "x.ckpt", weights_only=False)
    assert not marker.exists()


def test_weights_are_safetensors(tmp_path):
    path = tmp_path / "weights.safetensors"
    checkpoint.save_weights({"w": torch.ones(2, 3).T}, path, {"epoch": "3"})
    assert torch.equal(checkpoint.load_weights(path)["w"], torch.ones(3, 2))
    assert b'"epoch":"3"' in path.read_bytes()

"""Checkpoints that are whole, verified, and load without running code.

Lightning's own writer stages in TMPDIR, which may be another file system, and passes over
permission errors (Lightning issues 19970, 21253, 21800). This one writes beside the target,
flushes, reads the archive back against its checksums, and only then renames.
"""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors.torch import load_file, save_file
from torch import Tensor

from seglab import files
from seglab.errors import RunError


class VerifiedCheckpointIO(CheckpointIO):
    """Lightning's door to the disk."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any | None = None,
    ) -> None:
        """Writes `checkpoint`; an older file of that name stays until the new one is whole.

        Errors: RunError naming the path where the disk is full or the folder cannot be written.
        """
        assert storage_options is None, "a local file has no storage options"
        target = Path(path)
        try:
            files.write_atomic(target, lambda temporary: _write_verified(checkpoint, temporary))
        except OSError as error:
            raise RunError(
                f"{target}: the checkpoint cannot be written ({error.strerror or error}). "
                "The last good checkpoint is kept; free space or mend the folder's permissions, "
                "then start the same command again."
            ) from error

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any | None = None,
        weights_only: bool | None = None,  # noqa: FBT001 - Lightning's signature
    ) -> dict[str, Any]:
        """Reads tensors and plain values alone, whatever `weights_only` says."""
        del weights_only
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Deletes a checkpoint, if it is there."""
        Path(path).unlink(missing_ok=True)


def _write_verified(checkpoint: dict[str, Any], path: Path) -> None:
    torch.save(checkpoint, path)
    if not is_whole(path):
        raise OSError("what was written does not read back")


def is_whole(path: Path) -> bool:
    """Whether a checkpoint's archive is complete and every entry has its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def link(source: Path, target: Path) -> None:
    """Gives a whole checkpoint a second name, in one step and without a copy."""
    temporary = target.with_name(f".{target.name}-{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    os.link(source, temporary)
    os.replace(temporary, target)


def keep_previous(path: Path) -> None:
    """Lets the present file be found as `<name>.previous` once a new one takes its name."""
    if path.exists():
        link(path, path.with_name(path.name + ".previous"))


def newest_whole(path: Path) -> tuple[Path | None, str | None]:
    """The file to go on from: `path`, else `<name>.previous`; and a warning if one was damaged."""
    warning = None
    for candidate in (path, path.with_name(path.name + ".previous")):
        if candidate.exists():
            if is_whole(candidate):
                return candidate, warning and f"{warning}; going on from {candidate.name}"
            warning = warning or f"{candidate} is damaged"
    return None, warning and f"{warning}; starting anew"


def save_weights(state: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """A state dict as safetensors, a format that runs no code when it is read."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    files.write_atomic(path, lambda temporary: save_file(tensors, temporary, metadata))


def load_weights(path: Path) -> dict[str, Tensor]:
    """What `save_weights` wrote."""
    return load_file(path)

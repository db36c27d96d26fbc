"""Weights & Biases as a mirror of the record. No fault of it stops or loses a run.

`mirror` decides before anything starts whether the service can be reached, because a failed
`wandb.init` costs up to 90 seconds and cannot be taken back in the same process.
"""

import logging
import netrc
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from seglab.config import LoggerSettings

log = logging.getLogger(__name__)

REACH_SECONDS = 3.0


class Mirror:
    """What a run tells a tracker: nothing, here. `state` goes into the record."""

    state: str | None = None

    def log(self, values: dict[str, Any], epoch: int) -> None:
        """Scalars of one epoch."""

    def picture(self, name: str, path: Path) -> None:
        """A picture of the run folder."""

    def summary(self, values: dict[str, Any]) -> None:
        """The scores of the finished run."""

    def close(self, exit_code: int) -> None:
        """Ends the mirror; a non-zero exit code marks the run as failed."""


class WandbMirror(Mirror):
    """The same, sent to W&B. The first fault is said once and ends the mirror, not the run."""

    def __init__(self, run: Any, mode: str) -> None:
        self.run = run
        self.state = f"wandb {mode}"

    def _try(self, action: Callable[[], Any]) -> None:
        if self.run is None:
            return
        try:
            action()
        except Exception as error:  # whatever a tracker raises, the run goes on
            log.warning("W&B is given up for this run: %s. The run folder has everything.", error)
            self.state = f"degraded: {error}"
            self.run = None

    def log(self, values: dict[str, Any], epoch: int) -> None:
        self._try(lambda: self.run.log({**values, "epoch": epoch}))

    def picture(self, name: str, path: Path) -> None:
        def send() -> None:
            import wandb

            self.run.log({name: wandb.Image(str(path))})

        self._try(send)

    def summary(self, values: dict[str, Any]) -> None:
        self._try(lambda: self.run.summary.update(values))

    def close(self, exit_code: int) -> None:
        self._try(lambda: self.run.finish(exit_code=exit_code))
        self.run = None


def mirror(settings: LoggerSettings, run_id: str, folder: Path, tree: dict[str, Any]) -> Mirror:
    """The mirror that section `logger` asks for; offline where online would not work."""
    if settings.name != "wandb":
        return Mirror()
    mode = settings.mode
    if mode == "online":
        reason = _why_not_online()
        if reason:
            log.warning("logger.mode=online: %s. Logging offline; `wandb sync` sends it.", reason)
            mode = "offline"
    try:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        run = wandb.init(
            project=settings.project,
            entity=settings.entity,
            name=run_id,
            id=run_id,
            resume="allow",
            mode=mode,  # type: ignore[arg-type]
            dir=str(folder),
            config=tree,
            settings=wandb.Settings(init_timeout=20, console="off"),
        )
        run.define_metric("epoch")
        run.define_metric("*", step_metric="epoch")
    except Exception as error:  # no package, no service, no disk: the run goes on without
        log.warning("W&B cannot start: %s. The run folder has everything.", error)
        failed = Mirror()
        failed.state = f"degraded: {error}"
        return failed
    return WandbMirror(run, mode)


def _why_not_online() -> str | None:
    """A reason, found in seconds, why W&B cannot be reached; None if it can."""
    base = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    host, port = (
        base.hostname or "api.wandb.ai",
        base.port or (80 if base.scheme == "http" else 443),
    )
    if not (os.environ.get("WANDB_API_KEY") or _netrc_has(host)):
        return "there is no API key (run `wandb login`, or set WANDB_API_KEY)"
    try:
        socket.create_connection((host, port), timeout=REACH_SECONDS).close()
    except OSError as error:
        return f"{host}:{port} cannot be reached ({error})"
    return None


def _netrc_has(host: str) -> bool:
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False

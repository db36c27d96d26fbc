"""W&B is a mirror: whatever it does, the run goes on."""

import time

import pytest
import wandb

from seglab import tracking
from seglab.config import LoggerSettings


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_SILENT", "true")


class Recorder:
    """Stands in for a W&B run."""

    def __init__(self, fault=None):
        self.fault, self.logged, self.finished = fault, [], None
        self.summary = {}

    def define_metric(self, *_, **__):
        pass

    def log(self, values):
        if self.fault:
            raise self.fault
        self.logged.append(values)

    def finish(self, exit_code):
        self.finished = exit_code


def settings(**values):
    return LoggerSettings(**{"name": "wandb", "mode": "offline", **values})


def start(monkeypatch, tmp_path, recorder, **values):
    asked = {}

    def init(**arguments):
        asked.update(arguments)
        return recorder

    monkeypatch.setattr(wandb, "init", init)
    return tracking.mirror(settings(**values), "run-1", tmp_path, {"seed": 1}), asked


def test_the_run_is_named_after_the_run_id_and_closed_with_its_exit_code(monkeypatch, tmp_path):
    recorder = Recorder()
    mirror, asked = start(monkeypatch, tmp_path, recorder)
    assert (asked["name"], asked["id"], asked["mode"]) == ("run-1", "run-1", "offline")
    assert asked["config"] == {"seed": 1}
    mirror.log({"val/biou": 0.5}, epoch=3)
    assert recorder.logged == [{"val/biou": 0.5, "epoch": 3}]
    mirror.close(1)
    assert recorder.finished == 1


def test_a_fault_in_the_middle_is_said_once_and_ends_the_mirror_alone(
    monkeypatch, tmp_path, caplog
):
    mirror, _ = start(monkeypatch, tmp_path, Recorder(fault=OSError("no disk")))
    mirror.log({}, 1)
    mirror.log({}, 2)
    mirror.close(0)
    assert [record.message for record in caplog.records] == [
        "W&B is given up for this run: no disk. The run folder has everything."
    ]
    assert mirror.state == "degraded: no disk"


def test_a_service_that_does_not_start_costs_the_mirror_alone(monkeypatch, tmp_path, caplog):
    def init(**_):
        raise RuntimeError("no service")

    monkeypatch.setattr(wandb, "init", init)
    mirror = tracking.mirror(settings(), "run-1", tmp_path, {})
    mirror.log({}, 1)
    assert mirror.state == "degraded: no service"
    assert "no service" in caplog.text


def test_online_without_a_key_is_offline_and_says_how_to_log_in(monkeypatch, tmp_path, caplog):
    mirror, asked = start(monkeypatch, tmp_path, Recorder(), mode="online")
    assert asked["mode"] == "offline"
    assert mirror.state == "wandb offline"
    assert "WANDB_API_KEY" in caplog.text


def test_online_without_a_network_is_offline_within_seconds(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    began = time.monotonic()
    _, asked = start(monkeypatch, tmp_path, Recorder(), mode="online")
    assert time.monotonic() - began < 10
    assert asked["mode"] == "offline"
    assert "127.0.0.1:9 cannot be reached" in caplog.text


@pytest.mark.parametrize("name", ["csv", "none"])
def test_the_other_loggers_start_nothing(monkeypatch, tmp_path, name):
    monkeypatch.setattr(wandb, "init", lambda **_: pytest.fail("W&B was started"))
    mirror = tracking.mirror(settings(name=name), "run-1", tmp_path, {})
    mirror.log({}, 1)
    mirror.close(0)
    assert mirror.state is None

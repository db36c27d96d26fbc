"""Files are whole or absent, and locks end with their process."""

import os
import signal
import subprocess
import sys
import time

import pytest

from seglab import files
from seglab.errors import RunError
from tests.conftest import ROOT


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    files.write_text(path, "old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        files.write_atomic(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_the_temporary_file_lies_beside_its_target(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "does-not-exist"))
    seen = []
    files.write_atomic(tmp_path / "x", lambda temporary: seen.append(temporary.parent))
    assert seen == [tmp_path]


def test_a_written_file_has_the_usual_permissions(tmp_path):
    umask = os.umask(0o022)
    try:
        files.write_text(tmp_path / "x", "")
    finally:
        os.umask(umask)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o644


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    (tmp_path / ".last.ckpt-abc.tmp").write_text("half")
    (tmp_path / "last.ckpt").write_text("whole")
    files.remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["last.ckpt"]


HOLD = """
import sys, time
from pathlib import Path
from seglab import files
with files.locked(Path(sys.argv[1]), "run x"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path):
    lock = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(RunError, match=rf"run x .*process {holder.pid} on .*{lock}"),
            files.locked(lock, "run x"),
        ):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    for _ in range(50):
        try:
            with files.locked(lock, "run x"):
                return
        except RunError:
            time.sleep(0.1)
    pytest.fail("the lock of a dead process was not recovered")


def test_the_hash_of_a_value_does_not_depend_on_the_order_of_its_keys():
    assert files.sha256_json({"a": 1, "b": [2]}) == files.sha256_json({"b": [2], "a": 1})
    assert files.sha256_json({"a": 1}) != files.sha256_json({"a": 2})


@pytest.mark.parametrize(
    ("size", "text"), [(5, "5 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes_are_readable(size, text):
    assert files.size_for_humans(size) == text

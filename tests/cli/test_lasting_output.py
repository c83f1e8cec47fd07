"""What becomes of a command whose standard output or error is full, closed, or read by nobody: its work is done."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loralaw.cli.lasting_output import lasting

LORALAW = [sys.executable, "-c", "from loralaw.cli import main; main()"]
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")


def in_shell(words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command with the shell's redirections."""
    code = f'"$@" {words}'
    return subprocess.run(["sh", "-c", code, "sh", *LORALAW], cwd=cwd, capture_output=True, text=True)


@needs_full
@pytest.mark.parametrize("words", ["theory curve --beta 0.5", "theory figure"])
def test_a_full_disk_is_told_in_one_line(words: str, tmp_path: Path) -> None:
    result = in_shell(f"{words} >/dev/full", tmp_path)

    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: standard output cannot be written: No space left on device.")
    assert (tmp_path / "theory-curve.html").exists() == ("curve" in words)


@needs_full
@pytest.mark.parametrize("to", ["2>/dev/full", "2>&-"])
def test_what_is_told_on_standard_error_stops_no_work(to: str, tmp_path: Path) -> None:
    result = in_shell(f"theory figure scores {to}", tmp_path)

    assert result.returncode == 0
    assert result.stdout.splitlines()[-1] == "theory-scores.html"
    assert (tmp_path / "theory-scores.html").exists()


@needs_full
@pytest.mark.parametrize(("to", "code"), [(">&-", 0), (">&- 2>&-", 0), (">/dev/full 2>&-", 1)])
def test_closed_output_is_what_the_user_wanted(to: str, code: int, tmp_path: Path) -> None:
    result = in_shell(f"theory curve --beta 0.5 {to}", tmp_path)

    assert (result.returncode, result.stdout, result.stderr) == (code, "", "")
    assert (tmp_path / "theory-curve.html").exists()


def test_mistakes_keep_their_exit_code_where_nobody_hears_of_them(tmp_path: Path) -> None:
    assert in_shell("theory curve --dim 0 2>&-", tmp_path).returncode == 2
    assert in_shell("theory curve --no-such-option >&- 2>&-", tmp_path).returncode == 2


@pytest.mark.parametrize("words", ["theory curve --beta 0.5", "theory figure"])
def test_a_reader_that_has_gone_is_no_error(words: str, tmp_path: Path) -> None:
    running = subprocess.Popen(
        [*LORALAW, *words.split()], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    running.stdout.close()
    assert running.communicate() == ("", "")
    assert running.returncode == 0
    assert (tmp_path / "theory-curve.html").exists() == ("curve" in words)


class Failing(io.RawIOBase):
    """Takes one piece, then fails."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        if self.taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.taken.append(bytes(data))
        return len(data)

    def writable(self) -> bool:
        return True


def test_what_was_written_before_stays_and_the_stream_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Failing()
    given = io.TextIOWrapper(io.BufferedWriter(device), "ascii")
    monkeypatch.setattr(sys, "stdout", given)
    with lasting("stdout") as output:
        print("α, one", flush=True)
        assert output.refusal() is None
        print("two", flush=True)
        sys.stdout.buffer.write(b"three")
    assert "No space left" in str(output.refusal())
    assert b"".join(device.taken).split() == [b"?,", b"one"]
    assert sys.stdout is given

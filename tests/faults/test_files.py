"""Checkpoint folders under kills, full disks and damage: what was saved is never lost and never half there.

`Faults` stands in for the few functions through which `unpad.checkpoint.files` changes the disk. It counts the moments
before and after each call (and in the middle of each write) and strikes at a chosen one. Kills are real: a forked child
sends itself SIGKILL there, so no handler runs. Syncs are not passed on to the disk, since a kill cannot show them; their
order has a test of its own.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from unpad.checkpoint import files
from unpad.checkpoint.files import (
    MANIFEST,
    append_line,
    atomic_write,
    checkpoints,
    newest_valid,
    prune,
    recover,
    remove_folder,
    staged_folder,
    verify,
    writing_to,
)
from unpad.errors import CheckpointError

CHANGES = ("_write", "_truncate", "_fsync", "_rename", "_unlink", "_mkdir", "_rmdir")
OLD = {"model.safetensors": b"old weights" * 9, "state/rank-0.json": b'{"step": 1}', "empty": b""}
NEW = {"model.safetensors": b"new weights!" * 9, "state/rank-0.json": b'{"step": 2}', "state/rng": b"\x00\x01"}

Strike = Callable[[], None]


class Faults:
    """Calls `strike` at the moment number `at` (counted from 0), and at every later one when `always` is set."""

    now: Faults | None = None

    def __init__(self, at: int, strike: Strike, always: bool = False) -> None:
        self.at, self.strike, self.always = at, strike, always
        self.moments = 0

    def moment(self) -> None:
        self.moments += 1
        if self.moments == self.at + 1 or (self.always and self.moments > self.at):
            self.strike()

    @contextmanager
    def active(self) -> Iterator[Faults]:
        real = {name: getattr(files, name) for name in CHANGES}

        def standing_in(name: str) -> Callable[..., None]:
            def call(*args: object) -> None:
                self.moment()
                if name == "_write":
                    fd, data = args
                    assert isinstance(data, bytes)
                    real[name](fd, data[: len(data) // 2])
                    self.moment()
                    real[name](fd, data[len(data) // 2 :])
                elif name != "_fsync":
                    real[name](*args)
                self.moment()

            return call

        with pytest.MonkeyPatch.context() as patch:
            for name in CHANGES:
                patch.setattr(files, name, standing_in(name))
            patch.setattr(Faults, "now", self)
            yield self


@pytest.fixture(autouse=True)
def without_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Syncing costs milliseconds and shows nothing here; the test of the order of syncs puts its own in place."""
    monkeypatch.setattr(files, "_fsync", lambda fd: None)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(files, "say", lines.append)
    return lines


def save(folder: Path, content: dict[str, bytes]) -> None:
    """Save as the code above this floor does: foreign writers fill the folder, unseen by the layer of faults."""
    moment = Faults.now.moment if Faults.now else lambda: None
    with staged_folder(folder) as staging:
        for name, data in content.items():
            (staging / name).parent.mkdir(exist_ok=True)
            moment()
            with open(staging / name, "wb") as file:
                file.write(data[: len(data) // 2])
                file.flush()
                moment()
                file.write(data[len(data) // 2 :])
        moment()


def content(folder: Path) -> dict[str, bytes]:
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return {name: data for name, data in found.items() if name != MANIFEST}


def hidden(run: Path) -> list[str]:
    return sorted(p.name for p in run.iterdir() if p.name.startswith("."))


def killed(at: int, action: Callable[..., object], *args: object) -> bool:
    """Run `action(*args)` in a forked child that gets SIGKILL at moment `at`; false when it ended before."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with Faults(at, lambda: os.kill(os.getpid(), signal.SIGKILL)).active():
                action(*args)
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the action failed by itself"
    return False


def runs(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """Moment numbers, each with a fresh folder; the last one tried is removed when the next is asked for."""
    for at in itertools.count():
        run = tmp_path / f"run-{at}"
        run.mkdir()
        yield at, run
        shutil.rmtree(run)


def adding(run: Path) -> None:
    save(run / "checkpoint-100", OLD)


def replacing(run: Path) -> None:
    save(run / "checkpoint-200", OLD)


def first(run: Path) -> None:
    """Nothing was saved before."""


def after_a_kill(run: Path) -> None:
    """Leftovers of every kind, as an earlier kill between the two renames of a replacement leaves them."""
    save(run / "checkpoint-200", OLD)
    shutil.copytree(run / "checkpoint-200", run / ".checkpoint-200.trash")
    shutil.copytree(run / "checkpoint-200", run / ".checkpoint-200.staging")
    (run / ".checkpoint-200.staging" / "model.safetensors").write_bytes(b"torn")
    (run / "checkpoint-200").rename(run / ".checkpoint-200.old")


# ---- (a) kills


@pytest.mark.parametrize("before", [first, adding, replacing, after_a_kill], ids=lambda f: f.__name__)
def test_a_kill_at_any_moment_of_a_save_leaves_the_old_or_the_new_checkpoint_whole(
    tmp_path: Path, before: Callable[[Path], None], said: list[str]
) -> None:
    seen = set()
    for at, run in runs(tmp_path):
        before(run)
        died = killed(at, save, run / "checkpoint-200", NEW)
        recover(run)
        assert not hidden(run)
        newest = newest_valid(run)
        if newest is None:
            assert before is first and died
            seen.add("none")
        else:
            assert content(newest) in (OLD, NEW)
            seen.add("new" if content(newest) == NEW else "old")
        if before is adding:
            assert content(run / "checkpoint-100") == OLD and not verify(run / "checkpoint-100")
        save(run / "checkpoint-200", NEW)
        assert newest_valid(run) == run / "checkpoint-200" and content(run / "checkpoint-200") == NEW
        assert not hidden(run)
        if not died:
            break
    assert at > 15 and seen == ({"none", "new"} if before is first else {"old", "new"})
    assert not said  # a kill never leaves anything that looks like a damaged checkpoint


def test_a_save_needs_no_recover_before_it(tmp_path: Path) -> None:
    for at, run in runs(tmp_path):
        replacing(run)
        died = killed(at, save, run / "checkpoint-200", NEW)
        with pytest.raises(RuntimeError), staged_folder(run / "checkpoint-200"):
            raise RuntimeError("the next save fails early")
        assert content(run / "checkpoint-200") in (OLD, NEW) and not verify(run / "checkpoint-200")
        if not died:
            break


def test_recover_can_itself_be_killed_at_any_moment(tmp_path: Path) -> None:
    (tmp_path / "starts").mkdir()
    small_old, small_new = {"model": b"old"}, {"model": b"new"}
    seen = set()
    for first_at, start in runs(tmp_path / "starts"):
        save(start / "checkpoint-200", small_old)
        died = killed(first_at, save, start / "checkpoint-200", small_new)
        left = tuple(sorted((str(p.relative_to(start)), p.stat().st_size) for p in start.rglob("*")))
        if not died:
            break
        if left in seen:  # the same state as a kill one moment earlier
            continue
        seen.add(left)
        for at, run in runs(tmp_path):
            shutil.copytree(start, run, dirs_exist_ok=True)
            died_again = killed(at, recover, run)
            recover(run)
            recover(run)
            assert not hidden(run) and not verify(run / "checkpoint-200")
            assert content(run / "checkpoint-200") in (small_old, small_new)
            if not died_again:
                break
        shutil.rmtree(run)
    assert len(seen) > 5


def test_ctrl_c_at_any_moment_leaves_a_whole_checkpoint_and_no_rubbish_that_stays(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    for at, run in runs(tmp_path):
        replacing(run)
        interrupted = False
        with Faults(at, interrupt).active():
            try:
                save(run / "checkpoint-200", NEW)
            except KeyboardInterrupt:
                interrupted = True
        assert content(run / "checkpoint-200") in (OLD, NEW) and not verify(run / "checkpoint-200")
        assert set(hidden(run)) <= {".checkpoint-200.old", ".checkpoint-200.trash"}
        recover(run)
        assert not hidden(run)
        if not interrupted:
            break
    assert at > 15


def test_a_kill_while_removing_or_pruning_never_shows_half_a_checkpoint(tmp_path: Path) -> None:
    for at, run in runs(tmp_path):
        for step in (1, 2, 3, 10):
            save(run / f"checkpoint-{step}", OLD)
        died = killed(at, prune, run, 1, {run / "checkpoint-2"})
        assert all(not verify(p) and content(p) == OLD for p in checkpoints(run))
        recover(run)
        assert not hidden(run)
        prune(run, 1, {run / "checkpoint-2"})
        assert [p.name for p in checkpoints(run)] == ["checkpoint-2", "checkpoint-10"]
        if not died:
            break
    remove_folder(run / "checkpoint-2")
    remove_folder(run / "checkpoint-2")  # nothing there any more: fine
    assert [p.name for p in checkpoints(run)] == ["checkpoint-10"] and not hidden(run)


def test_a_kill_never_tears_a_file_that_is_written_atomically(tmp_path: Path) -> None:
    seen = set()
    for at, run in runs(tmp_path):
        path = run / "state.json"
        atomic_write(path, "old text")
        died = killed(at, atomic_write, path, b"new longer text")
        seen.add(path.read_text())
        atomic_write(path, "ümlaut")
        assert path.read_bytes() == "ümlaut".encode() and not hidden(run)
        if not died:
            break
    assert seen == {"old text", "new longer text"}


def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut, unlike a kill, forgets what was not synced: so sync first, then rename, then sync the rename."""
    synced: dict[int, tuple[int, int]] = {}
    order: list[str] = []
    real_rename, real_unlink = files._rename, files._unlink

    def state(path: Path) -> tuple[int, int]:
        return path.stat().st_size, path.stat().st_mtime_ns

    def fsync(fd: int) -> None:
        found = os.fstat(fd)
        synced[found.st_ino] = (found.st_size, found.st_mtime_ns)
        if found.st_ino == tmp_path.stat().st_ino:
            order.append("sync")

    def rename(source: Path, target: Path) -> None:
        if not target.name.startswith("."):
            for path in [source, *source.rglob("*")]:
                assert synced.get(path.stat().st_ino) == state(path), f"{path.name} was not synced before the rename"
        order.append(target.name)
        real_rename(source, target)

    def unlink(path: Path) -> None:
        order.append("unlink")
        real_unlink(path)

    for name, double in (("_fsync", fsync), ("_rename", rename), ("_unlink", unlink)):
        monkeypatch.setattr(files, name, double)
    save(tmp_path / "checkpoint-1", OLD)
    assert order[-2:] == ["checkpoint-1", "sync"]
    order.clear()
    save(tmp_path / "checkpoint-1", NEW)
    visible = order[order.index(".checkpoint-1.old") :]
    assert visible[:5] == [".checkpoint-1.old", "checkpoint-1", "sync", ".checkpoint-1.trash", "sync"]
    assert set(visible[5:]) == {"unlink"}
    order.clear()
    atomic_write(tmp_path / "trainer.json", "{}")
    assert order == ["trainer.json", "sync"]
    order.clear()
    append_line(tmp_path / "metrics.jsonl", "{}")
    assert order == ["sync"]
    found = (tmp_path / "metrics.jsonl").stat()
    assert synced[found.st_ino] == (3, found.st_mtime_ns)


# ---- (b) full disks


def full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def assert_one_line_about_space(error: CheckpointError, where: str) -> None:
    text = str(error)
    assert "\n" not in text and where in text and "stay" in text and "free some space" in text
    assert os.strerror(errno.ENOSPC) in text or os.strerror(errno.EFBIG) in text
    assert error.__cause__ is not None


@pytest.mark.parametrize("always", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("before", [adding, replacing], ids=lambda f: f.__name__)
def test_a_disk_that_refuses_any_call_leaves_the_earlier_checkpoint_valid(
    tmp_path: Path, before: Callable[[Path], None], always: bool
) -> None:
    failures = 0
    for at, run in runs(tmp_path):
        before(run)
        failed = False
        with Faults(at, full, always).active() as faults:
            try:
                save(run / "checkpoint-200", NEW)
            except CheckpointError as error:
                assert_one_line_about_space(error, str(run / "checkpoint-200"))
                failed = True
        failures += failed
        recover(run)
        newest = newest_valid(run)
        assert newest is not None and content(newest) in (OLD, NEW) and not hidden(run)
        assert failed or content(newest) == NEW
        save(run / "checkpoint-200", NEW)
        if faults.moments <= at:
            break
    assert failures > 15


def test_a_disk_that_is_full_at_any_byte_of_the_manifest_or_a_file_changes_nothing(tmp_path: Path) -> None:
    save(tmp_path / "checkpoint-1", OLD)
    atomic_write(tmp_path / "state.json", "old")
    real = files._write
    for limit in range(0, (tmp_path / "checkpoint-1" / MANIFEST).stat().st_size, 3):

        def write(fd: int, data: bytes, limit: int = limit) -> None:
            real(fd, data[:limit])
            full()

        with mock.patch.object(files, "_write", write):
            with pytest.raises(CheckpointError, match="free some space"):
                save(tmp_path / "checkpoint-1", NEW)
            with pytest.raises(CheckpointError, match="free some space"):
                atomic_write(tmp_path / "state.json", "new")
        assert not verify(tmp_path / "checkpoint-1") and (tmp_path / "state.json").read_text() == "old"
        assert sorted(os.listdir(tmp_path)) == ["checkpoint-1", "state.json"]
    assert content(tmp_path / "checkpoint-1") == OLD


def test_a_real_disk_that_fills_up_at_any_block_keeps_the_earlier_checkpoint(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(disk)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        save(disk / "checkpoint-1", OLD)
        outcomes = []
        for size in range(4096, 128 * 1024, 4096):
            try:
                save(disk / "checkpoint-2", {"big": b"x" * size})
                outcomes.append(True)
            except CheckpointError as error:
                assert_one_line_about_space(error, "checkpoint-2")
                outcomes.append(False)
            assert newest_valid(disk) == disk / ("checkpoint-2" if outcomes[-1] else "checkpoint-1")
            assert content(disk / "checkpoint-1") == OLD
            remove_folder(disk / "checkpoint-2")
            assert not hidden(disk)
        assert outcomes == sorted(outcomes, reverse=True) and {True, False} == set(outcomes)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_under_the_weights_writer_gives_the_same_line(tmp_path: Path) -> None:
    """safetensors reports a full disk in an exception of its own, not in an OSError."""
    numpy = pytest.importorskip("numpy")
    writer = pytest.importorskip("safetensors.numpy")
    save(tmp_path / "checkpoint-1", OLD)
    reader, sender = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
            with staged_folder(tmp_path / "checkpoint-2") as staging:
                writer.save_file({"weight": numpy.zeros(5000)}, staging / "model.safetensors")
            os.write(sender, b"saved")
        except BaseException as error:
            os.write(sender, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(sender)
    os.waitpid(child, 0)
    text = os.read(reader, 10_000).decode()
    os.close(reader)
    assert re.fullmatch(
        r"CheckpointError: cannot write \S+checkpoint-2: File too large; .*stays valid; free some .*", text
    )
    assert newest_valid(tmp_path) == tmp_path / "checkpoint-1" and not hidden(tmp_path)


def test_a_refusal_deep_in_the_body_is_still_told_as_one_line_about_the_checkpoint(tmp_path: Path) -> None:
    def write_weights(folder: Path) -> None:
        with writing_to(folder):
            raise RuntimeError("I/O error: No space left on device (os error 28)")

    with pytest.raises(CheckpointError, match=r"cannot write .*weights: No space left.*free some space"):
        write_weights(tmp_path / "weights")
    with pytest.raises(CheckpointError) as caught, staged_folder(tmp_path / "checkpoint-1") as staging:
        write_weights(staging)
    assert_one_line_about_space(caught.value, str(tmp_path / "checkpoint-1"))
    with pytest.raises(RuntimeError, match=r"^other$"), writing_to(tmp_path):
        raise RuntimeError("other")


def test_other_exceptions_of_the_body_pass_as_they_are(tmp_path: Path) -> None:
    save(tmp_path / "checkpoint-1", OLD)
    with pytest.raises(RuntimeError, match="not about disks"), staged_folder(tmp_path / "checkpoint-1") as staging:
        (staging / "model.safetensors").write_bytes(b"half")
        raise RuntimeError("not about disks")
    assert content(tmp_path / "checkpoint-1") == OLD and not hidden(tmp_path)


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the run's folder should be")
    with pytest.raises(CheckpointError) as caught:
        save(tmp_path / "run" / "checkpoint-1", NEW)
    assert "\n" not in str(caught.value) and str(tmp_path / "run" / "checkpoint-1") in str(caught.value)
    with pytest.raises(CheckpointError, match=r"state\.json"):
        atomic_write(tmp_path / "missing" / "state.json", "{}")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl"):
        append_line(tmp_path / "missing" / "metrics.jsonl", "{}")


# ---- (c) damage


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("two")
    save(run / "checkpoint-90", OLD)
    save(run / "checkpoint-200", NEW)
    return run


def newest_with_damage(run: Path, path: Path, damaged: bytes | None) -> tuple[list[str], Path | None, list[str]]:
    """What verify, newest_valid and the notices say while `path` holds `damaged` (None: is gone); then as before."""
    whole = path.read_bytes()
    said: list[str] = []
    try:
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        with mock.patch.object(files, "say", said.append):
            return verify(run / "checkpoint-200"), newest_valid(run), said
    finally:
        path.write_bytes(whole)


FILES = st.sampled_from([*sorted(NEW), MANIFEST])
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(name=FILES, where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_anywhere_is_found_and_the_earlier_checkpoint_is_taken(
    two_checkpoints: Path, name: str, where: float, bit: int
) -> None:
    path = two_checkpoints / "checkpoint-200" / name
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 1 << bit
    problems, newest, said = newest_with_damage(two_checkpoints, path, bytes(data))
    assert len(problems) == 1 and problems[0].startswith(f"{name}: ")
    assert newest == two_checkpoints / "checkpoint-90"
    assert said == [f"checkpoint-200 is damaged ({problems[0]}): going back to checkpoint-90"]


@QUICK
@given(name=FILES, where=st.floats(0, 1, exclude_max=True), extra=st.binary(max_size=3))
@example(name=MANIFEST, where=0.9999999, extra=b"")
def test_a_shorter_or_longer_file_is_found_and_the_earlier_checkpoint_is_taken(
    two_checkpoints: Path, name: str, where: float, extra: bytes
) -> None:
    path = two_checkpoints / "checkpoint-200" / name
    data = path.read_bytes()
    damaged = data + extra if extra else data[: int(where * len(data))]
    problems, newest, _ = newest_with_damage(two_checkpoints, path, damaged)
    assert len(problems) == 1 and newest == two_checkpoints / "checkpoint-90"


@pytest.mark.parametrize("name", [*sorted(NEW), MANIFEST])
def test_a_missing_file_is_found_and_an_extra_one_is_fine(two_checkpoints: Path, name: str) -> None:
    folder = two_checkpoints / "checkpoint-200"
    problems, newest, _ = newest_with_damage(two_checkpoints, folder / name, None)
    assert problems == [f"{name}: missing"] and newest == two_checkpoints / "checkpoint-90"
    (folder / "notes.txt").write_text("mine")
    assert not verify(folder)
    (folder / "notes.txt").unlink()


@given(text=st.one_of(st.binary(max_size=40), st.just(b"[" * 100_000), st.just(b'{"format": 1, "files": {"a": 3}}')))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_manifest_of_any_content_is_a_problem_and_never_an_exception(two_checkpoints: Path, text: bytes) -> None:
    path = two_checkpoints / "checkpoint-200" / MANIFEST
    assert newest_with_damage(two_checkpoints, path, text)[0] == [f"{MANIFEST}: damaged"]


@pytest.mark.parametrize("name", ["../checkpoint-90/empty", "/etc/hostname", "a\0b"])
def test_a_manifest_cannot_point_outside_its_folder(two_checkpoints: Path, name: str) -> None:
    path = two_checkpoints / "checkpoint-200" / MANIFEST
    forged = files._render({name: (0, files.hashlib.sha256(b"").hexdigest())})
    assert newest_with_damage(two_checkpoints, path, forged)[0]


def test_a_manifest_of_a_later_version_says_so(two_checkpoints: Path) -> None:
    path = two_checkpoints / "checkpoint-200" / MANIFEST
    later = json.dumps({**json.loads(path.read_bytes()), "format": 2}).encode()
    assert "newer" in newest_with_damage(two_checkpoints, path, later)[0][0]


def test_every_damaged_checkpoint_is_named_and_none_left_is_said(tmp_path: Path, said: list[str]) -> None:
    assert newest_valid(tmp_path / "nowhere") is None and checkpoints(tmp_path / "nowhere") == [] and not said
    for step in (5, 40, 300):
        save(tmp_path / f"checkpoint-{step}", OLD)
    (tmp_path / "checkpoint-300" / MANIFEST).unlink()
    (tmp_path / "checkpoint-40" / "empty").write_bytes(b"!")
    assert newest_valid(tmp_path) == tmp_path / "checkpoint-5"
    assert said == [
        "checkpoint-300 is damaged (manifest.json: missing): going back to checkpoint-5",
        "checkpoint-40 is damaged (empty: 1 bytes instead of 0): going back to checkpoint-5",
    ]
    (tmp_path / "checkpoint-5" / "model.safetensors").unlink()
    assert newest_valid(tmp_path) is None and said[-1].endswith(": no valid checkpoint is left")


# ---- what belongs to others


def test_files_that_were_not_saved_with_a_folder_are_never_lost(tmp_path: Path) -> None:
    save(tmp_path / "best", OLD)
    save(tmp_path / "best", NEW)  # only what its manifest lists: replaced
    (tmp_path / "best" / "README.md").write_text("mine")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter-1.tex").write_text("mine")
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "empty").mkdir()
    for name, named in (("best", "README.md"), ("thesis", "chapter-1.tex"), ("notes", "notes")):
        with pytest.raises(CheckpointError, match=re.escape(named)):
            save(tmp_path / name, OLD)
    assert (tmp_path / "best" / "README.md").read_text() == "mine" and not verify(tmp_path / "best")
    assert (tmp_path / "thesis" / "chapter-1.tex").read_text() == "mine"
    assert (tmp_path / "notes").read_text() == "mine"
    save(tmp_path / "empty", NEW)
    assert content(tmp_path / "empty") == NEW


def test_recover_and_prune_touch_only_what_was_saved_here(tmp_path: Path) -> None:
    for name in (".vim.old", ".site.staging", ".local.trash", ".old", "checkpoint-1", "checkpoint-x", "checkpoint-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    (tmp_path / "checkpoint-2" / MANIFEST).write_text('{"of": "another program"}')
    save(tmp_path / "checkpoint-3", OLD)
    save(tmp_path / "checkpoint-4", OLD)
    before = sorted(os.listdir(tmp_path))
    recover(tmp_path)
    assert sorted(os.listdir(tmp_path)) == before
    assert prune(tmp_path, 1) == [tmp_path / "checkpoint-3"]
    assert sorted(os.listdir(tmp_path)) == [name for name in before if name != "checkpoint-3"]
    recover(tmp_path / "nowhere")


# ---- (d) pruning


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.sets(st.integers(0, 2000), max_size=7), keep=st.integers(0, 8), data=st.data())
def test_pruning_keeps_the_newest_the_protected_and_nothing_needless(
    steps: set[int], keep: int, data: st.DataObject
) -> None:
    protected = data.draw(st.sets(st.sampled_from(sorted(steps)), max_size=2)) if steps else set()
    torn = data.draw(st.sets(st.sampled_from(sorted(steps)), max_size=2)) if steps else set()
    with tempfile.TemporaryDirectory() as name:
        run = Path(name)
        for step in steps:
            save(run / f"checkpoint-{step}", {"weights": b"w"})
        for step in torn:
            (run / f"checkpoint-{step}" / "weights").unlink()
        removed = prune(run, keep, {run / f"checkpoint-{step}" for step in protected})
        left = {int(p.name.split("-")[1]) for p in checkpoints(run)}
        assert removed == sorted(removed, key=lambda p: int(p.name.split("-")[1]))
        assert left | {int(p.name.split("-")[1]) for p in removed} == steps and len(left) + len(removed) == len(steps)
        whole = steps - torn
        assert protected <= left
        if keep == 0 or not whole:
            assert left == steps
            return
        assert max(whole) in left
        assert len(left) <= max(keep, len(protected | {max(whole)}))
        assert len(left) >= min(keep, len(whole | protected))
        assert not (torn - protected) & left
        gone = whole - left
        assert all(step > max(gone) for step in left - protected) if gone else True
        assert prune(run, keep, {run / f"checkpoint-{step}" for step in protected}) == []


# ---- (e) lines


LINES = st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=12), max_size=6)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES, cut=st.integers(0, 40), line=st.text("abc{}", max_size=5))
@example(lines=["short", "x" * 20_000], cut=1, line="after a long torn line")
@example(lines=["x" * 4095, "y" * 4096], cut=0, line="lines as long as what is read at a time")
@example(lines=["y" * 8192], cut=1, line="torn and alone")
def test_a_torn_last_line_goes_and_every_whole_line_stays(lines: list[str], cut: int, line: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "metrics.jsonl"
        for text in lines:
            append_line(path, text)
        data = path.read_bytes() if lines else b""
        assert data == "".join(f"{text}\n" for text in lines).encode()
        data = data[: max(0, len(data) - cut)]
        path.write_bytes(data)
        append_line(path, line)
        whole = data[: data.rfind(b"\n") + 1]
        assert path.read_bytes() == whole + line.encode() + b"\n"


def test_a_kill_while_a_line_is_appended_loses_at_most_that_line(tmp_path: Path) -> None:
    for at, run in runs(tmp_path):
        path = run / "metrics.jsonl"
        path.write_bytes(b'{"step": 1}\n{"step": 2}\n{"st')
        died = killed(at, append_line, path, '{"step": 3}')
        append_line(path, '{"step": 4}')
        steps = [json.loads(text)["step"] for text in path.read_text().splitlines()]
        assert steps in ([1, 2, 4], [1, 2, 3, 4])
        if not died:
            break
    assert steps == [1, 2, 3, 4] and at > 5

"""What every channel promises, whichever it is."""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from dee_es.adapters.channels.memory import MemoryChannel
from dee_es.adapters.channels.outbox import OutboxChannel
from dee_es.adapters.channels.smtp import SmtpChannel, SmtpSettings
from dee_es.config import EmailChannel
from dee_es.core.messages.message import message_id
from dee_es.ports import Channel, ChannelResult, Sent
from tests.support.channels.mail import CONTEXT, INJECTIONS, SCRIPT, a_call, an_email, key
from tests.support.channels.smtp import running_smtp


class Case:
    """A channel, and how to see what has left through it."""

    def __init__(self, channel: Channel, sent: Callable[[], int]) -> None:
        self.channel, self.sent = channel, sent


CASES = ("memory", "outbox", "smtp")


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    if request.param == "memory":
        memory = MemoryChannel()
        yield Case(memory, lambda: len(memory.sent))
    elif request.param == "outbox":
        folder = tmp_path / "outbox"
        yield Case(OutboxChannel(folder), lambda: len(files(folder)))
    else:
        with running_smtp() as server:
            channel = SmtpChannel(SmtpSettings(server.host, server.port, timeout_s=20))
            yield Case(channel, lambda: len(server.taken))
            channel.close()


def test_every_channel_for_email_is_tried_here() -> None:
    """A call's is tried against a provider of its own, which takes no email."""
    assert set(get_args(EmailChannel)) <= set(CASES)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_has_a_name_and_says_what_it_serves(case: Case) -> None:
    assert case.channel.name
    assert "email" in case.channel.kinds
    assert case.channel.kinds <= {"email", "voice"}


def test_an_email_is_delivered_under_the_engines_own_id(case: Case) -> None:
    result = case.channel.send(an_email(1), CONTEXT)
    assert result == ChannelResult("delivered", message_id(key(1)))
    assert case.sent() == 1


def test_every_attempt_under_a_key_has_the_same_id(case: Case) -> None:
    first = case.channel.send(an_email(1, attempt=1), CONTEXT)
    second = case.channel.send(an_email(1, attempt=2), CONTEXT)
    assert first.message_id == second.message_id
    assert case.channel.send(an_email(2), CONTEXT).message_id != first.message_id


def test_a_call_is_pending_where_calls_are_served_and_fails_elsewhere(case: Case) -> None:
    result = case.channel.send(a_call(1), CONTEXT)
    if "voice" in case.channel.kinds:
        assert result == ChannelResult("pending", message_id(key(1)))
        assert case.sent() == 1
    else:
        assert (result.status, result.retryable) == ("failed", False)
        assert case.sent() == 0


def test_a_kind_nobody_serves_fails_for_good(case: Case) -> None:
    result = case.channel.send(msgspec.structs.replace(an_email(1), channel="fax"), CONTEXT)
    assert (result.status, result.retryable) == ("failed", False)
    assert case.sent() == 0


def test_a_result_can_be_logged_and_names_no_one(case: Case) -> None:
    for value in INJECTIONS:
        for field in ("to", "subject", "reply_to", "text", "html"):
            result = case.channel.send(an_email(value, **{field: value}), CONTEXT)
            json.dumps(dict(result.detail)).encode()
            assert "evil" not in result.error
            assert "jane" not in result.error
            assert "\n" not in result.error


def test_threads_may_share_it(case: Case) -> None:
    results: list[ChannelResult] = []

    def work(number: int) -> None:
        results.extend(case.channel.send(an_email((number, index)), CONTEXT) for index in range(10))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {result.status for result in results} == {"delivered"}
    assert len({result.message_id for result in results}) == case.sent() == 80


def test_it_can_be_closed_twice(case: Case) -> None:
    case.channel.send(an_email(1), CONTEXT)
    case.channel.close()
    case.channel.close()


# --- what only one of them has ------------------------------------------------------------------


@pytest.mark.parametrize("action", [an_email(1), a_call(1)], ids=["email", "call"])
def test_outbox_writes_the_same_bytes_again(tmp_path: Path, action: Any) -> None:
    contents = set()
    for _ in range(3):
        OutboxChannel(tmp_path / "out").send(action, CONTEXT)
        (file,) = files(tmp_path / "out")
        contents.add((file.name, file.read_bytes()))
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(contents) == 1


def test_outbox_names_files_by_time_run_step_and_key(tmp_path: Path) -> None:
    channel = OutboxChannel(tmp_path / "out", fsync=True)
    channel.send(an_email(1, step_id="a:b"), CONTEXT)
    channel.send(an_email(1, step_id="a:b", attempt=2), CONTEXT)
    channel.send(an_email(2), CONTEXT)
    run = f"run_{'a' * 26}"
    assert {str(path.relative_to(tmp_path)) for path in files(tmp_path)} == {
        f"out/2025-03-01/093000-{run}-a_b-{key(1)[:16]}-1.eml",
        f"out/2025-03-01/093000-{run}-a_b-{key(1)[:16]}-2.eml",
        f"out/2025-03-01/093000-{run}-intro-{key(2)[:16]}-1.eml",
    }


def test_outbox_knows_the_files_of_what_was_sent(tmp_path: Path) -> None:
    channel = OutboxChannel(tmp_path / "out")
    for action in (an_email(1, step_id="a:b"), an_email(1, attempt=2), a_call(2)):
        before = set(files(tmp_path))
        channel.send(action, CONTEXT)
        sent = Sent(
            action.run_id, action.step_id, action.channel, action.key, action.attempt,
            CONTEXT.time_ms,
        )  # fmt: skip
        assert channel.files_of(sent) == [str(each) for each in set(files(tmp_path)) - before]
    for folder in (tmp_path / "out", tmp_path / "out" / "2025-03-01"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_outbox_writes_a_call_as_json(tmp_path: Path) -> None:
    OutboxChannel(tmp_path).send(a_call(1), CONTEXT)
    (file,) = files(tmp_path)
    assert file.suffix == ".json"
    written = json.loads(file.read_bytes())
    assert (written["to"], written["script"]) == ("+15550100", SCRIPT)
    assert (written["key"], written["id"]) == (key(1), message_id(key(1)))


def test_outbox_without_a_parent_folder_fails_and_may_be_tried_again(tmp_path: Path) -> None:
    channel = OutboxChannel(tmp_path / "missing" / "out")
    result = channel.send(an_email(1), CONTEXT)
    assert (result.status, result.ours, result.error) == ("failed", True, "outbox ENOENT")
    (tmp_path / "missing").mkdir()
    assert channel.send(an_email(1), CONTEXT).status == "delivered"


def test_outbox_where_a_file_is_in_the_way_fails(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    result = OutboxChannel(tmp_path / "out").send(an_email(1), CONTEXT)
    assert (result.status, result.retryable) == ("failed", True)


def test_outbox_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    result = OutboxChannel(tmp_path).send(an_email(1), CONTEXT)
    assert (result.status, result.error) == ("failed", "outbox ENOSPC")
    assert (result.retryable, result.ours) == (True, False)
    assert files(tmp_path) == []


@pytest.mark.parametrize("of_folder", [False, True])
def test_outbox_says_what_a_power_cut_would_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of_folder: bool
) -> None:
    """Of a file whose content is not on the disk nothing stays; one whose name is not is there, and
    might be gone later."""
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == of_folder:
            raise OSError(errno.EPERM, "Operation not permitted")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    result = OutboxChannel(tmp_path, fsync=True).send(an_email(1), CONTEXT)
    assert result.error == "outbox EPERM"
    expected = ("unknown", False, False) if of_folder else ("failed", True, True)
    assert (result.status, result.retryable, result.ours) == expected
    assert len(files(tmp_path)) == of_folder
    assert OutboxChannel(tmp_path).send(an_email(2), CONTEXT).status == "delivered"


def test_outbox_says_delivered_when_all_of_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the content, whole and under no name that anybody looks for, then the name, then that
    of its day's folder; and who asked for none of this does not wait for the disk."""
    synced: list[tuple[int, int, int]] = []

    def noting(descriptor: int) -> None:
        there = os.fstat(descriptor)
        size = 0 if stat.S_ISDIR(there.st_mode) else there.st_size
        synced.append((there.st_ino, size, len(list(tmp_path.rglob("*.eml")))))

    monkeypatch.setattr(os, "fsync", noting)
    for fsync in (False, True):
        synced.clear()
        folder = tmp_path / str(fsync)
        assert OutboxChannel(folder, fsync=fsync).send(an_email(1), CONTEXT).status == "delivered"
        (file,) = files(folder)
        own, day, outbox = (each.stat() for each in (file, file.parent, folder))
        expected = [(own.st_ino, own.st_size, 1), (day.st_ino, 0, 2), (outbox.st_ino, 0, 2)]
        assert synced == (expected if fsync else [])


def unfinished(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the first email to this outbox is written to before it has its name."""
    replace, seen = os.replace, []

    def noting(source: Path, target: Path) -> None:
        seen.append(source)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", noting)
        OutboxChannel(folder).send(an_email(1), CONTEXT)
    (where,) = seen
    return where


def test_outbox_writes_nothing_through_a_link_that_somebody_laid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write to the folder could have a message overwrite any file of its owner."""
    somebodys = tmp_path / "somebodys"
    somebodys.write_text("kept")
    unfinished(tmp_path / "out", monkeypatch).symlink_to(somebodys)
    result = OutboxChannel(tmp_path / "out").send(an_email(1), CONTEXT)
    assert (result.status, result.error) == ("failed", "outbox ELOOP")
    assert somebodys.read_text() == "kept"


def test_outbox_takes_over_nothing_of_what_a_crash_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = unfinished(tmp_path / "out", monkeypatch)
    (file,) = files(tmp_path)
    content = file.read_bytes()
    where.write_bytes(b"x" * 2 * len(content))
    assert OutboxChannel(tmp_path / "out").send(an_email(1), CONTEXT).status == "delivered"
    assert [each.read_bytes() for each in files(tmp_path)] == [content]


def test_outbox_goes_on_when_its_folder_was_tidied_away(tmp_path: Path) -> None:
    channel = OutboxChannel(tmp_path / "out")
    channel.send(an_email(1), CONTEXT)
    for file in files(tmp_path):
        file.unlink()
    (tmp_path / "out" / "2025-03-01").rmdir()
    (tmp_path / "out").rmdir()
    assert channel.send(an_email(2), CONTEXT).status == "delivered"
    (file,) = files(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_outbox_refuses_a_key_or_a_time_that_is_none(tmp_path: Path) -> None:
    channel = OutboxChannel(tmp_path)
    bad_key = msgspec.structs.replace(a_call(1), key="../../x")
    assert channel.send(bad_key, CONTEXT).error.startswith("invalid key")
    bad_time = msgspec.structs.replace(CONTEXT, time_ms=10**18)
    assert channel.send(an_email(1), bad_time).error.startswith("invalid time")
    assert channel.send(a_call(1, script=None), CONTEXT).error.startswith("invalid script")
    assert files(tmp_path) == []


def test_memory_answers_as_told() -> None:
    failed = ChannelResult("failed", error="x", retryable=True)
    channel = MemoryChannel([failed])
    assert channel.send(an_email(1), CONTEXT) is failed
    assert channel.send(an_email(1), CONTEXT).status == "delivered"
    told = MemoryChannel(lambda action, context: ChannelResult("unknown", error=action.step_id))
    assert told.send(an_email(1), CONTEXT).error == "intro"
    assert [action.step_id for action in told.actions] == ["intro"]

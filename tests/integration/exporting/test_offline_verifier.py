"""The program that verifies exports, alone with what it is given: what is valid, what is not."""

from __future__ import annotations

import ast
import base64
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dee_es.adapters.anchors import create_signer
from dee_es.core.evidence import chain
from dee_es.core.evidence.checkpoint import Checkpoint, parse_body, signed
from dee_es.core.registry import REGISTRY
from dee_es.engine.exporting.records import action_of
from dee_es.errors import IntegrityViolation
from tests.support.engines import EPOCH
from tests.support.evidence.exports import (
    ROOT,
    SCRIPT,
    Log,
    lines,
    made_log,
    verify,
    verify_all,
    write_lines,
)

Records = list[dict[str, Any]]
DATABASES = ("sqlite", "postgres")


@pytest.fixture(params=DATABASES)
def log(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_postgres: Callable[[], str]
) -> Iterator[Log]:
    with made_log(request.param, tmp_path, fresh_postgres) as log:
        yield log


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    """A log that no test changes."""
    with made_log("sqlite", tmp_path_factory.mktemp("still"), str) as log:
        yield log


# --- valid ----------------------------------------------------------------------------------------


def test_exports_of_every_scope_are_valid(log: Log) -> None:
    whole = log.engine.health().position
    scopes: list[dict[str, Any]] = [
        {"run_id": log.run()},
        {"contact_id": "c3"},
        {"since": EPOCH},
        {"since": EPOCH.replace(day=3), "until": EPOCH.replace(day=5)},
        {"run_id": log.run("c4"), "until": EPOCH.replace(day=2)},
    ]
    for number, scope in enumerate(scopes):
        paths = [log.exported(f"{number}.{shape}", **scope) for shape in ("json", "jsonl")]
        for code, said in verify_all(paths, "--key", log.key):
            signed = scope is scopes[-1]
            assert code == (0 if signed else 3), said
            assert said.startswith("VALID: " if signed else "CONSISTENT, PARTLY SIGNED: ")
            assert ("behind the newest checkpoint" in said) == (not signed)
            assert "whose key" not in said
    assert lines(log.folder / "2.jsonl")[-1]["entries"] >= whole


def test_a_bundle_is_valid_and_holds_what_verifies_it(log: Log) -> None:
    path = log.folder / "run.zip"
    log.engine.audit.bundle(log.run(), output=path, reason="a complaint", actor="ann")
    code, said = verify(path, "--key", log.key)
    assert code == 3, said
    assert "csv, pdf" in said
    with zipfile.ZipFile(path) as bundle:
        script = log.folder / "from_the_bundle.py"
        script.write_bytes(bundle.read("verify_export.py"))
        assert bundle.read("key.txt").decode().strip() == log.key
        assert {name for name in bundle.namelist() if "/" not in name} == {
            "export.jsonl", "export.csv", "export.pdf", "key.txt", "verify_export.py",
            "README.txt", "SHA256SUMS",
        }  # fmt: skip
        assert sum(name.startswith("checkpoints/") for name in bundle.namelist()) == 3
    assert verify(path, "--key", log.key, script=script) == (3, said)


def test_a_proof_of_one_entry_is_valid_and_a_changed_one_is_not(still: Log) -> None:
    from dee_es.cli.output import plain

    for stream, entry in ((still.run(), 1), (still.run(), 5), ("system", 1), ("plan:outreach", 1)):
        proof = plain(still.engine.audit.prove(stream, entry))
        path = still.folder / "proof.json"
        path.write_text(json.dumps(proof, indent=2))
        code, said = verify(path, "--key", still.key)
        assert (code, f"{stream} entry {entry} (position" in said) == (0, True), said
        changed = []
        for name, value in {
            "position": proof["position"] + 1, "name": "RunFailed", "checksum": "00" * 32,
            "path": proof["path"][:-1], "version": 7,
            "state": proof["state"][:-2] + ("01" if proof["state"].endswith("00") else "00"),
            "checkpoint": proof["checkpoint"].replace("dee-es", "dee-se", 1),
        }.items():  # fmt: skip
            changed.append(still.folder / f"proof.{name}")
            changed[-1].write_text(json.dumps({**proof, name: value}))
        assert [code for code, _ in verify_all(changed, "--key", still.key)] == [1] * len(changed)


def test_own_checkpoints_are_compared_with_a_proof(still: Log) -> None:
    from dee_es.cli.output import plain

    proof = plain(still.engine.audit.prove("system", 1))
    path = still.folder / "proof.json"
    path.write_text(json.dumps(proof))
    mine = parse_body(proof["checkpoint"].partition("\n\n")[0] + "\n")
    signer = still.engine._parts.signers.open(mine.origin, create=False)
    assert signer is not None
    for size, root, found in (
        (mine.size, mine.root, (0, False)),
        (mine.size, bytes(32), (1, False)),
        (mine.size - 1, bytes(32), (0, True)),
    ):
        kept = still.folder / "kept.txt"
        kept.write_text(signed(Checkpoint(mine.origin, size, root), signer.key, signer.sign))
        code, said = verify(path, "--key", still.key, "--checkpoint", kept)
        assert (code, "nothing here leads to: 1" in said) == found


def test_without_personal_data_and_of_the_erased_it_is_valid(log: Log) -> None:
    path = log.exported("bare.jsonl", run_id=log.run(), personal_data=False)
    assert "c3@example.com" not in path.read_text()
    log.engine.audit.checkpoint()
    assert verify(path, "--key", log.key)[0] == 3
    path = log.exported("signed.jsonl", run_id=log.run(), personal_data=False)
    assert verify(path, "--key", log.key)[0] == 0
    log.engine.erase_contact("c3", "asked for it")
    path = log.exported("erased.jsonl", run_id=log.run())
    assert "c3@example.com" not in path.read_text()
    assert any(record.get("erased") for record in lines(path))
    code, said = verify(path, "--key", log.key)
    assert code == 3, "the erasure itself is not signed yet"
    assert "entries called erased" in said


def test_personal_data_that_was_emptied_was_not_checked_either(log: Log) -> None:
    path = log.exported("full.jsonl", run_id=log.run())
    unchecked = verify(path, "--key", log.key)[1].splitlines()[1:]
    told = [json.loads(line) for line in path.read_text().splitlines()]
    for record in told:
        if record.get("personal") and record["name"] != "StepDispatched":
            record["personal"] = {}
    path.write_text("".join(json.dumps(each, separators=(",", ":")) + "\n" for each in told))
    code, said = verify(path, "--key", log.key)
    assert (code, said.splitlines()[1:]) == (3, unchecked)
    assert "stored as ciphertext alone" in said


def test_without_checkpoints_the_chains_are_checked_and_that_is_said(tmp_path: Path) -> None:
    with made_log("sqlite", tmp_path, str, signed=False) as log:
        path = log.exported("run.json", run_id=log.run())
        code, said = verify(path)
        assert code == 3
        assert said.startswith("CONSISTENT, NOT SIGNED: ")
        assert "entries behind the newest checkpoint, at positions 1, " in said
        assert "whose key it is" in said
        key = create_signer(log.folder / "key", f"dee-es/{'0' * 32}").key
        assert verify(path, "--key", str(key))[0] == 3


def test_what_is_younger_than_the_last_checkpoint_is_told_by_its_place(log: Log) -> None:
    """An honest export of a moment ago; the next one, after a checkpoint, is valid."""
    path = log.exported("young.jsonl", contact_id="c3")
    newest = max(size_of(each["note"]) for each in lines(path) if each["record"] == "checkpoint")
    positions = [each["position"] for each in lines(path) if "position" in each]
    behind = [each for each in positions if each > newest]
    assert 0 < len(behind) < 9
    code, said = verify(path, "--key", log.key)
    first, *more = said.splitlines()
    assert code == 3
    assert first.startswith("CONSISTENT, PARTLY SIGNED: ")
    covered = len(positions) - len(behind)
    assert f", {covered} of all in the log of {newest} that was signed" in first
    (told,) = [each for each in more if "behind the newest checkpoint" in each]
    assert f"at positions {str(behind)[1:-1]}; ask for an export after the next one" in told
    assert told.endswith(f": {len(behind)}")
    log.engine.audit.checkpoint()
    code, said = verify(log.exported("later.jsonl", contact_id="c3"), "--key", log.key)
    assert (code, said[:7]) == (0, "VALID: "), said
    assert "behind" not in said


def test_own_checkpoints_are_compared(still: Log) -> None:
    path = still.exported("kept.jsonl", run_id=still.run())
    places = sorted((still.folder / "places").iterdir())
    assert len(places) == 3
    kept = [part for place in places for part in ("--checkpoint", place)]
    code, said = verify(path, "--key", still.key, *kept)
    assert code == 3
    assert "nothing here leads to" not in said
    mine = parse_body(places[0].read_text())
    signer = still.engine._parts.signers.open(mine.origin, create=False)
    assert signer is not None
    for size, root, found in ((mine.size, bytes(32), 1), (mine.size - 1, mine.root, 3)):
        fork = still.folder / "fork.txt"
        fork.write_text(signed(Checkpoint(mine.origin, size, root), signer.key, signer.sign))
        code, said = verify(path, "--key", still.key, "--checkpoint", fork)
        assert code == found
        assert ("nothing here leads to: 1" in said) == (code == 3)


# --- the file was changed -------------------------------------------------------------------------


def _entry(records: Records, name: str) -> dict[str, Any]:
    return next(r for r in records if r.get("name") == name and r["record"] == "entry")


def _reseal(record: dict[str, Any], payload: bytes) -> None:
    state = base64.b64decode(record["state"])
    own, sealed = chain.seal(
        record["stream"], record["version"], record["name"], state[4:36], payload
    )
    record["state"] = base64.b64encode(sealed).decode()
    record["checksum"] = own.hex()


def _told_otherwise(field: str, value: Any) -> Callable[[Records], None]:
    def change(records: Records) -> None:
        _entry(records, "RunCompleted")[field] = value

    return change


def _in_stored(*path: str, value: Any) -> Callable[[Records], None]:
    def change(records: Records) -> None:
        at = _entry(records, "StepCompleted")["stored"]
        for name in path[:-1]:
            at = at[name]
        at[path[-1]] = value

    return change


def _state_flipped(records: Records) -> None:
    record = _entry(records, "StepDispatched")
    state = bytearray(base64.b64decode(record["state"]))
    state[-1] ^= 1
    record["state"] = base64.b64encode(state).decode()


def _recomputed(records: Records) -> None:
    """A whole chain rewritten with another reason in it, readable parts and all."""
    run = [r for r in records if r.get("stream", "").startswith("run_")]
    previous = chain.GENESIS
    for record in run:
        payload = base64.b64decode(record["state"])[68:].replace(b'"outreach"', b'"outreacH"')
        previous_hex = previous.hex()
        previous, state = chain.seal(
            record["stream"], record["version"], record["name"], previous, payload
        )
        size = int.from_bytes(payload[:4], "big")
        record |= {"state": base64.b64encode(state).decode(), "checksum": previous.hex(),
                   "previousChecksum": previous_hex,
                   "stored": json.loads(payload[4 : 4 + size])}  # fmt: skip


def _without(kind: str, which: int = 0) -> Callable[[Records], None]:
    def change(records: Records) -> None:
        del records[[at for at, r in enumerate(records) if r["record"] == kind][which]]

    return change


def _counted_down(change: Callable[[Records], None], field: str) -> Callable[[Records], None]:
    def both(records: Records) -> None:
        change(records)
        records[-1][field] -= 1

    return both


def _swapped(records: Records) -> None:
    one, other = _entry(records, "StepEntered"), _entry(records, "WaitStarted")
    one["position"], other["position"] = other["position"], one["position"]


def _message_changed(records: Records) -> None:
    _entry(records, "StepDispatched")["personal"]["text"] = "Hello, and give us your money"


def _personal_invented(records: Records) -> None:
    _entry(records, "WaitStarted")["personal"] = {"note": "x"}


def _other_root(records: Records) -> None:
    record = [r for r in records if r["record"] == "checkpoint"][-1]
    origin, size, _, *rest = record["note"].split("\n")
    record["note"] = "\n".join([origin, size, base64.b64encode(bytes(32)).decode(), *rest])


def _way_changed(records: Records) -> None:
    record = next(r for r in records if r["record"] == "checkpoint")
    record["way"][-1] = base64.b64encode(bytes(32)).decode()


def _older_dropped_its_last(records: Records) -> None:
    next(r for r in records if r["record"] == "checkpoint")["last"] = ""


def _proof_changed(records: Records) -> None:
    next(r for r in records if r["record"] == "proof")["nodes"].pop()


CHANGES: dict[str, Callable[[Records], None]] = {
    "action": _told_otherwise("action", "run.cancelled"),
    "timestamp": _told_otherwise("timestamp", "2020-01-01T00:00:00Z"),
    "a field that is none": _told_otherwise("comment", "believe me"),
    "checksum": _told_otherwise("checksum", "00" * 32),
    "version": _told_otherwise("version", 3),
    "stream": _told_otherwise("stream", "run_" + "a" * 26),
    "name": _told_otherwise("name", "RunCancelled"),
    "version that is no number": _told_otherwise("version", "1"),
    "state that is no base64": _told_otherwise("state", "*"),
    "tick": _in_stored("meta", "tick", value=5),
    "actor": _in_stored("meta", "actor", value="bob"),
    "true for 1": _in_stored("schema", value=True),
    "result": _in_stored("data", "result", value="failed"),
    "stored bytes": _state_flipped,
    "recomputed chain": _recomputed,
    "an entry deleted": _without("entry", 4),
    "an entry deleted and the count with it": _counted_down(_without("entry", 4), "entries"),
    "the last entry deleted": _without("entry", -1),
    "a definition deleted": _counted_down(_without("context", 1), "context"),
    "the log's first entry deleted": _counted_down(_without("context", 0), "context"),
    "the end deleted": _without("end"),
    "the proof deleted": _without("proof"),
    "a node of the proof deleted": _proof_changed,
    "positions swapped": _swapped,
    "message": _message_changed,
    "personal data out of nothing": _personal_invented,
    "root of the checkpoint": _other_root,
    "the way from an older checkpoint": _way_changed,
    "the last entry of an older checkpoint": _older_dropped_its_last,
    "an entry twice": lambda records: records.insert(9, records[8]),
    "a list for a record": lambda records: records.insert(3, []),  # type: ignore[arg-type]
    "an unknown kind of record": lambda records: records.insert(3, {"record": "note"}),
}


@pytest.fixture(scope="module")
def exported(still: Log) -> Path:
    return still.exported("exported.jsonl", run_id=still.run())


def test_a_changed_file_is_not_valid(still: Log, exported: Path, tmp_path: Path) -> None:
    changed = []
    for number, change in enumerate(CHANGES.values()):
        records = lines(exported)
        change(records)
        changed.append(write_lines(tmp_path / f"{number}.jsonl", records))
    verdicts = verify_all(changed, "--key", still.key)
    wrong = [
        (name, said)
        for name, (code, said) in zip(CHANGES, verdicts, strict=True)
        if code != 1 or not said.startswith("NOT VALID: ")
    ]
    assert wrong == []


def test_the_first_bad_entry_is_named(still: Log, exported: Path, tmp_path: Path) -> None:
    records = lines(exported)
    bad = _entry(records, "StepDispatched")
    _state_flipped(records)
    path = write_lines(tmp_path / "changed.jsonl", records)
    where = f"{bad['stream']} entry {bad['version']} (position {bad['position']})"
    assert verify(path)[1].startswith(
        f"NOT VALID: {where}: the checksum does not match what is stored"
    )


def test_a_rewritten_copy_under_a_key_of_one_s_own(
    still: Log, exported: Path, tmp_path: Path
) -> None:
    """What can be done without the key: the file's own key then verifies it, ours does not."""
    records = lines(exported)
    head, note = records[0], [r for r in records if r["record"] == "checkpoint"][-1]
    mine = create_signer(tmp_path / "mine.key", head["origin"])
    head["key"] = str(mine.key)
    for record in records:
        if record["record"] == "checkpoint":
            record["note"] = signed(parse_body(record["note"].split("\n\n")[0] + "\n"), mine.key,
                                    mine.sign)  # fmt: skip
    assert note["note"]
    path = write_lines(tmp_path / "mine.jsonl", records)
    code, said = verify(path)
    assert code == 3
    assert "whose key it is" in said
    code, said = verify(path, "--key", still.key)
    assert code == 1
    assert "is not signed by" in said
    assert verify(exported, "--key", f"{still.key}\n")[0] == 3


def test_two_names_in_one_object(exported: Path, tmp_path: Path) -> None:
    """Readers show the first of two, programs take the last."""
    text = exported.read_text().replace('"action":', '"action":"run.cancelled","action":', 1)
    path = tmp_path / "twice.jsonl"
    path.write_text(text)
    assert verify(path) == (
        1,
        "NOT VALID: the file: a name stands twice in one JSON object\n",
    )


def test_hostile_files_are_refused_in_a_line(exported: Path, tmp_path: Path) -> None:
    whole = exported.read_bytes()
    head = whole.split(b"\n")[0] + b"\n"
    cases = {
        "empty": (b"", 2),
        "text": (b"hello", 2),
        "number": (b"7", 2),
        "binary": (bytes(range(256)), 2),
        "without its head": (whole[len(head) :], 2),
        "cut": (whole[:-40], 1),
        "deep": (head + b"[" * 100_000, 1),
        "deep from the start": (b"[" * 100_000, 2),
        "large number": (head + b"9" * 10_000 + b"\n", 1),
        "half a line": (whole[: len(head) + 50], 1),
        "nothing but a head": (head, 1),
        "a tree without end": (head + _checkpoint("9" * 400), 1),
        "a tree of no size": (head + _checkpoint("0"), 1),
        "escape codes": (whole.replace(b"RunStarted", b"\\u001b[31m"), 1),
    }
    for name, (content, _) in cases.items():
        (tmp_path / name).write_bytes(content)
    verdicts = verify_all([tmp_path / name for name in cases])
    for (name, (_, expected)), (code, said) in zip(cases.items(), verdicts, strict=True):
        assert code == expected, (name, said)
        assert "\x1b" not in said
        assert said.count("\n") <= 8


def test_what_is_no_export_at_all_is_not_called_malformed(tmp_path: Path) -> None:
    """A name that was mistyped, and the forms that are for reading."""
    code, said = verify(tmp_path / "nothing.jsonl")
    assert (code, "No such file or directory" in said) == (2, True), said
    (tmp_path / "run.csv").write_text("position,stream\n1,run_x\n")
    assert verify(tmp_path / "run.csv") == (
        2,
        "NOT VALID: the file: no JSON or bundle (JSONDecodeError)\n",
    )


def size_of(note: str) -> int:
    """How many entries a checkpoint covers."""
    return parse_body(note.partition("\n\n")[0] + "\n").size


def _checkpoint(size: str) -> bytes:
    root = base64.b64encode(bytes(32)).decode()
    note = f"dee-es/x\n{size}\n{root}\n\n"
    return json.dumps({"record": "checkpoint", "note": note}).encode() + b"\n"


def test_calls_that_make_no_sense(exported: Path, tmp_path: Path) -> None:
    assert verify(tmp_path / "nowhere")[0] == 2
    assert verify(exported, "--key-file", tmp_path / "nowhere")[0] == 2
    assert verify(exported, "--checkpoint", tmp_path / "nowhere")[0] == 2
    assert verify(exported, "--unknown")[0] == 2


def test_the_key_is_given_as_text_or_as_its_file(
    still: Log, exported: Path, tmp_path: Path
) -> None:
    for key in (still.key, f"{still.key}\n", still.folder / "audit.key.pub"):
        assert verify(exported, "--key", key)[0] == 3
    create_signer(tmp_path / "other", "dee-es/other")
    other = tmp_path / "other.pub"
    for given in (other, other.read_text()):
        code, said = verify(exported, "--key", given)
        assert (code, "is not signed by" in said) == (1, True)


@pytest.mark.parametrize(
    "given", ["", "nowhere.pub", "no key", "a+b", "name+12345678", f"name+1234567g+{'A' * 44}"]
)
def test_what_is_no_key_is_a_wrong_call_and_no_verdict(given: str, exported: Path) -> None:
    assert verify(exported, "--key", given) == (2, "")


def test_a_file_that_holds_no_key_is_a_wrong_call(exported: Path, tmp_path: Path) -> None:
    for content in (b"", b"-----BEGIN PRIVATE KEY-----", b"\xff\xfe"):
        (tmp_path / "key").write_bytes(content)
        assert verify(exported, "--key", tmp_path / "key") == (2, "")


# --- bundles --------------------------------------------------------------------------------------


def _rezipped(source: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(source) as bundle:
        files = {name: bundle.read(name) for name in bundle.namelist()}
    change(files)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    return target


@pytest.fixture(scope="module")
def bundled(still: Log) -> Path:
    path = still.folder / "bundle.zip"
    still.engine.audit.bundle(still.run(), output=path)
    return path


@pytest.mark.parametrize(
    "name, found",
    [
        ("export.csv", "export.csv: it is not the file that SHA256SUMS names"),
        ("export.pdf", "export.pdf: it is not"),
        ("README.txt", "README.txt: it is not"),
        ("verify_export.py", "verify_export.py: it is not"),
    ],
)
def test_a_changed_file_of_a_bundle(bundled: Path, tmp_path: Path, name: str, found: str) -> None:
    def change(files: dict[str, bytes]) -> None:
        files[name] += b" "

    code, said = verify(_rezipped(bundled, tmp_path / "b.zip", change))
    assert code == 1
    assert found in said


def test_files_that_came_or_went(bundled: Path, tmp_path: Path) -> None:
    for change in (
        lambda files: files.pop("export.csv"),
        lambda files: files.update({"extra.txt": b"x"}),
        lambda files: files.update({"../evil": b"x"}),
        lambda files: files.pop("SHA256SUMS"),
        lambda files: files.pop("export.jsonl"),
    ):
        code, said = verify(_rezipped(bundled, tmp_path / "b.zip", change))
        assert code == 1, said
    assert not (tmp_path.parent / "evil").exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "b.zip"]


def test_a_damaged_bundle(bundled: Path, tmp_path: Path) -> None:
    content = bytearray(bundled.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path = tmp_path / "damaged.zip"
    path.write_bytes(content)
    assert verify(path)[0] == 1
    path.write_bytes(content[:2_000])
    assert verify(path)[0] == 2


def test_another_checkpoint_in_a_bundle(still: Log, bundled: Path, tmp_path: Path) -> None:
    """Signed by the right key, but of a log that went another way."""

    def change(files: dict[str, bytes]) -> None:
        name = next(name for name in files if name.startswith("checkpoints/"))
        mine = parse_body(files[name].decode())
        signer = still.engine._parts.signers.open(mine.origin, create=False)
        assert signer is not None
        fork = Checkpoint(mine.origin, mine.size, bytes(32))
        files[name] = signed(fork, signer.key, signer.sign).encode()
        import hashlib

        files["SHA256SUMS"] = b"".join(
            f"{hashlib.sha256(content).hexdigest()}  {each}\n".encode()
            for each, content in files.items()
            if each != "SHA256SUMS"
        )

    code, said = verify(_rezipped(bundled, tmp_path / "b.zip", change), "--key", still.key)
    assert code == 1
    assert "of another log" in said


# --- the database was changed ---------------------------------------------------------------------


def _attacks(log: Log) -> dict[str, Callable[[], None]]:
    """What the owner of the database does to the run of c3, or to the log."""
    run, other = log.run(), log.run("c4")
    where = "WHERE originator_id = ? AND originator_version = ?"
    row = log.rows(run)[3]
    flipped = bytearray(row.state)
    flipped[80] ^= 1
    return {
        "flipped bit": lambda: log.shell(
            (f"UPDATE stored_events SET state = ? {where}", (bytes(flipped), run, 4))
        ),
        "deleted middle entry": lambda: log.shell(
            (f"DELETE FROM stored_events {where}", (run, 4))
        ),
        "deleted first entry": lambda: log.shell((f"DELETE FROM stored_events {where}", (run, 1))),
        "renamed": lambda: log.shell(
            (f"UPDATE stored_events SET topic = 'StepEntered' {where}", (run, 4))
        ),
        "moved": lambda: log.shell(
            (f"UPDATE stored_events SET notification_id = 7777 {where}", (run, 4))
        ),
        "swapped positions": lambda: log.shell(
            (f"UPDATE stored_events SET notification_id = 9999 {where}", (run, 2)),
            (f"UPDATE stored_events SET notification_id = ? {where}",
             (log.rows(run)[1].position, other, 2)),
            (f"UPDATE stored_events SET notification_id = ? {where}",
             (log.rows(other)[1].position, run, 2)),
        ),
        "recomputed chain": lambda: log.shell(
            *log.recomputed(run, lambda payload: payload.replace(b'"outreach"', b'"outreacH"'))
        ),
        "recomputed chain of another run": lambda: log.shell(
            *log.recomputed(other, lambda payload: payload.replace(b'"outreach"', b'"outreacH"'))
        ),
        "another run removed": lambda: log.shell(
            ("DELETE FROM stored_events WHERE originator_id = ?", (other,)),
            ("DELETE FROM heads WHERE stream_id = ?", (other,)),
        ),
        "forged checkpoint": lambda: _forged_checkpoint(log),
        "first entry of the log": lambda: log.shell(
            *log.recomputed("system", lambda payload: payload.replace(b'"manual"', b'"system"'))
        ),
    }  # fmt: skip


def _forged_checkpoint(log: Log) -> None:
    """The newest checkpoint in the log, signed by a key of the attacker's, in a valid chain."""
    private = Ed25519PrivateKey.generate()

    def change(payload: bytes) -> bytes:
        if b'"note"' not in payload:
            return payload
        size = int.from_bytes(payload[:4], "big")
        public = json.loads(payload[4 : 4 + size])
        body = public["data"]["note"].partition("\n\n")[0] + "\n"
        mine = base64.b64encode(bytes(4) + private.sign(body.encode())).decode()
        public["data"]["note"] = f"{body}\n\u2014 x {mine}\n"
        told = json.dumps(public, separators=(",", ":"), ensure_ascii=False).encode()
        return len(told).to_bytes(4, "big") + told

    log.shell(*log.recomputed("system", change))


NAMES = (
    "flipped bit", "deleted middle entry", "deleted first entry", "renamed", "moved",
    "swapped positions", "recomputed chain", "recomputed chain of another run",
    "another run removed", "forged checkpoint", "first entry of the log",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_an_export_of_a_damaged_log_gets_the_same_verdict(log: Log, name: str) -> None:
    attacks = _attacks(log)
    assert set(attacks) == set(NAMES)
    run, paths = log.run(), [log.exported("before.jsonl", run_id=log.run())]
    attacks[name]()
    assert not log.engine.verify_log().valid
    for shape in ("json", "jsonl"):
        path = log.folder / f"after.{shape}"
        try:
            done = log.engine.audit.export(run, format=shape, output=path)
        except IntegrityViolation:
            # SQLite appends nothing to a log that has an entry behind its end; so nothing can be
            # recorded, and what is not recorded is not given out.
            assert (name, log.url[:6], path.exists()) == ("moved", "sqlite", False)
            return
        paths.append(path)
        assert done.problems
    told = log.engine.audit.export(run, format="pdf").problems
    assert told, "people are told, too"
    before, *after = verify_all(paths, "--key", log.key)
    assert before[0] == 3, before
    assert [code for code, _ in after] == [1, 1], after


def test_a_chain_recomputed_behind_the_last_checkpoint_shows_nowhere(log: Log) -> None:
    """Neither the verification of the log nor that of an export can see it, and both say so."""
    log.shell(*log.recomputed("contact:c3", lambda payload: payload))
    contact = log.rows("contact:c3")
    last = contact[-1]
    payload = chain.unseal(last.state, "").payload.replace(b"=asked us", b"=asked me")
    own, state = chain.seal(
        "contact:c3", last.version, last.name, chain.unseal(last.state, "").previous, payload
    )
    log.shell(
        ("UPDATE stored_events SET state = ? WHERE originator_id = ? AND originator_version = ?",
         (state, "contact:c3", last.version)),
        ("UPDATE heads SET checksum = ? WHERE stream_id = ?", (own, "contact:c3")),
    )  # fmt: skip
    assert log.engine.verify_log().valid
    code, said = verify(log.exported("tail.json", contact_id="c3"), "--key", log.key)
    assert code == 3
    assert "entries behind the newest checkpoint" in said


# --- the program itself ---------------------------------------------------------------------------


def test_the_script_is_the_one_that_is_installed() -> None:
    installed = ROOT / "dee_es" / "verifier" / "verify_export.py"
    assert SCRIPT.read_bytes() == installed.read_bytes()


def test_it_is_short_and_stands_alone() -> None:
    source = SCRIPT.read_text(encoding="utf-8")
    told = ast.parse(source)
    modules = {
        name.partition(".")[0]
        for node in ast.walk(told)
        for name in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    import sys

    assert modules - set(sys.stdlib_module_names) == {"cryptography"}
    assert len(source.splitlines()) <= 200
    assert "extract" not in source


def test_it_knows_the_action_of_every_event() -> None:
    import runpy

    known = runpy.run_path(str(SCRIPT))["ACTIONS"]
    for name, entry in REGISTRY.items():
        assert known.get(name, action_of(f"{name}")) == entry.action
        plain = "".join(f".{c.lower()}" if c.isupper() else c for c in name).lstrip(".")
        assert name in known or plain == entry.action
    assert action_of("SomethingNew") == "something.new"


def test_zip_bombs_are_not_unpacked(tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("SHA256SUMS", b"0" * (64 << 20))
    path = tmp_path / "bomb.zip"
    path.write_bytes(inner.getvalue())
    assert verify(path)[0] == 1

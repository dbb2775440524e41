"""What somebody without the key puts into a proof, an export or a bundle, and what the program that
verifies them says of it: nothing that was not signed may count as signed."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dee_es.cli.output import plain
from dee_es.core.evidence import chain
from dee_es.core.evidence.checkpoint import parse_body
from dee_es.core.evidence.multiproof import Multiproof, Ranges
from tests.support.engines import EPOCH
from tests.support.evidence.exports import Log, lines, made_log, verify, verify_all, write_lines

FORGED = "run_" + "b" * 26


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    """A log that no test changes."""
    with made_log("sqlite", tmp_path_factory.mktemp("log"), str) as log:
        yield log


def _proof(log: Log) -> dict[str, Any]:
    proof: dict[str, Any] = plain(log.engine.audit.prove(log.run(), 1))
    return proof


@pytest.mark.parametrize("place", ["before", "nowhere", "behind", "far behind", "between"])
def test_a_proof_whose_path_is_the_root_itself_proves_nothing(
    log: Log, tmp_path: Path, place: str
) -> None:
    """An entry of a place that the tree does not have is left out of what leads to the root."""
    proof = _proof(log)
    size = proof["size"]
    position = {
        "before": -3, "nowhere": 0, "behind": size + 1, "far behind": size + 1_000, "between": 1.5,
    }[place]  # fmt: skip
    own, state = chain.seal(FORGED, 1, "RunStarted", chain.GENESIS, b"\0\0\0\2{}")
    proof |= {
        "stream": FORGED, "version": 1, "name": "RunStarted", "position": position,
        "index": position - 1, "state": state.hex(), "checksum": own.hex(),
        "path": [parse_body(proof["checkpoint"].partition("\n\n")[0] + "\n").root.hex()],
    }  # fmt: skip
    path = tmp_path / "forged.json"
    path.write_text(json.dumps(proof))
    code, said = verify(path, "--key", log.key)
    assert (code, said[:10]) == (1, "NOT VALID:"), said


def test_nothing_is_said_beside_a_proof(log: Log, tmp_path: Path) -> None:
    proof = _proof(log)
    path = tmp_path / "more.json"
    path.write_text(json.dumps({**proof, "reason": "the customer agreed"}))
    code, said = verify(path, "--key", log.key)
    assert (code, "other fields" in said) == (1, True), said


@pytest.mark.parametrize(
    "position", [0, -2, 1.5, 61.5, float("nan"), float("inf"), float("-inf"), 1e300, True, "7"]
)
def test_an_entry_at_no_place_of_the_log(log: Log, tmp_path: Path, position: Any) -> None:
    records = lines(log.exported("run.jsonl", run_id=log.run()))
    at, source = next((n, r) for n, r in enumerate(records) if r.get("name") == "WaitStarted")
    payload = base64.b64decode(source["state"])[68:]
    own, state = chain.seal(FORGED, 1, source["name"], chain.GENESIS, payload)
    forged = {
        **source, "stream": FORGED, "version": 1, "position": position,
        "state": base64.b64encode(state).decode(), "checksum": own.hex(),
        "previousChecksum": chain.GENESIS.hex(),
    }  # fmt: skip
    records.insert(at + 1, forged)
    records[-1]["entries"] += 1
    path = write_lines(tmp_path / "forged.jsonl", records)
    code, said = verify(path, "--key", log.key)
    assert (code, said[:10], FORGED in said) == (1, "NOT VALID:", True), said


def test_a_missing_signature_is_told(log: Log, tmp_path: Path) -> None:
    """Without any key nobody has looked at a signature, and that must not sound as if."""
    records = lines(log.exported("run.jsonl", run_id=log.run()))
    records[0]["key"] = None
    for record in records:
        if record["record"] == "checkpoint":
            record["note"] = record["note"].partition("\n\n")[0] + "\n"
    proof = _proof(log) | {"key": ""}
    proof["checkpoint"] = proof["checkpoint"].partition("\n\n")[0] + "\n"
    (tmp_path / "proof.json").write_text(json.dumps(proof))
    paths = [write_lines(tmp_path / "run.jsonl", records), tmp_path / "proof.json"]
    for code, said in verify_all(paths):
        assert "NOT CHECKED: whether the checkpoint is signed" in said, (code, said)
    assert [code for code, _ in verify_all(paths, "--key", log.key)] == [1, 1]


def test_what_the_gate_read_is_no_part_of_what_was_sent(log: Log, tmp_path: Path) -> None:
    """The digest of a message does not cover it, so that it must not sound as if."""
    records = lines(log.exported("run.jsonl", run_id=log.run()))
    sent = next(record for record in records if record.get("name") == "StepDispatched")
    hidden = "entries with personal data stored as ciphertext alone: "
    told = []
    for gate in (None, {}, {"zone": "Europe/Vienna"}):
        sent["personal"]["gate"] = gate
        code, said = verify(write_lines(tmp_path / "gate.jsonl", records), "--key", log.key)
        assert code == 3, said
        told.append(int(said.partition(hidden)[2].partition("\n")[0]))
    assert told[1:] == [told[0] + 1] * 2


def test_odd_values_break_nothing(log: Log, tmp_path: Path) -> None:
    """Whatever stands in the place of a truth value, what is said stays in words and in a line."""
    records = lines(log.exported("run.jsonl", run_id=log.run(), since=EPOCH.replace(day=2)))
    entry = next(record for record in records if record["record"] == "entry")
    assert entry["version"] > 1
    paths = []
    for number, odd in enumerate((1e308, 0.5, "yes", [1], {"a": 1}, 10**18)):
        records[0]["scope"]["period"] = odd
        paths.append(write_lines(tmp_path / f"period-{number}.jsonl", records))
        records[0]["scope"]["period"] = True
        last = next(r for r in records if r.get("personal") is not None)
        paths.append(write_lines(tmp_path / f"erased-{number}.jsonl", [
            {**record, "erased": odd} if record is last else record for record in records
        ]))  # fmt: skip
    for code, said in verify_all(paths, "--key", log.key):
        assert code in (1, 3)
        assert all(line.startswith(("CONSISTENT, ", "NOT ")) for line in said.splitlines())


def test_what_was_signed_is_left_out_of_a_copy_that_says_otherwise(tmp_path: Path) -> None:
    """The newest entry says otherwise, its stream is chained anew, and what was signed is left
    out: that is consistent, and can be made by anybody."""
    with made_log("sqlite", tmp_path, str) as log:
        log.engine.audit.checkpoint()
        options = ("--key", log.key, "--checkpoint", max((log.folder / "places").iterdir()))
        path = log.exported("genuine.jsonl", contact_id="c3")
    assert verify(path, *options)[0] == 0
    records = lines(path)
    _told_anew(records, "contact:c3", b"asked us", b"asked me")
    assert verify(write_lines(tmp_path / "changed.jsonl", records), *options)[0] == 1
    forged = [record for record in records if record["record"] not in ("proof", "checkpoint")]
    code, said = verify(write_lines(tmp_path / "forged.jsonl", forged), *options)
    assert (code, said[:24]) == (3, "CONSISTENT, NOT SIGNED: "), said
    assert "checkpoints that nothing here leads to: 1" in said


def _told_anew(records: list[dict[str, Any]], stream: str, old: bytes, new: bytes) -> None:
    """Change what a stream's entries say, and chain it anew."""
    previous, changed = chain.GENESIS, 0
    for record in records:
        if record.get("stream") == stream:
            payload = base64.b64decode(record["state"])[68:]
            changed += old in payload
            payload = payload.replace(old, new)
            record["previousChecksum"] = previous.hex()
            previous, state = chain.seal(
                stream, record["version"], record["name"], previous, payload
            )
            stored = json.loads(payload[4 : 4 + int.from_bytes(payload[:4], "big")])
            record |= {"state": base64.b64encode(state).decode(), "checksum": previous.hex(),
                       "stored": stored}  # fmt: skip
    assert changed


def test_an_end_that_was_cut_off_with_a_proof_made_to_match(tmp_path: Path) -> None:
    """Whoever has the file can make the proof of fewer entries, so that it is valid; what cannot be
    seen is said, and there is nothing of that in a file of the whole log."""
    with made_log("sqlite", tmp_path, str) as own:
        size = own.engine.audit.checkpoint().size
        path = own.exported("run.jsonl", run_id=own.run())
        whole = own.exported("log.jsonl", since=EPOCH)
        key = own.key
    records = lines(path)
    of_run = [record for record in records if record["record"] == "entry"]
    shorter = _proved_anew(records, of_run[-3:], lines(whole), size)
    code, said = verify(write_lines(tmp_path / "cut.jsonl", shorter), "--key", key)
    assert (code, said[:7]) == (0, "VALID: "), said
    left_out = size - len(of_run) + 3 - sum(r["record"] == "context" for r in records)
    assert f"NOT CHECKED: if what is left out is of its scope: {left_out}\n" in said
    assert "NOT CHECKED: what it says of its scope, and of who made it, when and why" in said
    everything = [r for r in lines(whole) if r.get("position", 0) <= size]
    everything[-1]["entries"] = size
    code, said = verify(write_lines(tmp_path / "whole.jsonl", everything), "--key", key)
    assert (code, "left out" in said) == (0, False), said


def _proved_anew(
    records: list[dict[str, Any]],
    without: list[dict[str, Any]],
    log: list[dict[str, Any]],
    size: int,
) -> list[dict[str, Any]]:
    """The records without some entries, and with a proof that fits what is left of them."""
    kept = [each for each in records if each not in without and each["record"] != "proof"]
    chosen = sorted(each["position"] - 1 for each in kept if "position" in each)
    proof, leaves = Multiproof(Ranges(chosen)), {r["position"]: r for r in log if "position" in r}
    nodes = proof.feed([bytes.fromhex(leaves[at]["checksum"]) for at in range(1, size + 1)])
    nodes += proof.finish()
    kept[-1]["entries"] -= len(without)
    return [*kept[:-1], {"record": "proof", "nodes": [base64.b64encode(x).decode() for x in nodes]},
            kept[-1]]  # fmt: skip


# --- bundles --------------------------------------------------------------------------------------


def _bundle(log: Log, path: Path) -> Path:
    log.engine.audit.bundle(log.run(), output=path)
    return path


def test_a_file_that_only_ends_with_a_bundle(log: Log, tmp_path: Path) -> None:
    """Whoever opens it reads what stands before the bundle, and so must the program."""
    bundle = _bundle(log, tmp_path / "run.zip").read_bytes()
    path = tmp_path / "export.jsonl"
    path.write_bytes(b'{"record":"export","reason":"believe me"}\n' + bundle)
    code, said = verify(path, "--key", log.key)
    assert code in (1, 2), said
    assert said.startswith("NOT VALID: ")


def test_a_bundle_before_the_bundle(log: Log, tmp_path: Path) -> None:
    """Some programs unpack a file from its beginning, and would show another bundle."""
    bundle = _bundle(log, tmp_path / "run.zip").read_bytes()
    (tmp_path / "two.zip").write_bytes(bundle + bundle)
    code, said = verify(tmp_path / "two.zip", "--key", log.key)
    assert (code, "stands before its first file" in said) == (1, True), said


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "verdict.pdf", "checkpoints/../evil"])
def test_files_that_no_bundle_has(log: Log, tmp_path: Path, name: str) -> None:
    """They are named in SHA256SUMS, which anybody can write."""
    with zipfile.ZipFile(_bundle(log, tmp_path / "run.zip")) as bundle:
        files = {each: bundle.read(each) for each in bundle.namelist()}
    files[name] = b"see the verdict"
    del files["SHA256SUMS"]
    sums = [f"{hashlib.sha256(held).hexdigest()}  {each}\n" for each, held in files.items()]
    files["SHA256SUMS"] = "".join(sums).encode()
    path = tmp_path / "more.zip"
    with zipfile.ZipFile(path, "w") as bundle:
        for each, content in files.items():
            bundle.writestr(each, content)
    code, said = verify(path, "--key", log.key)
    assert (code, "no bundle has" in said) == (1, True), said

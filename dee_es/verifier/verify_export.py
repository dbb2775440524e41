#!/usr/bin/env python3
"""Verifies an export of dee-es (json, jsonl, bundle.zip) or a proof of one entry, all by itself.

Needs Python 3.11 and the package `cryptography`. Exits with 0 if the file is valid, 1 if it is not
(the first bad entry is named), 2 if this was called wrongly or the file is none of these.
"""

# Short enough to be read by whoever is to believe it.
# fmt: off
import argparse, base64, hashlib, json, re, sys, zipfile  # noqa: E401, I001
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import IO, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LINE, WHOLE, ZIPPED = 16 << 20, 512 << 20, 64 << 30  # most bytes that are read
ACTIONS = {"StepCompleted": "step.executed", "BranchEvaluated": "step.evaluated",
           "ChannelEventReceived": "event.received", "StepFailed": "error.occurred",
           "StepRetried": "error.retried", "OutcomeUnknown": "error.outcome_unknown"}
FIELDS = {"record", "position", "stream", "version", "name", "state", "personal", "erased"}
Json = dict[str, Any]
Texts = list[tuple[str, str]]
Nodes = list[bytes]

class Bad(Exception):
    """The file is not valid."""

def need(fact: object, otherwise: str) -> None:
    if not fact:
        raise Bad(otherwise)

def unique(pairs: list[tuple[str, Any]]) -> Json:
    need(len(dict(pairs)) == len(pairs), "a name stands twice in one JSON object")
    return dict(pairs)

parse = partial(json.loads, object_pairs_hook=unique)
plain = partial(json.dumps, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
raw = partial(base64.b64decode, validate=True)

def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()

def sealed(entry: Json, state: bytes) -> tuple[bytes, bytes, bytes]:
    """Previous checksum, own checksum and payload of an entry."""
    previous, own, payload = state[4:36], state[36:68], state[68:]
    names = entry["stream"].encode(), entry["version"].to_bytes(8, "big"), entry["name"].encode()
    framed = [len(x).to_bytes(4, "big") + x for x in (b"DEE1", *names, previous, payload)]
    need(state[:4] == b"DEE1" and own == sha(*framed), "the checksum does not match what is stored")
    return previous, own, payload

def checkpoint(note: str, key: str | None) -> tuple[str, int, bytes]:
    """Origin, size and root of a checkpoint; its signature is verified if there is a key."""
    body, _, signatures = note.partition("\n\n")
    origin, size, root = body.split("\n")[:3]
    if key:
        name, key_id, public = key.strip().split("+", 2)
        given = [raw(x.rpartition(" ")[2]) for x in signatures.splitlines() if f" {name} " in x]
        signature = next((x[4:] for x in given if x[:4].hex() == key_id), b"")
        try:
            known = Ed25519PublicKey.from_public_bytes(raw(public)[1:])
            known.verify(signature, f"{body}\n".encode())
        except InvalidSignature:
            raise Bad(f"the checkpoint of {size} entries is not signed by {key.strip()}") from None
    return origin, int(size), raw(root)

def root_of(size: int, leaves: dict[int, bytes], way: list[bytes]) -> bytes | None:
    """The root of the Merkle tree (RFC 6962) from some leaves and, from left to right, the roots of
    the largest parts without any; None if more is on the way than that."""
    at, rest = sorted(leaves), iter(way)
    def part(start: int, end: int) -> bytes:
        first = bisect_left(at, start)
        if first == len(at) or at[first] >= end:
            return next(rest, b"")
        if end - start == 1:
            return sha(b"\0", leaves[start])
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        return sha(b"\1", part(start, middle), part(middle, end))
    found = part(0, size)
    return found if next(rest, None) is None else None

class Export:
    """What was read of a file, verified on the way."""
    def __init__(self, key: str | None) -> None:
        self.key, self.where, self.origin, self.clock = key, "the file", "", Json()
        self.heads: dict[str, tuple[int, bytes]] = {}  # of each stream: last version and checksum
        self.leaves: dict[int, bytes] = {}
        self.parts: dict[str, list[Json]] = defaultdict(list)  # the records that are no entries
        self.kinds, self.unchecked = Counter[str](), Counter[str]()

    def take(self, record: Json) -> None:
        kind = record["record"]
        self.kinds[kind] += 1
        if kind in ("entry", "context"):
            self.entry(record, record["stream"], record["version"], record["position"])
        else:
            self.parts[kind].append(record)

    def entry(self, record: Json, stream: str, version: int, position: int) -> None:
        self.where = f"{stream} entry {version} (position {position})"
        previous, own, payload = sealed(record, raw(record["state"]))
        last, before = self.heads.get(stream, (0, bytes(32)))
        part = not last and self.parts["export"][0]["scope"]["period"]
        gap = version > last + 1 and (part or stream == "system")
        need(version == last + 1 or gap, f"entry {last + 1} is missing before it")
        need(gap or previous == before, "the previous checksum is not that of the entry before it")
        need(position - 1 not in self.leaves, "another entry stands at its position")
        self.unchecked["entries that follow one which is not in this file"] += gap
        self.heads[stream], self.leaves[position - 1] = (version, own), own
        size = 4 + int.from_bytes(payload[:4], "big")
        stored, shown, erased = parse(payload[4:size]), record["personal"], record["erased"]
        self.origin = self.origin or f"dee-es/{own.hex()[:32]}"
        self.clock = self.clock or stored["data"]
        ms = self.clock["epoch_ms"] + stored["meta"]["tick"] * self.clock["resolution_ms"]
        action = ".".join(re.findall("[A-Z][a-z]+", record["name"])).lower()
        told = {"action": ACTIONS.get(record["name"], action), "stored": stored,
                "timestamp": (datetime(1970, 1, 1) + timedelta(milliseconds=ms)).isoformat() + "Z",
                "checksum": own.hex(), "previousChecksum": previous.hex()}
        for field in told:
            need(plain(told[field]) == plain(record[field]), f"{field} is not what is stored")
        need(record.keys() == FIELDS | told.keys(), "it has other fields than an entry has")
        need(payload[size:] or (shown is None and not erased), "it has no personal data to show")
        self.unchecked["entries called erased, which only the key store knows"] += erased
        if shown is not None and record["name"] == "StepDispatched":
            message = sha(plain({x: shown[x] for x in shown if x != "gate"}).encode())
            need(message.hex() == stored["data"]["digest"], "the message shown is not the one sent")
        elif shown is not None:
            self.unchecked["entries with personal data, of which only ciphertext is stored"] += 1

    def finish(self, kept: Texts) -> str:
        """Hold the entries against the checkpoints; returns what was found."""
        self.where, parts, newest = "the file", self.parts, 0
        need(len(parts["export"]) == len(parts["end"]) == 1, "it is cut off")
        need(parts.keys() <= {"export", "end", "proof", "checkpoint"}, "it has other records")
        counts = parts["end"][0]["entries"], parts["end"][0]["context"]
        need(counts == (self.kinds["entry"], self.kinds["context"]), "entries are missing")
        need(0 in self.leaves, "the first entry of the log is missing")
        key, roots = self.key or parts["export"][0]["key"], dict[int, bytes]()
        for note in reversed(parts["checkpoint"]):
            self.where = "the checkpoints in the file"
            origin, size, roots[size] = checkpoint(note["note"], key)
            newest = newest or size
            proof = [x for y in parts["proof"] for x in y["nodes"]]
            known = self.leaves if size == newest else {size - 1: raw(note["last"])}
            way = [raw(x) for x in (proof if size == newest else note["way"])]
            inside = {at: known[at] for at in known if at < newest}
            found = size <= newest and root_of(newest, inside, way)
            need(origin == self.origin and found == roots[newest],
                 f"what is here is not in the log of {newest} entries that was signed")
            left = way[: (size - 1).bit_count()]  # of the older one's last entry, in both trees
            need(size == newest or root_of(size, known, left) == roots[size],
                 f"the log of {newest} entries does not go on from that of {size}")
        for self.where, text in kept:
            origin, size, root = checkpoint(text, key)
            need(origin == self.origin and roots.get(size, root) == root, "it is of another log")
            self.unchecked["checkpoints that nothing here leads to"] += size not in roots
        behind = sum(at >= newest for at in self.leaves)
        self.unchecked["entries behind the newest checkpoint, or without one"] = behind
        self.unchecked["whose key it is (none was given: the file has its own)"] = not self.key
        read = f"{self.kinds['entry']} entries and {self.kinds['context']} to explain them"
        return f"{read}, {len(self.leaves) - behind} of all in the log of {newest} that was signed"

    def proof(self, given: Json) -> str:
        """One entry with its path from the bottom, as `dee audit prove` writes it."""
        self.where = f"{given['stream']} entry {given['version']} (position {given['position']})"
        own = sealed(given, bytes.fromhex(given["state"]))[1]
        origin, size, root = checkpoint(given["checkpoint"], self.key or given["key"])
        index, start, end, left, right = given["position"] - 1, 0, size, Nodes(), Nodes()
        for node in map(bytes.fromhex, reversed(given["path"])):
            middle = start + (1 << (end - start - 1).bit_length() - 1)
            start, end = (start, middle) if index < middle else (middle, end)
            left, right = (left, [node, *right]) if end == middle else ([*left, node], right)
        told = given["checksum"], given["index"], given["origin"], given["size"]
        need(told == (own.hex(), index, origin, size), "what is readable is not what is stored")
        found = root_of(size, {index: own}, left + right)
        need(found == root, "it is not in the log that was signed")
        self.unchecked["whose key it is (none was given: the file has its own)"] = not self.key
        return f"{self.where} is in the log of {size} entries signed of {origin}"

def unpack(file: zipfile.ZipFile, export: Export, kept: Texts) -> IO[bytes]:
    """Hold the files of a bundle against its manifest; takes its checkpoints, gives its export."""
    export.where = "SHA256SUMS"
    lines = file.open(export.where).read(LINE).decode().splitlines()
    sums = dict(line.split("  ")[::-1] for line in lines)
    need(sorted(file.namelist()) == sorted([*sums, "SHA256SUMS"]), "it has other files than stated")
    need(sum(x.file_size for x in file.infolist()) < ZIPPED, "it is too large")
    for export.where, stated in sums.items():
        content, digest = file.open(export.where), hashlib.sha256()
        while piece := content.read(LINE):
            digest.update(piece)
        need(digest.hexdigest() == stated, "it is not the file that SHA256SUMS names")
        if export.where.startswith("checkpoints/"):
            kept.append((export.where, file.open(export.where).read(LINE).decode()))
    export.unchecked["kinds of files (csv, pdf, txt), but against SHA256SUMS"] = 3
    return file.open("export.jsonl")

def verify(path: str, export: Export, kept: Texts) -> str:
    with open(path, "rb") as file:
        zipped = zipfile.is_zipfile(file)
        file.seek(0)
        lines = unpack(zipfile.ZipFile(file), export, kept) if zipped else file
        line = lines.readline(LINE)
        rest = iter(partial(lines.readline, LINE), b"")
        records: Iterable[Json] = map(parse, chain([line], rest))
        if not line.startswith(b'{"record":"export"'):
            whole = parse(line + lines.read(WHOLE))
            if "path" in whole:
                return export.proof(whole)
            records = (x for y in whole.values() for x in (y if isinstance(y, list) else [y]))
        for record in records:
            export.take(record)
    return export.finish(kept)

def main() -> int:
    parser, opened = argparse.ArgumentParser(description=__doc__), argparse.FileType()
    parser.add_argument("export", help="the file to verify")
    parser.add_argument("--key", help="the public key that you trust, NAME+ID+KEY")
    parser.add_argument("--key-file", type=opened, help="a file with that key")
    parser.add_argument("--checkpoint", type=opened, action="append", help="one that you kept")
    given = parser.parse_args()
    export = Export(given.key_file.read(LINE) if given.key_file else given.key)
    try:
        kept = [(file.name, file.read(LINE)) for file in given.checkpoint or ()]
        told, code = f"VALID: {verify(given.export, export, kept)}", 0
    except Exception as error:  # whatever a hostile file brings about
        why = error if isinstance(error, Bad) else f"malformed ({type(error).__name__})"
        begun = export.kinds or export.where != "the file" or isinstance(error, Bad)
        told, code = f"NOT VALID: {export.where}: {why}", 1 if begun else 2
    for text in [told, *(f"NOT CHECKED: {x}: {n:d}" for x, n in export.unchecked.items() if n)]:
        print("".join(x if x.isprintable() else "?" for x in text))
    return code

if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Verifies an export of dee-es (json, jsonl, bundle.zip) or a proof of one entry, all by itself.
Needs Python 3.11 and `cryptography`. Exits with 0: valid; 1: not, the first bad entry is named; 2:
called wrongly, or no such file; 3: consistent, but some entries are under no signed checkpoint."""
import argparse, base64, bisect, functools, hashlib, json, re, sys, typing, zipfile  # noqa: E401, I001
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
LINE, WHOLE, ZIPPED = 16 << 20, 512 << 20, 64 << 30  # most bytes that are read
ACTIONS = {"StepCompleted": "step.executed", "BranchEvaluated": "step.evaluated",
           "ChannelEventReceived": "event.received", "StepFailed": "error.occurred",
           "StepRetried": "error.retried", "OutcomeUnknown": "error.outcome_unknown"}
FIELDS = {"record", "position", "stream", "version", "name", "state", "personal", "erased"}
PROOF = "checkpoint checksum format index key name origin path position size state stream version"
FILES = r"export\.(jsonl|csv|pdf)|(key|README|checkpoints/[a-z0-9-]+)\.txt|verify_export\.py"
Json = dict[str, typing.Any]
class Bad(Exception):
    """The file is not valid."""
def need(fact: object, otherwise: str) -> None:
    if not fact:
        raise Bad(otherwise)
def unique(pairs: list[tuple[str, typing.Any]]) -> Json:
    need(len(dict(pairs)) == len(pairs), "a name stands twice in one JSON object")
    return dict(pairs)
parse = functools.partial(json.loads, object_pairs_hook=unique)
plain = functools.partial(json.dumps, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
raw = functools.partial(base64.b64decode, validate=True)
def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()
def sealed(entry: Json, state: bytes) -> tuple[bytes, bytes, bytes]:
    """Previous checksum, own checksum and payload of an entry."""
    previous, own, payload = state[4:36], state[36:68], state[68:]
    need(all(type(entry[x]) is int and entry[x] > 0 for x in ("position", "version")), "bad place")
    names = entry["stream"].encode(), entry["version"].to_bytes(8, "big"), entry["name"].encode()
    framed = [len(x).to_bytes(4, "big") + x for x in (b"DEE1", *names, previous, payload)]
    need(state[:4] == b"DEE1" and own == sha(*framed), "the checksum does not match what is stored")
    return previous, own, payload
def checkpoint(note: str, key: str | None) -> tuple[str, int, bytes]:
    """Origin, size and root of a checkpoint; its signature is verified if there is a key."""
    body, end, signatures = note.partition("\n\n")
    body, (origin, size, root) = body + end[:1], body.split("\n")[:3]
    if key:
        name, key_id, public = key.strip().split("+", 2)
        given = [raw(x.rpartition(" ")[2]) for x in signatures.splitlines() if f" {name} " in x]
        signature = next((x[4:] for x in given if x[:4].hex() == key_id), b"")
        try:
            Ed25519PublicKey.from_public_bytes(raw(public)[1:]).verify(signature, body.encode())
        except InvalidSignature:
            raise Bad(f"the checkpoint of {size} entries is not signed by {key.strip()}") from None
    return origin, int(size), raw(root)
def root_of(size: int, leaves: dict[int, bytes], way: list[bytes]) -> bytes | None:
    """The Merkle root (RFC 6962) from leaves and, left to right, roots of parts without any."""
    at, rest = sorted(leaves), iter(way)
    def part(start: int, end: int) -> bytes:
        first = bisect.bisect_left(at, start)
        if first == len(at) or at[first] >= end:
            return next(rest, b"")
        if end - start == 1:
            return sha(b"\0", leaves[start])
        middle = start + (1 << (end - start - 1).bit_length() - 1)
        return sha(b"\1", part(start, middle), part(middle, end))
    found = part(0, size) if not at or 0 <= at[0] <= at[-1] < size else None
    return found if next(rest, None) is None else None
class Export:  # what was read of a file, verified on the way
    def __init__(self, key: str | None) -> None:
        self.where, self.origin, self.clock, self.key, self.used = "the file", "", Json(), key, key
        self.heads = dict[str, tuple[int, bytes]]()  # of each stream: last version and checksum
        self.parts = defaultdict[str, list[Json]](list)  # the records that are no entries
        self.kinds, self.unchecked, self.leaves = Counter[str](), Counter[str](), dict[int, bytes]()
    def entry(self, record: Json) -> None:
        stream, version, position = (record[x] for x in ("stream", "version", "position"))
        self.where = f"{stream} entry {version} (position {position})"
        previous, own, payload = sealed(record, raw(record["state"]))
        last, before = self.heads.get(stream, (0, bytes(32)))
        part = not last and self.parts["export"][0]["scope"]["period"]
        gap = version > last + 1 and bool(part or stream == "system")
        need(version == last + 1 or gap, f"entry {last + 1} is missing before it")
        need(gap or previous == before, "the previous checksum is not that of the entry before it")
        need(position - 1 not in self.leaves, "another entry stands at its position")
        self.unchecked["entries that follow one which is not in this file"] += gap
        self.heads[stream], self.leaves[position - 1] = (version, own), own
        size, shown, erased = 4 + int.from_bytes(payload[:4]), record["personal"], record["erased"]
        stored, self.origin = parse(payload[4:size]), self.origin or f"dee-es/{own.hex()[:32]}"
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
        self.unchecked["entries called erased, which only the key store knows"] += bool(erased)
        if shown is not None and record["name"] == "StepDispatched":
            shown, message = shown.pop("gate", None), sha(plain(shown).encode())  # gate: not sent
            need(message.hex() == stored["data"]["digest"], "the message shown is not the one sent")
        self.unchecked["entries with personal data stored as ciphertext alone"] += shown is not None
    def finish(self, roots: dict[int, bytes]) -> str:
        """Hold the entries against the checkpoints, whose roots are noted; says what was found."""
        self.where, parts, newest = "the file", self.parts, 0
        need(len(parts["export"]) == len(parts["end"]) == 1, "it is cut off")
        need(parts.keys() <= {"export", "end", "proof", "checkpoint"}, "it has other records")
        head, counts = parts["export"][0], [parts["end"][0][x] for x in ("entries", "context")]
        need(counts == [self.kinds["entry"], self.kinds["context"]], "entries are missing")
        need(0 in self.leaves, "the first entry of the log is missing")
        self.where, self.used = "the checkpoints in the file", self.key or head["key"]
        for note in reversed(parts["checkpoint"]):
            origin, size, roots[size] = checkpoint(note["note"], self.used)
            newest = newest or size
            proof = [x for y in parts["proof"] for x in y["nodes"]]
            have = self.leaves if size == newest else {size - 1: raw(note["last"])}
            way = [raw(x) for x in (proof if size == newest else note["way"])]
            top = size <= newest and root_of(newest, {x: have[x] for x in have if x < newest}, way)
            need(head["origin"] == origin == self.origin and top == roots[newest],
                 f"what is here is not in the log of {newest} entries that was signed")
            need(size == newest or root_of(size, have, way[:(size - 1).bit_count()]) == roots[size],
                 f"the log of {newest} entries does not go on from that of {size}")
        at = sorted(x + 1 for x in self.leaves if x >= newest)
        where = f"{str(at[:9])[1:-1]}{', ...' * bool(at[9:])}; ask for an export after the next one"
        self.unchecked[f"entries behind the newest checkpoint, at positions {where}"] = len(at)
        self.unchecked["what it says of its scope, and of who made it, when and why"] = 1
        self.unchecked["if what is left out is of its scope"] = newest + len(at) - len(self.leaves)
        told = f"CONSISTENT, {'PARTLY' if newest else 'NOT'} SIGNED" if at else "VALID"
        told += f": {self.kinds['entry']} entries and {self.kinds['context']} to explain them, "
        return told + f"{len(self.leaves) - len(at)} of all in the log of {newest} that was signed"
    def proof(self, given: Json, roots: dict[int, bytes]) -> str:
        """One entry with its path from the bottom, as `dee audit prove` writes it."""
        self.where = f"{given['stream']} entry {given['version']} (position {given['position']})"
        own = sealed(given, bytes.fromhex(given["state"]))[1]
        need(" ".join(sorted(given)) == PROOF, "it has other fields than a proof has")
        self.used, self.origin = self.key or given["key"], given["origin"]
        origin, size, roots[size] = checkpoint(given["checkpoint"], self.used)
        index, start, end, way = given["position"] - 1, 0, size, [b""]  # where the leaf comes in
        for node in map(bytes.fromhex, reversed(given["path"])):
            middle = start + (1 << (end - start - 1).bit_length() - 1)
            start, end = (start, middle) if index < middle else (middle, end)
            way.insert(way.index(b"") + (end == middle), node)
        told = given["checksum"], given["index"], given["origin"], given["size"]
        need(told == (own.hex(), index, origin, size), "what is readable is not what is stored")
        found = root_of(size, {index: own}, [x for x in way if x])
        need(found == roots[size], "it is not in the log that was signed")
        return f"VALID: {self.where} is in the log of {size} entries signed of {origin}"
def unpack(file: zipfile.ZipFile, export: Export, kept: list[tuple[str, str]]) -> typing.Any:
    """Hold the files of a bundle against its manifest; takes its checkpoints, gives its export."""
    need(file.infolist()[0].header_offset == 0, "something else stands before its first file")
    export.where = "SHA256SUMS"
    listed = file.open(export.where).read(LINE).decode()
    sums = dict(line.split("  ")[::-1] for line in listed.splitlines())
    need(all(re.fullmatch(FILES, x) for x in sums), "it names a file that no bundle has")
    need(sorted(file.namelist()) == sorted([*sums, "SHA256SUMS"]), "it has other files than stated")
    need(sum(x.file_size for x in file.infolist()) < ZIPPED, "it is too large")
    for export.where, stated in sums.items():
        digest = hashlib.file_digest(file.open(export.where), "sha256")  # type: ignore[arg-type]
        need(digest.hexdigest() == stated, "it is not the file that SHA256SUMS names")
        if export.where.startswith("checkpoints/"):
            kept.append((export.where, file.open(export.where).read(LINE).decode()))
    export.unchecked["kinds of files (csv, pdf, txt), but against SHA256SUMS"] = 3
    return file.open("export.jsonl")
def verify(path: str, export: Export, kept: list[tuple[str, str]], roots: dict[int, bytes]) -> str:
    with open(path, "rb") as file:  # a zip file begins as one; at the end of another it is unseen
        lines = unpack(zipfile.ZipFile(file), export, kept) if file.peek()[:2] == b"PK" else file
        streamed = lines.peek(18).startswith(b'{"record":"export"')
        whole = Json() if streamed else parse(lines.read(WHOLE))
        told = export.proof(whole, roots) if "path" in whole else ""
        items = (x for y in whole.values() if not told for x in (y if isinstance(y, list) else [y]))
        for record in map(parse, iter(lambda: lines.readline(LINE), b"")) if streamed else items:
            export.kinds[kind := record["record"]] += 1
            (export.entry if kind in ("entry", "context") else export.parts[kind].append)(record)
    told = told or export.finish(roots)
    for export.where, text in kept:
        origin, size, root = checkpoint(text, export.used)
        need(origin == export.origin and roots.get(size, root) == root, "it is of another log")
        export.unchecked["checkpoints that nothing here leads to"] += size not in roots
    return told
def main() -> int:
    parser, opened = argparse.ArgumentParser(description=__doc__), argparse.FileType()
    parser.add_argument("export", help="the file to verify: json, jsonl or a bundle (zip)")
    parser.add_argument("--key", help="the public key that you trust, NAME+ID+KEY, or its file",
                        type=lambda given: given if "+" in given else opened(given).read(LINE))
    parser.add_argument("--checkpoint", type=opened, action="append", help="one that you kept")
    export = Export(key := (given := parser.parse_args()).key)
    if key is not None and not re.fullmatch(r"\s*[^+\s]+\+[0-9a-f]{8}\+[\w+/]{44}\s*", key):
        parser.error("argument --key: it is neither NAME+ID+KEY nor a file that holds that")
    try:
        kept = [(file.name, file.read(LINE)) for file in given.checkpoint or ()]
        code = 0 if (told := verify(given.export, export, kept, {})).startswith("VALID: ") else 3
        export.unchecked["whose key it is (none was given)"] = not export.key
        export.unchecked["whether the checkpoint is signed (there is no key)"] = not export.used
    except Exception as error:  # whatever a hostile file brings about
        known, kind = isinstance(error, Bad | OSError), type(error).__name__
        begun = export.kinds or export.where != "the file" or isinstance(error, Bad)
        why = error if known else f"malformed ({kind})" if begun else f"no JSON or bundle ({kind})"
        told, code = f"NOT VALID: {export.where}: {why}", 1 if begun else 2
    for text in [told, *(f"NOT CHECKED: {x}: {n:d}" for x, n in export.unchecked.items() if n)]:
        print("".join(x if x.isprintable() else "?" for x in text))
    return code
if __name__ == "__main__":
    sys.exit(main())

"""An evidence bundle: an export with all that verifies it, in one zip file.

The same content gives the same bytes: files come in a fixed order and bear the time of the log's
clock.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from types import TracebackType
from typing import Final, Self

from dee_es.core.printing import printable
from dee_es.engine.exporting.draft import Head
from dee_es.errors import AnchorUnavailable
from dee_es.ports import Anchor

SUMS: Final = "SHA256SUMS"
_PIECE: Final = 1 << 20
_MOST_NOTES: Final = 1_000
"""Checkpoints that are taken from each place, the newest first."""
_FIRST_YEAR, _LAST_YEAR = 1980, 2107
"""Years that a zip file can tell."""
_REGULAR_0600: Final = 0o100600 << 16
_UNIX: Final = 3


class Bundle:
    """Gathers files and gives the zip file that they make up."""

    def __init__(self, head: Head, anchors: Sequence[Anchor]) -> None:
        self._head = head
        self._anchors = anchors
        self._sums: dict[str, str] = {}

    def __enter__(self) -> Self:
        # It has no name, and is gone with this process whatever ends it.
        self._file = tempfile.TemporaryFile()
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED, compresslevel=6)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()
        self._file.close()

    def add(self, name: str, content: Iterable[bytes]) -> None:
        """Add a file."""
        digest = hashlib.sha256()
        with self._zip.open(self._info(name), "w", force_zip64=True) as file:
            for piece in content:
                digest.update(piece)
                file.write(piece)
        self._sums[name] = digest.hexdigest()

    def _info(self, name: str) -> zipfile.ZipInfo:
        at = self._head.made_at
        year = min(max(at.year, _FIRST_YEAR), _LAST_YEAR)
        stamp = (year, at.month, at.day, at.hour, at.minute, at.second)
        info = zipfile.ZipInfo(name, stamp)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.create_system = _UNIX
        info.external_attr = _REGULAR_0600
        return info

    def finished(self, entries: int, covered: int, problems: Sequence[str]) -> Iterator[bytes]:
        """Add what every bundle has, and give the whole."""
        notes, unreached = self._notes()
        for name, note in notes.items():
            self.add(f"checkpoints/{name}", [note.encode()])
        if self._head.signed.key is not None:
            self.add("key.txt", [f"{self._head.signed.key}\n".encode()])
        self.add("verify_export.py", [verifier()])
        told = _readme(self._head, entries, covered, problems, unreached, self._sums)
        self.add("README.txt", [told.encode()])
        sums = "".join(f"{digest}  {name}\n" for name, digest in sorted(self._sums.items()))
        self.add(SUMS, [sums.encode()])
        self._zip.close()
        self._file.seek(0)
        while piece := self._file.read(_PIECE):
            yield piece

    def _notes(self) -> tuple[dict[str, str], list[str]]:
        """All checkpoints that are known, in the log and in the places, by file name."""
        found: dict[int, list[str]] = {}
        unreached = []

        def take(size: int, note: str) -> None:
            if note not in found.setdefault(size, []):
                found[size].append(note)

        for event in self._head.signed.all:
            take(event.size, event.note)
        for anchor in self._anchors:
            try:
                for number, (size, note) in enumerate(anchor.notes()):
                    if number == _MOST_NOTES:
                        break
                    take(size, note)
            except AnchorUnavailable as error:
                unreached.append(str(error))
        names = {}
        for size in sorted(found):
            for number, note in enumerate(found[size]):
                # Two different ones of a size are a fork, which is to be seen.
                other = f"-{number + 1}" if number else ""
                names[f"checkpoint-{size:020d}{other}.txt"] = note
        return names, unreached


def verifier() -> bytes:
    """The program that verifies exports, which needs nothing of this project."""
    return resources.files("dee_es.verifier").joinpath("verify_export.py").read_bytes()


_README: Final = """\
Evidence from the log {origin}

Made by:   {actor}
Made at:   {made_at} by the clock of the log (UTC)
Made for:  {reason}
Scope:     {scope}
           {entries} entries, {covered} of them covered by a signed checkpoint;
           nothing behind entry {through} of the log
{notes}
What is in it

  export.jsonl      the entries, a JSON object a line: as stored (personal data in it encrypted),
                    what they say in readable form, the newest checkpoint, and the proof that
                    every entry up to it is in the log that was signed
  export.csv        the same entries as a table, for reading
{pdf}  checkpoints/      the signed checkpoints that are known
  key.txt           the public key of the log, if it was at hand
  verify_export.py  a program that verifies export.jsonl; it needs Python 3.11 and the package
                    "cryptography", and nothing else
  SHA256SUMS        the SHA-256 of every other file

How to verify it

  python verify_export.py BUNDLE.zip --key NAME+ID+KEY

It exits with 0 and says VALID, or with 1 and NOT VALID, naming the first bad entry; with 2 if it
was called wrongly. With 3 it says CONSISTENT, NOT SIGNED (or PARTLY SIGNED): entries at the
positions that it names are under no signed checkpoint, so that anybody can have made them. If they
are only younger than the last checkpoint, an export made after the next one is valid.

Get the key from the owner of the log by another way than this file, and, if you can, the program
too: whoever can change this file can change key.txt and verify_export.py in it. If you have kept
checkpoints of this log yourself, add them with --checkpoint FILE.

What it shows

  - Every entry is, byte for byte, what its checksum was made over, and follows the entry before it
    in its stream.
  - Every covered entry was in the log when the checkpoint was signed, at its place, and the log
    had gone on from the older checkpoints without a change.
  - What is readable is what is stored, apart from personal data. The text of a message is checked
    against the SHA-256 that was stored when it was sent.

What it cannot show

  - That what was recorded was true, or that everything that happened was recorded.
  - That a run has no further entries: what was left out at its end leaves no gap behind.
  - That entries behind the newest checkpoint are all there; their chains are checked, no more.
  - That this is all of the log: what was left out of the scope is not in it.
  - Personal data other than messages: the stored form is encrypted, and its key is not here.
  - export.csv and export.pdf: only that they are the files that SHA256SUMS names.
  - Who made this bundle, when and why: the log itself has an entry log.exported about it, with
    the SHA-256 of the bundle.
"""


def _readme(
    head: Head,
    entries: int,
    covered: int,
    problems: Sequence[str],
    unreached: Sequence[str],
    files: Iterable[str],
) -> str:
    scope = head.scope
    told = "a period"
    if scope.run_id is not None:
        told = f"run {scope.run_id}"
    elif scope.contact_id is not None:
        told = f"contact {scope.contact_id}"
    if scope.from_tick is not None:
        told += f", from {head.time(scope.from_tick)}"
    if scope.before_tick is not None:
        told += f", before {head.time(scope.before_tick)}"
    notes = [f"This does not verify: {problem}" for problem in problems]
    notes += [f"A place for checkpoints could not be read: {error}" for error in unreached]
    pdf = "  export.pdf        the same for people: a timeline in sentences, messages, consent\n"
    return _README.format(
        origin=head.signed.origin,
        actor=printable(head.actor or "(not named)"),
        made_at=head.time(head.made_tick),
        reason=printable(head.reason or "(no reason given)"),
        scope=told,
        entries=f"{entries:,}",
        covered=f"{covered:,}",
        through=scope.through,
        notes="".join(f"\n{printable(note)}\n" for note in notes),
        pdf=pdf if "export.pdf" in files else "",
    )

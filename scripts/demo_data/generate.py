#!/usr/bin/env python3
"""Makes the demo's contacts.csv and events.jsonl, the same bytes every time.

Nobody in them exists: names are put together by chance, addresses lie in domains reserved for
examples and numbers in ranges reserved for fiction. `python scripts/demo_data/generate.py` writes
both files beside this one; a test compares them with what this code makes.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SEED = 20_240_301
PEOPLE = 1_240
HEADER = (
    "Contact ID", "First Name", "Last Name", "E-mail Address",
    "Phone Number", "Time Zone", "Company", "City", "Notes",
)  # fmt: skip

# As written, and in the letters of an address.
FIRST_NAMES = (
    ("Ada", "ada"), ("Amélie", "amelie"), ("Ángel", "angel"), ("Björn", "bjorn"),
    ("Chloë", "chloe"), ("Đorđe", "dorde"), ("Eilidh", "eilidh"), ("Fatma", "fatma"),
    ("Grażyna", "grazyna"), ("Hüseyin", "huseyin"), ("İpek", "ipek"), ("Jānis", "janis"),
    ("Katarína", "katarina"), ("Łukasz", "lukasz"), ("Małgorzata", "malgorzata"),
    ("Ngọc", "ngoc"), ("Ólafur", "olafur"), ("Ramón", "ramon"), ("Søren", "soren"),
    ("Tiago", "tiago"), ("Ülkü", "ulku"), ("Zoë", "zoe"), ("Алексей", "alexey"),
    ("Наталья", "natalya"), ("Ольга", "olga"), ("Ελένη", "eleni"), ("Γιώργος", "giorgos"),
    ("محمد", "mohammed"), ("ليلى", "layla"), ("נועה", "noa"), ("अनन्या", "ananya"),
    ("राहुल", "rahul"), ("தமிழ்", "tamil"), ("美咲", "misaki"), ("翔太", "shota"),
    ("小龙", "xiaolong"), ("秀英", "xiuying"), ("민준", "minjun"), ("서연", "seoyeon"),
    ("สมชาย", "somchai"), ("მარიამ", "mariam"), ("Անի", "ani"),
)  # fmt: skip
LAST_NAMES = (
    ("Andersson", "andersson"), ("Bauer", "bauer"), ("Castro", "castro"), ("Dvořák", "dvorak"),
    ("Ericsson", "ericsson"), ("Fernández", "fernandez"), ("Groß", "gross"),
    ("Horváth", "horvath"), ("Ionescu", "ionescu"), ("Jørgensen", "jorgensen"),
    ("Kowalczyk", "kowalczyk"), ("Lefèvre", "lefevre"), ("Müller", "mueller"),
    ("Nguyễn", "nguyen"), ("O'Brien", "obrien"), ("Petrović", "petrovic"),
    ("Quispe", "quispe"), ("Rossi", "rossi"), ("Şahin", "sahin"), ("Taylor", "taylor"),
    ("van der Berg", "vanderberg"), ("Иванова", "ivanova"), ("Παππάς", "pappas"),
    ("الحسن", "alhassan"), ("כהן", "cohen"), ("शर्मा", "sharma"), ("田中", "tanaka"),
    ("王", "wang"), ("김", "kim"), ("Wójcik", "wojcik"),
)  # fmt: skip
COMPANIES = (
    "Harbour & Hill, Ltd.", "Kiln Street Ceramics", 'Depot "Nord" GmbH', "Tres Ríos, S.A.",
    "Bluebird Cold Storage", "Papierlager Süd", "Fjord Frakt AS", "Ostwind Logistik",
    "Mill, Mill & Daughter", "Entrepôts du Canal", "Magazzini Levante", "Plains Grain Co-op",
    "Lantern Books; Wholesale", "Orchard Juice Works", "Granite Tools, Inc.", "青空倉庫",
    "Склад №7", "Quayside Parts",
)  # fmt: skip
# City, time zone, and how numbers reserved for fiction are written there.
PLACES = (
    ("New York", "America/New_York", "+1 (212) 555-{:04}"),
    ("Chicago", "America/Chicago", "+1 312-555-{:04}"),
    ("Denver", "America/Denver", "+1.303.555.{:04}"),
    ("Los Angeles", "America/Los_Angeles", "+1 213 555 {:04}"),
    ("Toronto", "America/Toronto", "+1 416 555 {:04}"),
    ("London", "Europe/London", "+44 20 7946 {:04}"),
    ("Leeds", "Europe/London", "+44 113 496 {:04}"),
    ("Paris", "Europe/Paris", "+33 1 99 00 {:04}"),
    ("Lyon", "Europe/Paris", "+33 2 61 91 {:04}"),
    ("Berlin", "Europe/Berlin", "+49 30 23125 {:03}"),
    ("Köln", "Europe/Berlin", "+49 221 4710 {:03}"),
    ("Sydney", "Australia/Sydney", "+61 2 5550 {:04}"),
    ("Perth", "Australia/Perth", "+61 8 5550 {:04}"),
)
NOTES = (
    "", "", "", "", "met at the fair", "asked for prices, in writing", 'says "maybe in spring"',
    "two sites:\r\nharbour and airport", "prefers mail; no calls before ten", "倉庫は二つ",
)  # fmt: skip

# Records that cannot be used, each in its own way, as they stand in the file.
UNUSABLE = (
    b"c-bad-1,Nadia,Rossi,nadia.rossi(at)example.com,,Europe/Rome,Mill Works,Roma,\r\n",
    b"c-bad-2,Tom,Taylor,tom@@example.com,,,Quayside Parts,Leeds,\r\n",
    b"c-bad-3,Mia,Bauer\r\n",
    b"c-bad-4,Leo,Bauer,leo@example.com,,Europe/Berlin,Ostwind Logistik,Berlin,,one too many\r\n",
    b"c bad 5,Ida,Dvorak,ida@example.org,,Europe/Prague,Mill Works,Praha,blank in the id\r\n",
    b"c-bad-6,J\xfcrgen,Gross,juergen@example.net,,Europe/Berlin,Ostwind Logistik,Berlin,\r\n",
    b",Nobody,Anywhere,,,,Granite Tools,Denver,no address at all\r\n",
    b'c-bad-8,"Ann" Lee,Castro,ann@example.com,,,Granite Tools,Denver,stray quotes\r\n',
    b"c-bad-9,Eve,Castro,eve@example.com,call me,,Granite Tools,Denver,\r\n",
    b"c-bad-10,Max,Wang,max@example-.com,,Asia/Shanghai,Kiln Street Ceramics,Shanghai,\r\n",
)
EMPTY = (b"\r\n", b",,,,,,,,\r\n", b"   \r\n")


@dataclass(frozen=True)
class Person:
    """One record of the file that can be used."""

    cells: tuple[str, ...]

    @property
    def email(self) -> str:
        return self.cells[3]

    @property
    def phone(self) -> str:
        return self.cells[4]


def people() -> list[Person]:
    """Everybody who can be enrolled, each address once."""
    dice = random.Random(SEED)
    numbers = {place: iter(range(100, 200)) for place in PLACES}
    found = [
        _person(dice, "c-0000", "suppressed", "example.com", ("Sam", "Suppressed")),
        # Without a first name no template can be filled in, and without an address no mail sent:
        # these runs have to stop and say why.
        *(_person(dice, f"c-nameless-{n}", f"desk{n}", "example.org", ("", "")) for n in (1, 2)),
        *(
            _person(dice, f"c-phone-{n}", "", "", ("Pat", "Taylor"), f"+44 7700 90{n:04}")
            for n in (100, 101)
        ),
    ]
    for number in range(1, PEOPLE + 1):
        first, last = dice.choice(FIRST_NAMES), dice.choice(LAST_NAMES)
        domain = dice.choice(("example.com", "example.org", "example.net", "depot.example"))
        place = dice.choice(PLACES)
        # Where a place's numbers are used up, people have none.
        phone = next(numbers[place], None) if dice.random() < 0.9 else None
        found.append(
            _person(
                dice,
                f"c-{number:04}" if dice.random() < 0.8 else "",
                f"{first[1]}.{last[1]}{number}",
                domain,
                (first[0], last[0]),
                "" if phone is None else place[2].format(phone),
                place,
            )
        )
    return found


def _person(
    dice: random.Random,
    contact_id: str,
    mailbox: str,
    domain: str,
    name: tuple[str, str],
    phone: str = "",
    place: tuple[str, str, str] = PLACES[5],
) -> Person:
    email = f"{mailbox}@{domain}" if mailbox else ""
    # People type addresses as they like.
    email = dice.choice((email, email, email, email.title(), f" {email} "))
    company, note = dice.choice(COMPANIES), dice.choice(NOTES)
    zone = place[1] if dice.random() < 0.95 else ""
    return Person((contact_id, *name, email, phone, zone, company, place[0], note))


def contacts_csv() -> bytes:
    """The file: a byte order mark, CRLF, and everything that goes wrong in real exports."""
    dice = random.Random(SEED + 1)
    everybody = people()
    records = [_record(person.cells) for person in everybody]
    # The same people once more, without their id and in capitals: they must not get two mails.
    again = [person for person in everybody if not person.cells[0]]
    for person in dice.sample(again, 25):
        cells = ("", *person.cells[1:3], person.email.strip().upper(), *person.cells[4:])
        _insert(dice, records, _record(cells))
    for record in (*UNUSABLE, *EMPTY * 3):
        _insert(dice, records, record)
    return b"\xef\xbb\xbf" + _record(HEADER) + b"".join(records)


def _insert(dice: random.Random, records: list[bytes], record: bytes) -> None:
    records.insert(dice.randrange(len(records)), record)


def _record(cells: tuple[str, ...]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode()


MINUTE, HOUR, DAY = 60, 3_600, 86_400
FOLLOW_UP = 3 * DAY + 1
"""When the second step is sent, in seconds from the start of the demo."""


@dataclass(frozen=True)
class Happening:
    """A channel event, `at` seconds after the start."""

    at: int
    type: str
    person: Person
    step: str
    data: dict[str, str] | None = None


def happenings() -> list[Happening]:
    """What people do with the mails and calls of the plan, in the order of time."""
    dice = random.Random(SEED + 2)
    usable = [person for person in people() if person.email and person.cells[1]]
    usable = [person for person in usable if not person.email.strip().startswith("suppressed")]
    dice.shuffle(usable)
    queue = iter(usable)

    def take(count: int, *, phone: bool = False) -> list[Person]:
        chosen = (person for person in queue if person.phone or not phone)
        return [next(chosen) for _ in range(count)]

    found = [*_bounces(dice, take(18), take(12)), *_clickers(dice, take(42, phone=True))]
    for person in take(48):
        opened = dice.randrange(5 * MINUTE, 2 * DAY)
        found.append(Happening(opened, "email.opened", person, "intro"))
        if dice.random() < 0.5:
            replied = opened + dice.randrange(2 * MINUTE, 20 * HOUR)
            found.append(Happening(replied, "email.replied", person, "intro"))
    for person in take(5):
        at = dice.randrange(HOUR, 2 * DAY)
        found.append(Happening(at, "email.unsubscribed", person, "intro"))
    (complainer,) = take(1)
    found.append(Happening(6 * HOUR + 7, "email.complained", complainer, "intro"))
    for person in take(40):
        opened = FOLLOW_UP + dice.randrange(5 * MINUTE, 3 * DAY)
        found.append(Happening(opened, "email.opened", person, "follow-up"))
        if dice.random() < 0.4:
            replied = opened + dice.randrange(2 * MINUTE, 10 * HOUR)
            found.append(Happening(replied, "email.replied", person, "follow-up"))
    # After the end of the plan: evidence that changes nothing.
    found += [Happening(9 * DAY + HOUR, "email.opened", person, "intro") for person in take(3)]
    return sorted(found, key=lambda event: event.at)


def _bounces(dice: random.Random, hard: list[Person], soft: list[Person]) -> Iterator[Happening]:
    for kind, several in (("hard", hard), ("soft", soft)):
        for person in several:
            at = dice.randrange(5, 20 * MINUTE)
            yield Happening(at, "email.bounced", person, "intro", {"kind": kind})


def _clickers(dice: random.Random, several: list[Person]) -> Iterator[Happening]:
    """People who open, click and are called on the third day; some write before that."""
    for number, person in enumerate(several):
        opened = dice.randrange(5 * MINUTE, 2 * DAY)
        clicked = opened + dice.randrange(3, 10 * MINUTE)
        yield Happening(opened, "email.opened", person, "intro")
        yield Happening(clicked, "email.clicked", person, "intro")
        if number < 6:
            replied = clicked + dice.randrange(HOUR, 20 * HOUR)
            yield Happening(replied, "email.replied", person, "intro")
        # Of the last two calls nothing is ever heard: nobody knows what became of them.
        elif number < len(several) - 2:
            yield from _call(dice, person)


def _call(dice: random.Random, person: Person) -> Iterator[Happening]:
    ringing = FOLLOW_UP + dice.randrange(4, 20)
    outcome = dice.choice(("answered",) * 5 + ("voicemail", "no_answer", "busy", "declined"))
    yield Happening(ringing, "call.ringing", person, "call")
    if outcome == "voicemail":
        yield Happening(ringing + dice.randrange(20, 30), "call.voicemail", person, "call")
        return
    if outcome == "answered":
        ringing += dice.randrange(3, 25)
        yield Happening(ringing, "call.answered", person, "call")
    over = ringing + dice.randrange(10, 170)
    yield Happening(over, "call.completed", person, "call", {"outcome": outcome})


def duration(seconds: int) -> str:
    """The seconds as people write them, such as 2d4h."""
    parts = []
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def events_jsonl() -> bytes:
    """The channel events, one JSON object a line, sorted by time."""
    lines = []
    for number, event in enumerate(happenings(), start=1):
        line: dict[str, object] = {
            "at": duration(event.at),
            "type": event.type,
            "email": event.person.email.strip().lower(),
            "stepId": event.step,
            "eventId": f"demo-{number:04}",
        }
        if event.data:
            line["data"] = event.data
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    return "".join(lines).encode()


def main() -> None:
    """Write both files beside this one."""
    here = Path(__file__).parent
    (here / "contacts.csv").write_bytes(contacts_csv())
    (here / "events.jsonl").write_bytes(events_jsonl())


if __name__ == "__main__":
    main()

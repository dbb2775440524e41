"""The contact: who a run is for, and how addresses are compared."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dee_es.core.values import JsonValue, check_id, check_map, check_text
from dee_es.errors import InvalidInput

# One @, something on both sides, and nothing that separates addresses or starts a header. The
# domain's labels are neither empty nor do they begin or end with a hyphen.
_APART = r"\s@,;:<>()\[\]\\\"\x00-\x1f\x7f"
_LABEL = rf"[^{_APART}.-](?:[^{_APART}.]*[^{_APART}.-])?"
_EMAIL = re.compile(rf"[^{_APART}]{{1,64}}@(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\Z")
_UNSEEN = frozenset({"Cc", "Cf", "Co"})
_ENCODED = "xn--"
_PHONE_NOISE = re.compile(r"[\s().\-/\u00a0\u2010-\u2015]+")
_APART_IN_NUMBER = re.compile(r"[\s.\-/\u00a0\u2010-\u2015]+")
_PHONE = re.compile(r"\+?[0-9]{5,15}\Z")
# A country code has one or two digits if it is among these, else three (ITU-T E.164).
_COUNTRY = re.compile(
    r"\+(?:[17]|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|[2-9][0-9]{2})"
)
# Where the zero is part of the number from abroad too: Ivory Coast, Benin, Congo, San Marino, the
# Vatican, Italy.
_ZERO_DIALLED: Final = ("+225", "+229", "+242", "+378", "+379", "+39")
# Where numbers neither begin with a zero nor are dialled with one in front at home: North America,
# Russia and Kazakhstan.
_ZERO_UNKNOWN: Final = ("+1", "+7")
_FIELDS: Final = frozenset({"id", "email", "phone", "timezone", "attributes"})


class Contact(BaseModel):
    """Someone a plan may be executed for.

    `id` is opaque and stays readable for ever, so it must not be an address. Everything else is
    personal data: it is encrypted under the contact's own key wherever it is stored. Unknown
    keywords become attributes. Raises `InvalidInput` naming the field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    email: str | None = None
    phone: str | None = None
    timezone: str | None = None
    attributes: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            raise InvalidInput("contact", f"must be a map, not {type(given).__name__}")
        return asdict(check_contact(given))

    def __repr__(self) -> str:
        # Only the opaque id: a contact that strays into a log or a traceback gives nothing away.
        return f"Contact(id={self.id!r})"

    __str__ = __repr__


class Person(Struct, frozen=True, gc=False):
    """A contact that was checked, as the engine goes on with it: what a `Contact` holds, but quick
    to make, since an enrolment makes one for each."""

    id: str
    email: str | None
    phone: str | None
    timezone: str | None
    attributes: dict[str, JsonValue]

    def __repr__(self) -> str:
        return f"Person(id={self.id!r})"

    __str__ = __repr__


def check_contact(given: dict[Any, Any]) -> Person:
    """The contact that a map describes; raises `InvalidInput` naming the field if it is none."""
    contact_id = check_id("contact.id", given.get("id"))
    attributes: dict[str, JsonValue] = {}
    if given.get("attributes") is not None:
        attributes = check_map("contact.attributes", given["attributes"])
    extra = {key: value for key, value in given.items() if key not in _FIELDS}
    if extra:
        checked = check_map("contact.attributes", extra)
        attributes = {**attributes, **checked} if attributes else checked
    email, phone, zone = given.get("email"), given.get("phone"), given.get("timezone")
    return Person(
        contact_id,
        check_email("contact.email", email) if _given(email) else None,
        check_phone("contact.phone", phone) if _given(phone) else None,
        check_text("contact.timezone", zone) if _given(zone) else None,
        attributes,
    )


def _given(value: object) -> bool:
    return value is not None and value != ""


def check_email(field: str, value: object) -> str:
    """Return the address without surrounding space, or raise `InvalidInput`.

    Refuses what nobody sees, too: such an address on a list would look right and cover nobody.
    """
    text = check_shape(field, value)
    if not text.isascii() and any(unicodedata.category(char) in _UNSEEN for char in text):
        raise InvalidInput(field, "holds a character that nobody sees")
    return text


def check_shape(field: str, value: object) -> str:
    """`check_email` as far as parts and separators go; for addresses that were taken in before."""
    # Nearly all are as they should be, and such a one has nothing in it that `check_text` refuses.
    if type(value) is str and value.isascii() and _EMAIL.match(value):
        return value
    text = check_text(field, value).strip()
    if not _EMAIL.match(text):
        raise InvalidInput(field, "is not one e-mail address such as name@example.com")
    return text


def check_phone(field: str, value: object) -> str:
    """Return the number without surrounding space, or raise `InvalidInput`."""
    if type(value) is str and _PHONE.match(value):
        return value
    text = check_text(field, value).strip()
    if not _PHONE.match(_PHONE_NOISE.sub("", text)):
        raise InvalidInput(field, "is not a telephone number such as +15550100")
    return text


def normalize_email(value: str) -> str:
    """The form under which two spellings of one mailbox compare equal; raises `InvalidInput`."""
    return fold_email(check_email("email", value))


def normalize_phone(value: str) -> str:
    """The digits of the number, with `+` in front if it is international; raises `InvalidInput`."""
    return fold_phone(check_phone("phone", value))


def fold_email(checked: str) -> str:
    """`normalize_email` for an address that was checked before.

    NFC and lower case throughout: mailbox names that differ only in case exist in theory, and
    mailing somebody who refused under another spelling is the worse mistake.
    """
    text = checked.strip()
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).lower()


def email_spellings(checked: str) -> tuple[str, ...]:
    """Every form under which the mailbox of an address that was checked before may be listed.

    `fold_email` comes first, and is all there is unless the domain is international: such a domain
    is written in letters or, label by label, as `xn--` and Punycode (RFC 5891), and names the same
    mailbox both ways.
    """
    folded = fold_email(checked)
    if folded.isascii() and _ENCODED not in folded:
        return (folded,)
    local, _, domain = folded.rpartition("@")
    labels = [_in_letters(label) for label in domain.split(".")]
    ways = (".".join(labels), ".".join([_encoded(label) for label in labels]))
    return tuple(dict.fromkeys((folded, *[f"{local}@{way}" for way in ways])))


def mailbox_counted(checked: str) -> str:
    """The one form under which sends to a mailbox, and to its domain, are counted, for an address
    that was checked before: `fold_email` with an international domain as `xn--` and Punycode."""
    folded = fold_email(checked)
    if folded.isascii() and _ENCODED not in folded:
        return folded.rstrip(".")
    local, _, domain = folded.rpartition("@")
    labels = [_encoded(_in_letters(label)) for label in domain.rstrip(".").split(".")]
    return f"{local}@{'.'.join(labels)}"


def domain_in_ascii(checked: str) -> str:
    """The address as every mail server understands it: with an international domain as `xn--` and
    Punycode. Unchanged if what stands before the @ is international, for which there is no such
    form."""
    local, _, domain = checked.rpartition("@")
    if checked.isascii() or not local.isascii():
        return checked
    labels = [_encoded(label) for label in fold_email(domain).split(".")]
    return f"{local}@{'.'.join(labels)}"


def _in_letters(label: str) -> str:
    if not (label.startswith(_ENCODED) and label.isascii()):
        return label
    try:
        letters = label.removeprefix(_ENCODED).encode().decode("punycode")
    except UnicodeError:
        return label
    # What does not come back the same is no domain's spelling, or not the one that is compared.
    proper = letters.isprintable() and fold_email(letters) == letters
    return letters if proper and _encoded(letters) == label else label


def _encoded(label: str) -> str:
    return label if label.isascii() else _ENCODED + label.encode("punycode").decode()


def fold_phone(checked: str) -> str:
    """`normalize_phone` for a number that was checked before.

    A zero in brackets behind the country code, as in +49 (0)30 or +49 (030), is left out like the
    brackets: it is not dialled from abroad. Where it is, as in Italy, it stays.
    """
    digits = phone_as_written(checked)
    if "(" not in checked or digits.startswith(_ZERO_DIALLED):
        return digits
    code = _COUNTRY.match(digits)
    text = _APART_IN_NUMBER.sub("", checked)
    # The two zeros of a country code may stand in brackets, too.
    text = "+" + text[3:] if text.startswith("(00") else text
    before, bracket, _ = text.partition("(0")
    if code is None or not bracket or phone_as_written(before) != code[0]:
        return digits
    return code[0] + digits[code.end() + 1 :]


def phone_spellings(checked: str) -> tuple[str, ...]:
    """Every form under which a number that was checked before may be listed.

    `fold_phone` comes first, and then `phone_as_written`. An international number is written with a
    zero behind the country code, in brackets or not, and without it, and is the same both ways;
    where that zero is dialled from abroad, as in Italy, these are two numbers. Where there are no
    such zeros, as in North America, a number without one has no other form.
    """
    written = phone_as_written(checked)
    code = _COUNTRY.match(written)
    if code is None or written.startswith(_ZERO_DIALLED):
        return (written,)
    rest = written[code.end() :]
    if written.startswith(_ZERO_UNKNOWN) and not rest.startswith("0"):
        return (written,)
    ways = (code[0] + rest.removeprefix("0"), f"{code[0]}0{rest.removeprefix('0')}")
    return tuple(dict.fromkeys((fold_phone(checked), written, *ways)))


def phone_as_written(checked: str) -> str:
    """All digits of a number that was checked before, a zero in brackets too: what `fold_phone`
    was, under which contacts may be known."""
    bare = checked.removeprefix("+").isdecimal()
    digits = checked if bare else _PHONE_NOISE.sub("", checked)
    return "+" + digits[2:] if digits.startswith("00") else digits

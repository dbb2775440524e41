"""Contacts: their fields, what is refused, and when two addresses are one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict
from pydantic import ValidationError

from dee_es.core.contact import (
    Contact,
    check_contact,
    email_spellings,
    mailbox_counted,
    normalize_email,
    normalize_phone,
    phone_as_written,
    phone_spellings,
)
from dee_es.errors import InvalidInput


def test_a_contact_is_an_id_and_what_is_known() -> None:
    contact = Contact(id="contact_123", email="jane@example.com")
    assert (contact.id, contact.email) == ("contact_123", "jane@example.com")
    assert (contact.phone, contact.timezone, contact.attributes) == (None, None, {})


def test_unknown_keywords_become_attributes() -> None:
    contact = Contact(id="c", firstName="Jane", attributes={"tier": "gold"}, age=41)  # type: ignore[call-arg]
    assert contact.attributes == {"tier": "gold", "firstName": "Jane", "age": 41}


def test_a_map_is_read_like_keywords() -> None:
    assert Contact.model_validate({"id": "c", "firstName": "Jane"}) == Contact(
        id="c", attributes={"firstName": "Jane"}
    )


@pytest.mark.parametrize("field", ["email", "phone", "timezone"])
def test_what_is_empty_is_not_known(field: str) -> None:
    assert getattr(Contact.model_validate({"id": "c", field: ""}), field) is None


def test_space_around_an_address_is_dropped() -> None:
    contact = Contact(id="c", email=" jane@example.com\n", phone=" +15550100 ")
    assert (contact.email, contact.phone) == ("jane@example.com", "+15550100")


def test_a_contact_cannot_be_changed() -> None:
    contact = Contact(id="c")
    with pytest.raises(ValidationError, match="frozen"):
        contact.email = "other@example.com"  # type: ignore[misc]


def test_a_contact_in_a_log_or_a_traceback_shows_its_id_only() -> None:
    contact = Contact(id="c_1", email="jane@example.com", phone="+15550100", name="Jane")  # type: ignore[call-arg]
    for text in (str(contact), repr(contact), f"{contact}", repr([contact])):
        assert "c_1" in text
        assert not any(secret in text for secret in ("jane", "Jane", "555"))


@pytest.mark.parametrize(
    "given, field",
    [
        ({}, "contact.id"),
        ({"id": ""}, "contact.id"),
        ({"id": 5}, "contact.id"),
        ({"id": "jane@example.com"}, "contact.id"),
        ({"id": "c", "email": "jane"}, "contact.email"),
        ({"id": "c", "email": 5}, "contact.email"),
        ({"id": "c", "phone": "none"}, "contact.phone"),
        ({"id": "c", "timezone": 1}, "contact.timezone"),
        ({"id": "c", "attributes": []}, "contact.attributes"),
        ({"id": "c", "attributes": {"a": float("nan")}}, "contact.attributes.a"),
        ({"id": "c", "note": "\0"}, "contact.attributes.note"),
        (["c"], "contact"),
    ],
)
def test_what_is_refused_is_named_and_not_shown(given: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Contact.model_validate(given)
    assert caught.value.field == field
    assert "jane" not in str(caught.value)


@pytest.mark.parametrize(
    "email",
    [
        "jane@example.com",
        "jane.o'hara+tag@sub.example.co.uk",
        "jäne@exämple.com",
        "j@localhost",
        "a" * 64 + "@example.com",
        "jane@a-b.example",
    ],
)
def test_addresses(email: str) -> None:
    assert Contact(id="c", email=email).email == email


@pytest.mark.parametrize(
    "email",
    [
        "jane",
        "@example.com",
        "jane@",
        "jane@@example.com",
        "jane@example.com, joe@example.com",
        "jane@example.com;joe@example.com",
        "Jane <jane@example.com>",
        "jane doe@example.com",
        "jane@example.com\r\nBcc: all@example.com",
        "jane@.example.com",
        "jane@example..com",
        "jane@example.com.",
        "jane@-example.com",
        "jane@example-.com",
        '"jane"@example.com',
        "a" * 65 + "@example.com",
        "jane@" + "a." * 130 + "com",
        "jane@exam\0ple.com",
    ],
)
def test_what_is_no_single_address(email: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Contact(id="c", email=email)
    assert caught.value.field == "contact.email"


@pytest.mark.parametrize("phone", ["+15550100", "0043 1 234-56", "(555) 010.0", "12345"])
def test_numbers(phone: str) -> None:
    assert Contact(id="c", phone=phone).phone == phone


@pytest.mark.parametrize("phone", ["1234", "1" * 16, "++15550100", "+1555CALL", "1;2345", "+"])
def test_what_is_no_number(phone: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Contact(id="c", phone=phone)
    assert caught.value.field == "contact.phone"


# --- when two are one -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "one, other",
    [
        ("Jane@Example.COM", "jane@example.com"),
        (" jane@example.com ", "jane@example.com"),
        ("j\u00e4ne@example.com", "ja\u0308ne@example.com"),
        ("J\u00c4NE@example.com", "ja\u0308ne@example.com"),
    ],
)
def test_two_spellings_of_one_mailbox(one: str, other: str) -> None:
    assert normalize_email(one) == normalize_email(other)


@pytest.mark.parametrize("other", ["jane@example.org", "j.ane@example.com", "jane+x@example.com"])
def test_another_mailbox(other: str) -> None:
    assert normalize_email(other) != normalize_email("jane@example.com")


@pytest.mark.parametrize(
    "one, other",
    [
        ("+1 (555) 01-00", "+15550100"),
        ("0043 1 23456", "+43 1/23456"),
        ("+49 (0)30 1234", "+49 30 1234"),
        ("0049(0) 30-1234", "+49301234"),
        ("(+49) ( 0 ) 30 1234", "+49 30 1234"),
        ("(0049) (0)30 1234", "+49 30 1234"),
        ("(0049) 30 1234", "+49 30 1234"),
        ("+49 (030) 1234", "+49 30 1234"),
        ("+380 (0)44 123456", "+380 44 123456"),
        # Where the zero is dialled from abroad too, only the brackets go.
        ("+39 (0)6 123456", "+39 06 123456"),
        ("+225 (0)7 12345678", "+225 0712345678"),
    ],
)
def test_two_spellings_of_one_number(one: str, other: str) -> None:
    assert normalize_phone(one) == normalize_phone(other)


@pytest.mark.parametrize(
    "given", ["(030) 1234", "030 (0)1234", "+49 30 (0)1234", "+49 030 1234", "49 (0)30 1234"]
)
def test_no_other_zero_is_left_out(given: str) -> None:
    digits = "".join(char for char in given if char.isdigit())
    assert normalize_phone(given).lstrip("+") == digits


@given(st.sampled_from(["+49", "0044", "+380"]), st.integers(1000, 10**9))
def test_a_number_is_listed_under_all_that_it_may_be_written_as(code: str, rest: int) -> None:
    written = [f"{code} {rest}", f"{code} (0){rest}", f"{code}0{rest}"]
    one, *others = [set(phone_spellings(each)) for each in written]
    assert all(other == one for other in others)
    assert phone_as_written(written[1]) in one
    assert all(phone_spellings(each)[0] == normalize_phone(each) for each in written)


@pytest.mark.parametrize("code", ["+1", "001", "+7"])
def test_where_no_number_has_such_a_zero_it_has_one_form(code: str) -> None:
    number = normalize_phone(f"{code} 5550100")
    assert phone_spellings(f"{code} 555-0100") == (number,)
    # Who writes one nevertheless means the same number.
    for written in (f"{code} (0)555 0100", f"{code} 0555 0100"):
        assert number in phone_spellings(written)


@pytest.mark.parametrize(
    "one, other",
    [
        ("+39 331 123456", "+39 0331 123456"),
        ("+229 97 123456", "+229 0 97 123456"),
        ("0039 6 123456", "+39 (0)6 123456"),
    ],
)
def test_where_the_zero_is_dialled_from_abroad_it_makes_another_number(
    one: str, other: str
) -> None:
    assert not set(phone_spellings(one)) & set(phone_spellings(other))


def test_a_national_number_is_not_an_international_one() -> None:
    assert normalize_phone("43123456") != normalize_phone("+43123456")


@pytest.mark.parametrize("normalize", [normalize_email, normalize_phone])
def test_only_addresses_are_compared(normalize: Any) -> None:
    with pytest.raises(InvalidInput):
        normalize("neither")


@given(st.from_regex(r"[a-zäİ\u212a.+]{1,20}@[a-zß]{1,9}\.com", fullmatch=True))
def test_a_normal_form_is_its_own(email: str) -> None:
    assert normalize_email(normalize_email(email)) == normalize_email(email)


@pytest.mark.parametrize("hidden", ["\u200b", "\ufeff", "\u200e", "\u00ad", "\x9f", "\ue000"])
@pytest.mark.parametrize(
    "shape", ["{}jane@example.com", "ja{}ne@example.com", "jane@example.com{}"]
)
def test_an_address_with_a_character_that_nobody_sees_is_refused(shape: str, hidden: str) -> None:
    # Else a list of addresses that a spreadsheet wrote would suppress nobody, and say nothing.
    with pytest.raises(InvalidInput, match="character that nobody sees"):
        normalize_email(shape.format(hidden))
    with pytest.raises(InvalidInput, match="character that nobody sees"):
        Contact(id="c", email=shape.format(hidden))


INTERNATIONAL = [
    ("jane@bücher.example", "jane@xn--bcher-kva.example"),
    ("Jane@BÜCHER.example", "JANE@XN--BCHER-KVA.example"),
    ("jane@mail.bücher.例え", "jane@mail.xn--bcher-kva.xn--r8jz45g"),
    ("jürgen@bücher.example", "jürgen@xn--bcher-kva.example"),
]
"""Two spellings of one address each."""


@pytest.mark.parametrize("one, other", INTERNATIONAL)
def test_a_mailbox_is_counted_under_one_form(one: str, other: str) -> None:
    assert mailbox_counted(one) == mailbox_counted(other) == mailbox_counted(one.upper())
    assert mailbox_counted(one).rpartition("@")[2].isascii()


@pytest.mark.parametrize("other", ["jane@example.com", "jane@xn--a.example"])
def test_other_mailboxes_are_counted_as_they_are_compared(other: str) -> None:
    assert mailbox_counted(other) == normalize_email(other)


@pytest.mark.parametrize("one, other", INTERNATIONAL)
def test_an_international_domain_has_two_spellings(one: str, other: str) -> None:
    assert set(email_spellings(one)) == set(email_spellings(other))
    assert set(email_spellings(one)) == {normalize_email(one), normalize_email(other)}
    # What lists of earlier versions hold stays the first.
    assert email_spellings(one)[0] == normalize_email(one)
    assert email_spellings(other)[0] == normalize_email(other)


@pytest.mark.parametrize(
    "address",
    [
        "jane@example.com",
        "jürgen@example.com",
        "xn--bcher-kva@example.com",
        "jane@xn--a.example",
        "jane@xn--a-9.example",
        "jane@xn--99999999.example",
    ],
)
def test_a_domain_that_is_not_international_has_one_spelling(address: str) -> None:
    assert email_spellings(address) == (normalize_email(address),)


LABELS = st.text(st.characters(exclude_categories=("C", "Z", "P", "S")), min_size=1, max_size=12)


@given(
    st.lists(LABELS | st.text("abcxn019", min_size=1).map(lambda tail: f"xn--{tail}"), min_size=1)
)
def test_all_spellings_of_an_address_meet(labels: list[str]) -> None:
    spellings = email_spellings("a@" + ".".join(labels))
    for each in spellings:
        assert each.encode()
        # All but one that mixes letters with `xn--`, which only itself knows of.
        assert set(spellings[1:]) <= set(email_spellings(each)) <= set(spellings)


class Text(str):
    """Text as some libraries hand it over: of a class of its own, which says what it likes."""

    def __str__(self) -> str:
        return "something else"


def test_a_contact_is_made_of_plain_text_whatever_it_is_given_as() -> None:
    fields = {"id": "c1", "email": "a@b.example", "phone": "+15550100", "timezone": "UTC"}
    texts: dict[str, Any] = {key: Text(value) for key, value in fields.items()}
    held = asdict(check_contact(texts))
    assert held == Contact(**texts).model_dump() == {**fields, "attributes": {}}
    assert {type(value) for value in held.values()} == {str, dict}

"""What is told where somebody asks for a contact of which nothing is on record."""

from __future__ import annotations

import click


def unknown_contact(contact_id: str) -> click.ClickException:
    """The fault that an id is which stands nowhere: most likely it is mistyped."""
    return click.ClickException(
        f"nothing is known of contact {contact_id}: no run, no suppression, no consent and no "
        "refusal has this id"
    )

"""The service that Restate's server calls: four trivial steps, each recorded by `ctx.run_typed`."""

from __future__ import annotations

import restate

outreach = restate.Service("Outreach")


async def send(contact: str, template: str) -> str:
    """A send that costs nothing."""
    return f"{contact}:{template}"


async def branch(contact: str) -> str:
    """A branch that costs nothing."""
    return "second"


@outreach.handler()
async def run(ctx: restate.Context, contact: dict[str, str]) -> str:
    """Four trivial steps."""
    name = contact["id"]
    await ctx.run_typed("first", send, contact=name, template="first")
    await ctx.run_typed("answer", branch, contact=name)
    await ctx.run_typed("second", send, contact=name, template="second")
    await ctx.run_typed("last", send, contact=name, template="last")
    return "silent"


app = restate.app([outreach])

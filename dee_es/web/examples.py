"""An example of each thing that is sent or answered, by the name of its schema."""

from __future__ import annotations

from typing import Any, Final

_RUN: Final = "run_f5ioohgeel4ne7b4vazlpx77ug"
_JOB: Final = "job_901e22ead112be2decc7436f"
_NOON: Final = "2026-01-31T12:00:00Z"
_REASON: Final = "Contact requested removal"
_PERSON: Final = {
    "id": "contact_123",
    "email": "jane@example.com",
    "phone": "+15550100",
    "timezone": "Europe/Berlin",
    "attributes": {"firstName": "Jane"},
}
_EXECUTION: Final = {
    "id": _RUN,
    "planId": "welcome",
    "planVersion": 1,
    "contactId": "contact_123",
    "status": "waiting",
    "currentStep": "pause",
    "stepsCompleted": 1,
    "stepsRemaining": 2,
    "startTick": 0,
    "currentTick": 0,
    "startedAt": _NOON,
    "completedAt": None,
    "outcome": None,
    "variables": {"product": "Tea"},
    "statusReason": None,
    "resumeTick": 259_200,
    "version": 5,
    "enrollment": 1,
    "ordinal": 1,
    "parked": False,
}
_RESULT: Final = {
    "contacts": 1_000,
    "created": 950,
    "skipped": 50,
    "errors": 0,
    "alreadyEnrolled": 45,
    "suppressed": 5,
    "dryRun": False,
}
_BULK: Final = {
    "filters": {"planId": "old-plan", "status": "active"},
    "reason": "Plan deprecated",
    "dryRun": False,
}
_EVENT: Final = {
    "type": "email.replied",
    "contactId": "contact_123",
    "stepId": "hello",
    "data": {},
    "occurredAt": _NOON,
    "eventId": "mail-7781",
}
_PROBLEM: Final = {
    "type": "urn:dee:problem:InvalidTransition",
    "title": "The run cannot change like that",
    "status": 409,
    "detail": f"run {_RUN} cannot go from completed to paused",
    "instance": f"/api/v1/runs/{_RUN}/pause",
    "error": "InvalidTransition",
}

EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "Accepted": {"accepted": True},
    "Address": {"email": "jane@example.com"},
    "Applied": {"changed": True},
    "Batch": {"events": [_EVENT]},
    "BulkCancel": _BULK,
    "BulkExecute": {
        "plan": "welcome",
        "contacts": [_PERSON],
        "variables": {"product": "Tea"},
        "batchSize": 100,
        "dryRun": False,
    },
    "BulkPause": {**_BULK, "keep": "deadline"},
    "BulkReplay": {"filters": {"planId": "welcome", "status": ["completed"]}, "workers": 2},
    "BulkResume": {**_BULK, "filters": {"status": "paused"}, "perTick": 100},
    "Changed": {"matched": 120, "cancelled": 120, "errors": 0, "dryRun": False},
    "Checked": {
        "valid": False,
        "faults": [
            {
                "stepId": "hello",
                "problem": "the template 'hello' is not published",
                "remedy": "publish it first with publish_template",
            }
        ],
    },
    "Consent": {"channel": "email", "purpose": "news", "reason": "by telephone"},
    "ContactGiven": _PERSON,
    "DefinitionVersion": {"id": "default", "version": 2},
    "EntryFault": {
        "index": 2,
        "error": "InvalidInput",
        "field": "email",
        "detail": "email: is not an email address",
    },
    "EventGiven": _EVENT,
    "Export": {"runId": _RUN, "format": "zip", "personalData": False, "reason": "asked by audit"},
    "Execute": {
        "plan": "welcome@1",
        "contact": _PERSON,
        "variables": {"product": "Tea"},
        "startAt": None,
    },
    "ExecutionRun": _EXECUTION,
    "Grant": {
        "channel": "email",
        "purpose": "news",
        "expiresAt": "2027-01-31T12:00:00Z",
        "source": "web form",
    },
    "Hold": {
        "holdId": "hold_1",
        "runId": None,
        "contactId": "contact_123",
        "placedAt": _NOON,
        "actor": "robin",
        "reason": "court order",
        "commandId": "http.90",
    },
    "HoldGiven": {"contactId": "contact_123", "reason": "court order"},
    "Identified": {"contactId": "c_5b1f0d7c"},
    "Imported": {"added": 1, "already": 1, "errors": 0, "faults": []},
    "ImportedRun": {"runId": _RUN},
    "Ingested": {"accepted": 1, "known": 0, "errors": 0, "faults": []},
    "JobView": {
        "id": _JOB,
        "kind": "bulk-execute",
        "state": "done",
        "actor": "robin",
        "createdAt": _NOON,
        "startedAt": _NOON,
        "finishedAt": _NOON,
        "progress": {
            "done": 1_000,
            "total": 1_000,
            "fraction": 1.0,
            "rate": 2_400.0,
            "secondsLeft": None,
        },
        "result": _RESULT,
        "problem": None,
        "refusals": 50,
        "file": None,
    },
    "OptionalReason": {"reason": "back from holiday"},
    "PauseGiven": {"reason": "on holiday", "keep": "remaining"},
    "Problem": _PROBLEM,
    "Reason": {"reason": _REASON},
    "Rebuild": {"throttle": 0.5, "compare": True, "accept": False, "restart": False},
    "RefusedContact": {
        "line": 3,
        "contactId": "contact_8",
        "reason": "already_enrolled",
        "detail": "already enrolled: has the address of line 2",
    },
    "Rendering": {"attributes": {"firstName": "Jane"}, "subject": "Hello {{contact.firstName}}"},
    "Report": {
        "since": "2026-01-01T00:00:00Z",
        "until": "2026-02-01T00:00:00Z",
        "include": ["sends", "consent"],
        "format": "pdf",
        "zone": "Europe/Vienna",
    },
    "Resolve": {"outcome": "delivered", "reason": "seen in the mailbox"},
    "RunCounts": {"counts": {"active": 3, "completed": 12}},
    "RunExport": {"personalData": False, "target": "ticket 77", "reason": "asked by support"},
    "RunFilters": {"planId": "welcome"},
    "RunPage": {"runs": [_EXECUTION], "total": 1, "nextCursor": None},
    "ScriptGiven": {
        "id": "call",
        "greeting": "Hello {{contact.firstName}}",
        "steps": [{"type": "speak", "text": "Your order has arrived."}],
    },
    "SenderGiven": {
        "address": "news@example.com",
        "name": "The team",
        "postalAddress": "1 Main Street, Vienna",
        "tracking": {"opens": False, "clicks": True},
    },
    "SupposedEvent": {"type": "email.replied", "data": {}, "stepId": "hello"},
    "SupposedVariable": {"name": "product", "value": "Coffee"},
    "Supposition": {"version": 4, "variable": {"name": "product", "value": "Coffee"}},
    "Suppression": {"contactId": "contact_123", "level": "global", "reason": "asked by telephone"},
    "SuppressionList": {
        "entries": [
            {"email": "jane@example.com"},
            {"phone": "+15550100", "reason": "by telephone"},
        ],
        "level": "regulatory",
        "dryRun": False,
    },
    "TemplateGiven": {"id": "hello", "text": "Hello {{contact.firstName}}"},
    "TemplateVersion": {"id": "hello", "version": 1},
    "Tracked": {"opens": False, "clicks": True},
    "Throttle": {"throttle": 0.5},
    "Retry": {"streamId": _RUN},
    "Whoami": {"actor": "robin", "role": "admin", "csrfToken": "q2bX..."},
}

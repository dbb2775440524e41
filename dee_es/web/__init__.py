"""The web door: the HTTP API under /api/v1, and what keeps it safe.

    app.py        create_app(engine, settings): everything put together, safe by default
    server.py     `serve`: the app on a socket, until a signal
    routing.py    GuardedRoute: no route without a role; who acts; command ids from Idempotency-Key
    idempotency.py  repeated requests: command ids, and answers given before
    description.py  the OpenAPI document; examples.py
    problems.py   errors as RFC 9457 problem details
    jobs.py       long work with progress, result and an abort between batches;
                  job_files.py: what they keep on disk
    security/     hosts, sign-in, sessions, tokens, CSRF, limits, headers: mostly plain ASGI
    api/          one router a file: the resources
    pages/        pages for people: routers, templates and static files
    static_files.py  those files under a digest of their content
    upkeep.py     projections kept level beside the answering
    hooks/        webhooks: routers under /hooks/, which check a signature of their own
    hook_settings.py  what webhooks are believed by

A router is added by a line in the `ROUTERS` of its package. Every route names the role it needs;
one that does not stops the program when it starts.
"""

"""`dee worker`: the scheduler, until it is stopped."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from dee_es.cli.options import told_as
from dee_es.cli.session import Session, pass_session
from dee_es.errors import InvalidInput

if TYPE_CHECKING:
    from dee_es.bootstrap import Engine
    from dee_es.cli.metrics import WorkerMetrics
    from dee_es.cli.watch import Watch
    from dee_es.config import EngineConfig
    from dee_es.engine.models import TickReport

_log: Final = logging.getLogger("dee_es.worker")
_PORT: Final = click.IntRange(0, 65_535)


@click.command()
@click.option(
    "--partition",
    metavar="I/N",
    help="Work on one share of the contacts, counted from 0; every share needs a worker of its"
    " own.  [DEE_PARTITION; default 0/1, all of them]",
)
@click.option(
    "--log-json", is_flag=True, help="Log on stderr, a JSON object a line, and print nothing."
)
@click.option(
    "--metrics-port", type=_PORT, metavar="N", help="Serve numbers for Prometheus; 0 is any port."
)
@click.option(
    "--metrics-host", metavar="HOST", default="127.0.0.1", show_default=True, help="Where to."
)
@click.option(
    "--callbacks-port",
    type=_PORT,
    metavar="N",
    help="Take what Twilio tells about calls, over plain HTTP: put a proxy with TLS before it.",
)
@click.option(
    "--callbacks-host", metavar="HOST", default="127.0.0.1", show_default=True, help="Where from."
)
@pass_session
def worker(
    session: Session,
    partition: str | None,
    log_json: bool,
    metrics_port: int | None,
    metrics_host: str,
    callbacks_port: int | None,
    callbacks_host: str,
) -> None:
    """Do what becomes due, until SIGTERM or Ctrl-C; the tick under way is finished first.

    Of several workers on one share of a database one is at work, the others stand by. Prints a line
    when it begins or stops being busy, not for every look.

    With places for checkpoints (DEE_CHECKPOINTS) it signs the log between ticks, after
    DEE_CHECKPOINT_EVERY_EVENTS (10,000) new entries or DEE_CHECKPOINT_EVERY_S (300) seconds.
    """
    from dee_es.cli.logs import logging_to_stderr
    from dee_es.cli.watch import Watch

    with told_as({} if partition is None else {"partition": "--partition"}):
        config = session.config(create=False, partition=partition)
    if callbacks_port is not None and config.voice != "twilio":
        raise click.UsageError("--callbacks-port needs the channel: set DEE_VOICE=twilio")
    stop = threading.Event()
    with logging_to_stderr(log_json), session.engine(partition=partition) as engine:
        watch = Watch(engine, stop, log_json)
        with ExitStack() as stack:
            stack.enter_context(_stopping(stop))
            stack.enter_context(watch)
            metrics = None
            if metrics_port is not None:
                metrics = _serve_metrics(engine, metrics_host, metrics_port, stack, watch)
            if callbacks_port is not None:
                _serve_callbacks(engine, config, callbacks_host, callbacks_port, stack, watch)
            total = _work(engine, stop, watch, metrics)
            # Before the watch ends: its thread may still be about to say something.
            watch.finish(total)


def _work(
    engine: Engine, stop: threading.Event, watch: Watch, metrics: WorkerMetrics | None
) -> TickReport:
    if metrics is None:
        return engine.worker(stop, watch.on_tick, on_checkpoint=watch.on_checkpoint)

    def on_tick(total: TickReport) -> None:
        metrics.end(total)
        watch.on_tick(total)

    return engine.worker(stop, on_tick, metrics.begin, watch.on_checkpoint)


def _serve_metrics(
    engine: Engine, host: str, port: int, stack: ExitStack, watch: Watch
) -> WorkerMetrics:
    from dee_es.cli.metrics import WorkerMetrics, serving

    metrics = WorkerMetrics(engine)
    with _port_needed("--metrics-port", port):
        got = stack.enter_context(serving(metrics, host, port))
    watch.tell("serving", f"worker: metrics on {host}, port {got}", what="metrics", port=got)
    return metrics


def _serve_callbacks(
    engine: Engine, config: EngineConfig, host: str, port: int, stack: ExitStack, watch: Watch
) -> None:
    from dee_es.bootstrap import serve_call_events

    with _port_needed("--callbacks-port", port):
        got = stack.enter_context(serve_call_events(engine, config, host, port, _callback_failed))
    watch.tell("serving", f"worker: callbacks on {host}, port {got}", what="callbacks", port=got)


def _callback_failed(error: Exception) -> None:
    # Its text could hold what was said or pressed.
    _log.warning("callback_failed", extra={"error": type(error).__name__})


@contextmanager
def _port_needed(option: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InvalidInput(option, f"port {port} cannot be had: {error.strerror}") from None


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """Let both signals set `stop`; a second one ends the program the usual way."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[signal.Signals(number)])
        stop.set()

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

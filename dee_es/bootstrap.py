"""The only place that chooses concrete adapters: a database URL goes in, an engine comes out."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dee_es.adapters.channels.lazy import LazyChannel
from dee_es.adapters.documents import Documents
from dee_es.adapters.keys import (
    FileHolder,
    MasterHolder,
    MemoryHolder,
    NewSecret,
    PlainKeys,
    TriedHolder,
    create_master_key,
    open_memory_keys,
    open_postgres_keys,
    open_sqlite_keys,
    parse_master_key,
    secret_in_backup,
)
from dee_es.adapters.processes import helped, shared
from dee_es.adapters.system import RandomIds, SystemWallClock, current_user
from dee_es.adapters.zones import load_zone
from dee_es.config import EngineConfig, load_config
from dee_es.core.chain import GENESIS
from dee_es.core.chunk_check import Chunk, ChunkReport
from dee_es.core.clock import TimeScale
from dee_es.core.events import ClockStarted, Meta
from dee_es.core.ids import SYSTEM_STREAM
from dee_es.core.values import check_actor
from dee_es.engine.api.clock import OnCheckpoint
from dee_es.engine.api.definitions import checked_policy
from dee_es.engine.auditing.chunks import ChunkReader
from dee_es.engine.auditing.periodic import Every
from dee_es.engine.facade import EngineApi, Parts
from dee_es.engine.journal import Journal
from dee_es.engine.links import Links
from dee_es.engine.models import TickReport
from dee_es.engine.scheduler import OnTick
from dee_es.errors import IntegrityViolation, InvalidInput, StoreUnavailable
from dee_es.ports import (
    Anchor,
    Channel,
    EventStore,
    IdSource,
    KeyRestore,
    KeyRotation,
    ManagedKeyStore,
    OnKeys,
    Place,
    Signer,
    SignerSource,
    StoredRow,
    StreamAppend,
    Unit,
    Views,
    WallClock,
)
from projections import AUDIT_TRAIL, CONTACT_HISTORY, INLINE, LAZY, RUN_LIST, STEP_FUNNEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dee_es.adapters.channels.twilio import RecordedCallbacks, TwilioSettings
    from dee_es.engine.replay_results import ReplayedPage

_SQLITE: Final = "sqlite:///"
_POSTGRES: Final = ("postgresql://", "postgres://")
_MEMORY: Final = ":memory:"


class Engine(EngineApi):
    """The engine on a database: `sqlite:///file`, `postgresql://...`, `:memory:`, or a config.

    Without an argument the settings come from `DEE_*` variables and `dee.toml`, by default
    `sqlite:///dee.db`. A database that does not exist is made, unless the config says otherwise.

    The keyword arguments replace what the engine takes from its surroundings: wall time, command
    ids, channels, the contacts' keys and the key that signs.
    """

    def __init__(
        self,
        database: str | EngineConfig | None = None,
        *,
        channels: Mapping[str, Channel] | None = None,
        wall: WallClock | None = None,
        ids: IdSource | None = None,
        keys: ManagedKeyStore | None = None,
        signers: SignerSource | None = None,
    ) -> None:
        config = _config(database)
        wall, ids = wall or SystemWallClock(), ids or RandomIds()
        actor = actor_of(config)
        with ExitStack() as undo:
            backend, store, views = _open_store(config)
            undo.callback(store.close)
            # Before the keys, which an empty database does not have either.
            new = not _first_entry(store)
            if new and not config.create:
                raise StoreUnavailable("this database is empty; make it ready with `dee init`")
            # A database that was used before is never opened with an empty key store by mistake.
            opened_keys = keys or _open_keys(config, create=new)
            undo.callback(opened_keys.close)
            if new:
                opened_keys.bind(config.personal_data)
            started = _clock_of(store, Journal(opened_keys), config, wall, ids, actor)
            opened_keys.bind(started.personal_data)
            epoch = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=started.epoch_ms)
            parts = Parts(
                backend=backend,
                store=store,
                views=views,
                keys=PlainKeys(opened_keys) if started.personal_data == "off" else opened_keys,
                key_care=opened_keys,
                channels=_channels(config) if channels is None else channels,
                wall=wall,
                ids=ids,
                scale=TimeScale(epoch, started.resolution_ms),
                clock=started.kind,
                inline=INLINE,
                lazy=LAZY,
                run_list=RUN_LIST,
                audit_trail=AUDIT_TRAIL,
                contact_history=CONTACT_HISTORY,
                step_funnel=STEP_FUNNEL,
                zones=load_zone,
                anchors=_anchors(config),
                signers=signers or _signers(config),
                places=_place,
                archives=config.archives,
                certificates=config.certificates,
                actor=actor,
                documents=Documents(),
                partition=config.partition,
                checkpoint_every=Every(config.checkpoint_every_events, config.checkpoint_every_s),
                max_runs_per_tick=config.max_runs_per_tick,
                max_concurrent_sends=config.max_concurrent_sends,
                links=links_of(config),
                share_checks=None if backend == "memory" else partial(_checks, config, store),
            )
            super().__init__(parts)
            # Others can open the same database only if all of it comes from the settings.
            self._shareable = config if keys is None and config.database != _MEMORY else None
            undo.pop_all()

    def _replayed_pages(self, pages: Iterable[list[str]], workers: int) -> Iterator[ReplayedPage]:
        """Share the pages among processes, each with an engine of its own on the same database."""
        if workers == 1 or self._shareable is None:
            yield from super()._replayed_pages(pages, workers)
            return
        config = replace(self._shareable, create=False)
        yield from shared(partial(_replayer, config), pages, workers)

    def worker(
        self,
        stop: threading.Event | None = None,
        on_tick: OnTick | None = None,
        on_begin: Callable[[], object] | None = None,
        on_checkpoint: OnCheckpoint | None = None,
    ) -> TickReport:
        """See `ClockApi.worker`; before anything is due the channels are made ready.

        Raises `InvalidInput` naming the settings that a channel lacks.
        """
        for channel in self._parts.channels.values():
            if isinstance(channel, LazyChannel):
                channel.prepare()
        return super().worker(stop, on_tick, on_begin, on_checkpoint)


def _replayer(config: EngineConfig) -> Callable[[list[str]], ReplayedPage]:
    """What a process that replays for another one does with a page."""
    engine = Engine(config)
    atexit.register(engine.close)
    return engine.replay_page


def _checks(
    config: EngineConfig, store: EventStore, chunks: Iterable[Chunk], workers: int
) -> Generator[ChunkReport, None, None]:
    """Have the log checked by several processes; the others need the database and no key."""
    begin = partial(_checker, replace(config, create=False))
    return helped(begin, ChunkReader(store).check, chunks, workers)


def _checker(config: EngineConfig) -> Callable[[Chunk], ChunkReport]:
    """What a process that verifies for another one does with a chunk."""
    _, store, _ = _open_store(config)
    atexit.register(store.close)
    return ChunkReader(store).check


def _config(database: str | EngineConfig | None) -> EngineConfig:
    if isinstance(database, EngineConfig):
        return database
    if database is not None and not isinstance(database, str):
        raise InvalidInput("database", "must be a URL or an EngineConfig")
    return load_config({"database": database})


def actor_of(config: EngineConfig) -> str:
    """Who acts where a call does not say: as configured, else the operating system's user."""
    return check_actor("actor", current_user() if config.actor is None else config.actor)


def sqlite_path(url: str) -> Path | None:
    """The file of an `sqlite:///` URL; None for another kind of database."""
    return Path(url.removeprefix(_SQLITE)) if url.startswith(_SQLITE) else None


def _open_store(config: EngineConfig) -> tuple[str, EventStore, Views]:
    url = config.database
    if url == _MEMORY:
        from dee_es.adapters.storage.memory import open_memory

        return "memory", *open_memory()
    if url.startswith(_POSTGRES):
        from dee_es.adapters.storage.postgres import open_postgres

        return "postgresql", *open_postgres(url)
    path = sqlite_path(url)
    if path is None or not path.name:
        raise _bad_url()
    if not path.exists() and not config.create:
        raise StoreUnavailable(f"there is no database at {path}; make one with `dee init`")
    from dee_es.adapters.storage.sqlite import open_sqlite

    return "sqlite", *open_sqlite(str(path))


def _bad_url() -> InvalidInput:
    return InvalidInput("database", "must be sqlite:///FILE, postgresql://HOST/NAME or :memory:")


def check_policy_here(definition: object) -> dict[str, Any]:
    """A policy in its stored form, checked with this machine's zones; raises `InvalidInput`."""
    return checked_policy(definition, load_zone)


def is_initialised(config: EngineConfig) -> bool:
    """Whether there is a database that is ready for use; no file is made to find out."""
    path = sqlite_path(config.database)
    if path is not None and not path.exists():
        return False
    _, store, _ = _open_store(config)
    try:
        return bool(_first_entry(store))
    finally:
        store.close()


def keys_url(config: EngineConfig) -> str:
    """Where the contacts' keys are kept: as configured, else a file beside an SQLite database."""
    path = sqlite_path(config.database)
    if config.keys is not None:
        return config.keys
    if not config.database.startswith((_SQLITE, *_POSTGRES)):
        raise _bad_url()
    if path is None:
        raise InvalidInput(
            "keys",
            "with PostgreSQL the contacts' keys are kept elsewhere, so that a stolen database can "
            "be read by nobody: name the place, as in DEE_KEYS=sqlite:///keys.db",
        )
    return f"{_SQLITE}{path.with_name(path.stem + '.keys.db')}"


def master_key_path(config: EngineConfig) -> Path | None:
    """The master key's file: as configured, else beside the keys; None if it is in no file."""
    if config.master_key is not None:
        return None
    if config.master_key_file is not None:
        return Path(config.master_key_file)
    beside = sqlite_path(keys_url(config))
    return None if beside is None else beside.with_name(beside.name.removesuffix(".db") + ".master")


def rotate_keys(
    config: EngineConfig,
    new_key: str | None = None,
    new_file: str | None = None,
    on_progress: OnKeys | None = None,
) -> KeyRotation:
    """Rotate the master key of the key store of these settings; see `engine.keys.rotate`.

    Opens no database, and finishes a rotation that was broken off although the settings still name
    the former master key.
    """
    key = None if new_key is None else parse_master_key(new_key, "new master key")
    tried = TriedHolder(_master_key(config, create=False), key, new_file)
    with closing(_open_keys(config, create=False, holder=tried)) as keys:
        return keys.rotate(new_key, new_file, on_progress)


def restore_keys(
    config: EngineConfig,
    path: str | None,
    master_key_file: str | None = None,
    on_progress: OnKeys | None = None,
) -> KeyRestore:
    """Bring back the keys of a database from a backup, into a key store that may be gone; see
    `engine.keys.restore`. Without a path an empty key store is made if there is none."""
    config = replace(config, create=False)
    if not is_initialised(config):
        raise StoreUnavailable("there is no database; keys are brought back beside theirs")
    secret = None if path is None else secret_in_backup(path, master_key_file)
    keys = _open_keys(config, create=True, new_secret=secret)
    with Engine(config, keys=keys) as engine:
        if path is None:
            return KeyRestore(0, 0, 0)
        return engine.keys.restore(path, master_key_file, on_progress)


def _open_keys(
    config: EngineConfig,
    *,
    create: bool,
    holder: MasterHolder | None = None,
    new_secret: NewSecret | None = None,
) -> ManagedKeyStore:
    if config.database == _MEMORY and config.keys is None:
        return open_memory_keys()
    url = keys_url(config)
    holder = holder or _master_key(config, create=create and new_secret is None)
    if url.startswith(_POSTGRES):
        return open_postgres_keys(url, holder, create=create, new_secret=new_secret)
    key_path = sqlite_path(url)
    if key_path is None or not key_path.name:
        raise InvalidInput("keys", "must be sqlite:///FILE or postgresql://HOST/NAME")
    return open_sqlite_keys(str(key_path), holder, create=create, new_secret=new_secret)


def _master_key(config: EngineConfig, *, create: bool) -> MasterHolder:
    if config.master_key is not None:
        return MemoryHolder(parse_master_key(config.master_key), "DEE_MASTER_KEY")
    path = master_key_path(config)
    if path is None:
        raise InvalidInput(
            "master_key", "give DEE_MASTER_KEY, or name its file with DEE_MASTER_KEY_FILE"
        )
    if create and not path.exists():
        create_master_key(path)
    return FileHolder(path)


def _signers(config: EngineConfig) -> SignerSource:
    if config.database == _MEMORY and config.audit_key_file is None:
        from dee_es.adapters.anchors import MemorySigners

        return MemorySigners()
    return _Signers(config)


class _Signers:
    """A `SignerSource` over the key file of the settings."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._opened: Signer | None = None

    def open(self, name: str, *, create: bool) -> Signer | None:
        """See `SignerSource.open`."""
        if self._opened is None or self._opened.key.name != name:
            from dee_es.adapters.anchors import create_signer, load_signer

            path = signing_key_path(self._config)
            if path is not None and path.exists():
                self._opened = load_signer(path, name)
            elif path is not None and create:
                try:
                    self._opened = create_signer(path, name)
                except InvalidInput:
                    # Another worker may have made it at the same moment.
                    if not path.exists():
                        raise
                    self._opened = load_signer(path, name)
            elif create:
                raise InvalidInput(
                    "audit_key_file",
                    "name a file for the key that signs checkpoints, as in "
                    "DEE_AUDIT_KEY_FILE=audit.key",
                )
            else:
                return None
        return self._opened


def signing_key_path(config: EngineConfig) -> Path | None:
    """The file of the key that signs checkpoints: as configured, else beside an SQLite database."""
    if config.audit_key_file is not None:
        return Path(config.audit_key_file)
    path = sqlite_path(config.database)
    return None if path is None else path.with_name(path.stem + ".audit.key")


def _anchors(config: EngineConfig) -> list[Anchor]:
    if not config.checkpoints:
        return []
    from dee_es.adapters.anchors import open_anchor

    return [open_anchor(place) for place in config.checkpoints.split()]


def _place(url: str) -> Place:
    from dee_es.adapters.places import FilePlace

    return FilePlace(url)


def _channels(config: EngineConfig) -> dict[str, Channel]:
    makers: dict[str, Callable[[], Channel]] = {
        "outbox": lambda: _outbox(config),
        "smtp": lambda: _smtp(config),
        "twilio": lambda: LazyChannel("twilio", ("voice",), lambda: _twilio(config)),
    }
    made: dict[str, Channel] = {}
    for name in (config.email, config.voice):
        if name not in made:
            made[name] = makers[name]()
    return {"email": made[config.email], "voice": made[config.voice]}


def _outbox(config: EngineConfig) -> Channel:
    from dee_es.adapters.channels.outbox import OutboxChannel

    return OutboxChannel(config.outbox)


def _smtp(config: EngineConfig) -> Channel:
    from dee_es.adapters.channels.smtp import SmtpChannel, SmtpSettings

    return SmtpChannel(
        SmtpSettings(
            host=config.smtp_host,
            port=config.smtp_port,
            security=config.smtp_security,
            username=config.smtp_username,
            password=config.smtp_password,
            ca_file=config.smtp_ca_file,
            timeout_s=config.smtp_timeout_s,
            connections=config.max_concurrent_sends,
        )
    )


_TWILIO_NEEDED: Final = (
    "account_sid", "auth_token", "from_number", "callback_url", "callback_secret"
)  # fmt: skip


def _twilio(config: EngineConfig) -> Channel:
    from dee_es.adapters.channels.twilio import ProviderCalls, TwilioChannel

    settings = _twilio_settings(config)
    calls = ProviderCalls(calls_path(config))
    try:
        return TwilioChannel(settings, calls)
    except InvalidInput as error:
        calls.close()
        raise _as_named_here(error) from None


def _twilio_settings(config: EngineConfig) -> TwilioSettings:
    from dee_es.adapters.channels.twilio import TwilioSettings

    names = [each.name for each in fields(TwilioSettings)]
    given = {name: getattr(config, f"twilio_{name}") for name in names}
    missing = [f"twilio_{name}" for name in _TWILIO_NEEDED if not given[name]]
    if missing:
        variables = ", ".join(f"DEE_{name.upper()}" for name in missing)
        raise InvalidInput(", ".join(missing), f"needed for calls and not set; set {variables}")
    try:
        return TwilioSettings(**given)
    except InvalidInput as error:
        raise _as_named_here(error) from None


def _as_named_here(error: InvalidInput) -> InvalidInput:
    """The same fault by the name that the setting has in `EngineConfig`."""
    return InvalidInput(error.field.replace("twilio.", "twilio_"), error.problem)


def calls_path(config: EngineConfig) -> Path:
    """The file of the calls under way: as configured, else beside an SQLite database."""
    if config.twilio_calls is not None:
        return Path(config.twilio_calls)
    path = sqlite_path(config.database)
    if path is None:
        raise InvalidInput(
            "twilio_calls", "name a file for the calls under way, as in DEE_TWILIO_CALLS=calls.db"
        )
    return path.with_name(path.stem + ".calls.db")


def users_path(config: EngineConfig) -> Path:
    """The file of those who may sign in: as configured, else beside an SQLite database, else in
    the working folder."""
    if config.users is not None:
        return Path(config.users)
    path = sqlite_path(config.database)
    return Path("dee.users") if path is None else path.with_name(path.stem + ".users")


def links_of(config: EngineConfig) -> Links | None:
    """Makes and reads the signed links of messages; None if the settings have none.

    Raises `InvalidInput` naming the setting that is missing or not safe.
    """
    if config.public_url is None and config.link_secret is None:
        return None
    if config.public_url is None:
        raise InvalidInput("public_url", "is needed for links; set DEE_PUBLIC_URL")
    if config.link_secret is None:
        raise InvalidInput("link_secret", "is needed to sign links; set DEE_LINK_SECRET")
    return Links(config.public_url, config.link_secret)


@contextmanager
def serve_call_events(
    engine: EngineApi,
    config: EngineConfig,
    host: str,
    port: int,
    on_error: Callable[[Exception], object],
) -> Iterator[int]:
    """Take what Twilio tells and asks about calls, for as long as the block takes; gives the port.

    What is told goes into the log before it is confirmed; what could not be recorded is given to
    `on_error` and told again. Raises `OSError` if the port cannot be had.
    """
    from dee_es.adapters.channels.twilio import CallbackServer

    with (
        open_call_events(engine, config, on_error) as callbacks,
        CallbackServer(callbacks, host, port) as server,
    ):
        yield server.port


@contextmanager
def open_call_events(
    engine: EngineApi, config: EngineConfig, on_error: Callable[[Exception], object]
) -> Iterator[RecordedCallbacks]:
    """What `serve_call_events` serves, for a server of one's own: its `answer` takes a request."""
    from dee_es.adapters.channels.twilio import (
        CallRef,
        ChannelEvent,
        ProviderCalls,
        RecordedCallbacks,
        TwilioCallbacks,
        script_in,
    )

    def script(call: CallRef) -> Mapping[str, Any] | None:
        return script_in(engine.get_events(call.run_id), call)

    def record(event: ChannelEvent) -> None:
        run = engine.get_run(event.run_id)
        engine.ingest_event(
            event.type,
            run.contact_id,
            event.run_id,
            event.step_id,
            event.data,
            event.occurred_at,
            event.event_id,
        )

    with closing(ProviderCalls(calls_path(config))) as calls:
        callbacks = TwilioCallbacks(_twilio_settings(config), calls, script)
        yield RecordedCallbacks(callbacks, record, on_error)


def _first_entry(store: EventStore) -> list[StoredRow]:
    """The first entry of a log, if it has any; raises `IntegrityViolation` if only that is gone."""
    first = store.read_stream(SYSTEM_STREAM, 0, 1)
    if not first and store.log_head().position:
        # A head of the log without one: it may have been made between the two reads.
        first = store.read_stream(SYSTEM_STREAM, 0, 1)
        if not first:
            raise IntegrityViolation(
                f"{SYSTEM_STREAM} entry 1 (position 1) is missing: the log has lost its beginning"
            )
    return first


def _clock_of(
    store: EventStore,
    journal: Journal,
    config: EngineConfig,
    wall: WallClock,
    ids: IdSource,
    actor: str,
) -> ClockStarted:
    """The clock the database was made with; made now if this is its first opening."""
    first = _first_entry(store)
    if not first:
        now = wall.now_ms()
        epoch_ms = now - now % 1000
        if config.epoch is not None:
            epoch_ms = int(config.epoch.timestamp() * 1000)
        event = ClockStarted(epoch_ms, config.resolution_ms, config.clock, config.personal_data)
        meta = Meta(0, ids.command_id(), "init", now, actor)
        sealed = journal.seal(SYSTEM_STREAM, 0, GENESIS, [event], meta, None)
        # Another process may be making it as well; whoever is first has decided.
        store.commit([Unit((StreamAppend(SYSTEM_STREAM, 0, sealed),))])
        first = _first_entry(store)
    started = journal.open(first)[0].event
    assert isinstance(started, ClockStarted), "the system's stream begins with its clock"
    return started

-- What all migrations make of an empty database: a new one gets it in one step. Not written by hand;
-- behind a new migration: CLAWDFORGE_WRITE_SCHEMA=1 cargo test -p clawdforge-store-sql a_new_database

PRAGMA application_id = 0x636c7764;

CREATE TABLE apps (
    id          TEXT    NOT NULL PRIMARY KEY,
    name        TEXT    NOT NULL UNIQUE,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
    id          TEXT    NOT NULL PRIMARY KEY,
    app         TEXT    NOT NULL REFERENCES apps (id),
    hash        BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    ip_cidrs    TEXT    NOT NULL, -- JSON array of address ranges; empty means anywhere
    created_at  INTEGER NOT NULL,
    revoked_at  INTEGER
, network TEXT, tool_servers TEXT) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX tokens_live ON tokens (app) WHERE revoked_at IS NULL;

CREATE TABLE files (
    id          TEXT    NOT NULL PRIMARY KEY,
    app         TEXT    NOT NULL REFERENCES apps (id),
    name        TEXT    NOT NULL,
    size_bytes  INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX files_by_end ON files (expires_at);

CREATE TABLE sessions (
    id          TEXT    NOT NULL PRIMARY KEY,
    app         TEXT    NOT NULL REFERENCES apps (id),
    app_name    TEXT    NOT NULL,
    agent       TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    created_at  INTEGER NOT NULL
, model           TEXT, meta            TEXT, driver          TEXT, on_context_loss TEXT, resume_key      TEXT, link            TEXT, active_at       INTEGER, closed_at       INTEGER, effort TEXT, isolation TEXT, isolation_min TEXT, mode TEXT, system_mode TEXT, tool_servers TEXT, forked_from TEXT, forked_after INTEGER) STRICT, WITHOUT ROWID;

CREATE TABLE turns (
    id          TEXT    NOT NULL PRIMARY KEY,
    session     TEXT    NOT NULL REFERENCES sessions (id),
    place       INTEGER NOT NULL, -- in its session, from 1
    state       TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'ended')),
    request     TEXT    NOT NULL,
    queued_at   INTEGER NOT NULL,
    timeout_us  INTEGER NOT NULL, -- from the start of the agent
    started_at  INTEGER,
    process     TEXT, -- the process tree of a running turn, in the process crate's text form
    ended_at    INTEGER,
    outcome     TEXT, prompt TEXT, cancel_asked_at INTEGER, -- `completed` or the code of the failure; the whole of it is in the last event
    UNIQUE (session, place),
    CHECK ((state = 'ended') = (ended_at IS NOT NULL AND outcome IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX turns_unfinished ON turns (queued_at, id) WHERE ended_at IS NULL;

CREATE INDEX turns_by_end ON turns (ended_at) WHERE ended_at IS NOT NULL;

CREATE UNIQUE INDEX turns_running ON turns (session) WHERE state = 'running';

CREATE TABLE events (
    session     TEXT    NOT NULL REFERENCES sessions (id),
    seq         INTEGER NOT NULL CHECK (seq > 0), -- in its session, from 1, without gaps
    turn        TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    body        TEXT    NOT NULL, -- JSON, tagged by `type`
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger (
    seq                 INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at                  INTEGER NOT NULL,
    kind                TEXT    NOT NULL,
    principal           TEXT    NOT NULL,
    app                 TEXT, -- by name: lines outlive apps
    request_id          TEXT,
    subject             TEXT, -- the run, token or file
    agent               TEXT,
    model_asked         TEXT,
    model_used          TEXT,
    input_tokens        INTEGER,
    output_tokens       INTEGER,
    cache_read_tokens   INTEGER,
    cache_write_tokens  INTEGER,
    cost_usd            REAL,
    prompt_chars        INTEGER,
    answer_chars        INTEGER,
    size_bytes          INTEGER,
    duration_ms         INTEGER,
    outcome             TEXT
, isolation TEXT, count INTEGER) STRICT;

CREATE INDEX ledger_by_app ON ledger (app, seq);

CREATE INDEX ledger_by_kind ON ledger (kind, seq);

CREATE INDEX ledger_by_time ON ledger (at);

CREATE INDEX sessions_of_app ON sessions (app, id) WHERE kind = 'conversation';

CREATE INDEX sessions_by_use ON sessions (active_at) WHERE kind = 'conversation' AND closed_at IS NULL;

CREATE INDEX sessions_by_close ON sessions (closed_at) WHERE closed_at IS NOT NULL;

CREATE INDEX sessions_linked ON sessions (id) WHERE link IS NOT NULL;

CREATE TABLE hosts (
    id          TEXT    NOT NULL PRIMARY KEY,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE agent_users (
    app     TEXT    NOT NULL PRIMARY KEY REFERENCES apps (id),
    number  INTEGER NOT NULL UNIQUE
) STRICT, WITHOUT ROWID;

CREATE INDEX runs_of_app ON sessions (app, id) WHERE kind = 'run';

CREATE TABLE idempotency_keys (
    app          TEXT    NOT NULL REFERENCES apps (id),
    key          TEXT    NOT NULL,
    fingerprint  BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    subject      TEXT    NOT NULL, -- the run, session or turn that was made, in its shown form
    at           INTEGER NOT NULL,
    PRIMARY KEY (app, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (at);

CREATE TABLE equipment (
    session TEXT NOT NULL PRIMARY KEY REFERENCES sessions (id),
    system  TEXT -- text for the system prompt; NULL where there is none
, tool_servers TEXT) STRICT;

-- The first schema: apps and their tokens, uploads, sessions with turns and events, the ledger.
--
-- Ids are kept in their shown form (`ses_…`), so that an operator can read and paste them. Times are
-- whole microseconds since 1970, in UTC. `state`, `kind` and `outcome` hold the stable names of the
-- code. This file is never changed; the next change is the next file.

-- 'clwd': by this SQLite and `file` tell our databases from others.
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
) STRICT, WITHOUT ROWID;

-- An app has at most one live token, whoever mints at the same time.
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
) STRICT, WITHOUT ROWID;

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
    outcome     TEXT, -- `completed` or the code of the failure; the whole of it is in the last event
    UNIQUE (session, place),
    CHECK ((state = 'ended') = (ended_at IS NOT NULL AND outcome IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- Recovery reads these at every start, however many turns there are.
CREATE INDEX turns_unfinished ON turns (queued_at, id) WHERE ended_at IS NULL;
CREATE INDEX turns_by_end ON turns (ended_at) WHERE ended_at IS NOT NULL;

-- A session works on one turn at a time.
CREATE UNIQUE INDEX turns_running ON turns (session) WHERE state = 'running';

-- Without a row id the events of a session lie together, however many sessions write at once:
-- measured with 63 sessions, reading one is 3 times and erasing one 8 times as fast. The price: a
-- body over a quarter of a page takes a page of its own.
CREATE TABLE events (
    session     TEXT    NOT NULL REFERENCES sessions (id),
    seq         INTEGER NOT NULL CHECK (seq > 0), -- in its session, from 1, without gaps
    turn        TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    body        TEXT    NOT NULL, -- JSON, tagged by `type`
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;

-- AUTOINCREMENT, so that a number is never used again, even after the newest lines were trimmed.
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
) STRICT;

CREATE INDEX ledger_by_app ON ledger (app, seq);
CREATE INDEX ledger_by_kind ON ledger (kind, seq);
CREATE INDEX ledger_by_time ON ledger (at);

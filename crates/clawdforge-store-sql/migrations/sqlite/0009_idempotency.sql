-- Requests that may be sent again: what came of each, for a day.

CREATE TABLE idempotency_keys (
    app          TEXT    NOT NULL REFERENCES apps (id),
    key          TEXT    NOT NULL,
    fingerprint  BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    subject      TEXT    NOT NULL, -- the run, session or turn that was made, in its shown form
    at           INTEGER NOT NULL,
    PRIMARY KEY (app, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (at);

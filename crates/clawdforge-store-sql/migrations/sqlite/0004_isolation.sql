-- Isolation: how well agents were kept apart, and the users they run as.

ALTER TABLE sessions ADD COLUMN isolation TEXT; -- the level when it was opened; NULL before there were levels
ALTER TABLE ledger   ADD COLUMN isolation TEXT; -- the level an agent ran at; NULL in lines about no agent

-- A number is given once and never again: files of its user may be left anywhere.
CREATE TABLE agent_users (
    app     TEXT    NOT NULL PRIMARY KEY REFERENCES apps (id),
    number  INTEGER NOT NULL UNIQUE
) STRICT, WITHOUT ROWID;

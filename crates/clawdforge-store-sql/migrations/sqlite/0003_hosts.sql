-- Agent processes that conversations share or that wait for their first one, from before they start until they
-- are gone: after a crash they are found by their mark, which is the id.

CREATE TABLE hosts (
    id          TEXT    NOT NULL PRIMARY KEY,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE sessions ADD COLUMN effort TEXT; -- NULL leaves it to the agent

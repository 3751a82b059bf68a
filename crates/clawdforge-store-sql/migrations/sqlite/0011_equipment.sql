-- What the agent of a conversation is given at each beginning. Apart from the session, because it is large and no list wants it.

CREATE TABLE equipment (
    session TEXT NOT NULL PRIMARY KEY REFERENCES sessions (id),
    system  TEXT -- text for the system prompt; NULL where there is none
) STRICT;

ALTER TABLE sessions ADD COLUMN system_mode TEXT; -- what becomes of the agent's own system prompt; NULL where there is no text for it

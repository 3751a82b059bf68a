-- Conversations: sessions with many turns, which may be warm, closed, and gone on with.

ALTER TABLE sessions ADD COLUMN model           TEXT; -- the agent's name for it; NULL leaves it to the agent
ALTER TABLE sessions ADD COLUMN meta            TEXT; -- the caller's JSON object
ALTER TABLE sessions ADD COLUMN driver          TEXT;
ALTER TABLE sessions ADD COLUMN on_context_loss TEXT;
ALTER TABLE sessions ADD COLUMN resume_key      TEXT; -- the agent's own id of the conversation
ALTER TABLE sessions ADD COLUMN link            TEXT; -- the process tree of a warm one, in the process crate's text form
ALTER TABLE sessions ADD COLUMN active_at       INTEGER; -- when it was opened, or a turn was accepted or ended
ALTER TABLE sessions ADD COLUMN closed_at       INTEGER;

CREATE INDEX sessions_of_app ON sessions (app, id) WHERE kind = 'conversation';
CREATE INDEX sessions_by_use ON sessions (active_at) WHERE kind = 'conversation' AND closed_at IS NULL;
CREATE INDEX sessions_by_close ON sessions (closed_at) WHERE closed_at IS NOT NULL;
CREATE INDEX sessions_linked ON sessions (id) WHERE link IS NOT NULL;

-- The prompt of a conversation's turn until it starts, JSON as in `events.body`: the log has it afterwards.
ALTER TABLE turns ADD COLUMN prompt TEXT;

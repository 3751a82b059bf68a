-- The caller of a conversation may choose the mode its agent works in.

ALTER TABLE sessions ADD COLUMN mode TEXT; -- the agent's name for it; NULL takes the one for unattended work

-- A conversation may begin as the fork of another one: which one, and the place of its last turn then. The other one may
-- be erased earlier, so it is no reference.
ALTER TABLE sessions ADD COLUMN forked_from TEXT;
ALTER TABLE sessions ADD COLUMN forked_after INTEGER;

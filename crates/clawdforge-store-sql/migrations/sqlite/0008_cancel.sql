-- A turn may be stopped by its app, also before it begins: that must hold over a restart.

ALTER TABLE turns ADD COLUMN cancel_asked_at INTEGER; -- NULL where nobody asked
CREATE INDEX runs_of_app ON sessions (app, id) WHERE kind = 'run';

-- Tool servers that the caller of a conversation gives its agent, and whether an app may.

ALTER TABLE equipment ADD COLUMN tool_servers TEXT; -- JSON with secrets in it; NULL where there are none
ALTER TABLE sessions ADD COLUMN tool_servers TEXT; -- the names of those, a JSON list; NULL where there are none
ALTER TABLE tokens ADD COLUMN tool_servers TEXT; -- 'none' where the app's sessions are given none; NULL is any

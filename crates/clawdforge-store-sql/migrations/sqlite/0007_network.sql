-- Network rules: what the agents of an app may reach.

ALTER TABLE tokens ADD COLUMN network TEXT; -- JSON: a word, or a list of hosts with ports; NULL where the token says nothing

-- The caller of a conversation may demand a level, which later starts of the service must keep to as well.

ALTER TABLE sessions ADD COLUMN isolation_min TEXT; -- the weakest level for its agents; NULL takes what there is

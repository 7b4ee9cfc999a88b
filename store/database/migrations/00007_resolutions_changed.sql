-- +goose Up
-- Gateways read what has changed since they looked. Row 3: up to which version
-- rows of forgotten names, whose found is empty, are deleted, and when that was.
CREATE INDEX resolutions_version ON resolutions (version);
INSERT INTO resolution_turns (id, version, taken_at) VALUES (3, 0, 0);

-- +goose Down
DELETE FROM resolution_turns WHERE id = 3;
DROP INDEX resolutions_version;

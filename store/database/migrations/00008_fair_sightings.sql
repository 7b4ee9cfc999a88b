-- +goose Up
-- Whose route was refused: over the bound, whoever has most loses first.
ALTER TABLE denials ADD COLUMN owner TEXT NOT NULL DEFAULT '';
-- The newest decision of refusals that are the same.
ALTER TABLE sightings ADD COLUMN decision_id TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE sightings DROP COLUMN decision_id;
ALTER TABLE denials DROP COLUMN owner;

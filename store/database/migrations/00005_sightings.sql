-- +goose Up
-- Who called, with what outcome. A row without a reason counts all of a caller's
-- requests with an outcome; one with a reason counts refusals that are the same.
CREATE TABLE sightings (
    binding_id TEXT   NOT NULL REFERENCES bindings (id) ON DELETE CASCADE,
    app        TEXT   NOT NULL,
    outcome    TEXT   NOT NULL,
    reason     TEXT   NOT NULL,
    method     TEXT   NOT NULL,
    path       TEXT   NOT NULL,
    space      TEXT   NOT NULL,
    org        TEXT   NOT NULL,
    times      BIGINT NOT NULL,
    first_at   BIGINT NOT NULL,
    last_at    BIGINT NOT NULL,
    PRIMARY KEY (binding_id, app, outcome, reason, method, path)
);
CREATE INDEX sightings_app ON sightings (app, last_at);
CREATE INDEX sightings_space ON sightings (space, last_at);

-- The newest refusals, with what explains them.
CREATE TABLE denials (
    decision_id TEXT PRIMARY KEY,
    made_at     BIGINT NOT NULL,
    binding_id  TEXT   NOT NULL,
    app         TEXT   NOT NULL,
    content     TEXT   NOT NULL
);
CREATE INDEX denials_made_at ON denials (made_at);
CREATE INDEX denials_binding_id ON denials (binding_id, app, made_at);

-- +goose Down
DROP TABLE denials;
DROP TABLE sightings;

-- +goose Up
CREATE TABLE counter (
    id       BIGINT PRIMARY KEY CHECK (id = 1),
    revision BIGINT NOT NULL
);
INSERT INTO counter (id, revision) VALUES (1, 0);

CREATE TABLE instances (
    id         TEXT PRIMARY KEY,
    plan_id    TEXT   NOT NULL,
    plan_scope TEXT   NOT NULL,
    org        TEXT   NOT NULL,
    space      TEXT   NOT NULL,
    parameters TEXT   NOT NULL,
    revision   BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT   NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT   NOT NULL
);

CREATE TABLE bindings (
    id          TEXT PRIMARY KEY,
    instance_id TEXT   NOT NULL REFERENCES instances (id),
    route       TEXT   NOT NULL,
    parameters  TEXT   NOT NULL,
    url         TEXT   NOT NULL,
    revision    BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    created_by  TEXT   NOT NULL
);
CREATE INDEX bindings_instance_id ON bindings (instance_id);
CREATE INDEX bindings_route ON bindings (route);

CREATE TABLE keys (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- +goose Down
DROP TABLE keys;
DROP TABLE bindings;
DROP TABLE instances;
DROP TABLE counter;

-- +goose Up
CREATE TABLE tombstones (
    kind       TEXT   NOT NULL,
    id         TEXT   NOT NULL,
    revision   BIGINT NOT NULL,
    deleted_at BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX tombstones_revision ON tombstones (revision);
CREATE INDEX tombstones_deleted_at ON tombstones (deleted_at);

-- Every revision that commits has a row here at least, all of one instance:
-- other processes follow the changes by it.
CREATE TABLE audit (
    revision         BIGINT NOT NULL,
    part             BIGINT NOT NULL,
    made_at          BIGINT NOT NULL,
    action           TEXT   NOT NULL,
    kind             TEXT   NOT NULL,
    id               TEXT   NOT NULL,
    instance_id      TEXT   NOT NULL,
    made_by          TEXT   NOT NULL,
    request_id       TEXT   NOT NULL,
    request_identity TEXT   NOT NULL,
    content_before   TEXT   NOT NULL,
    content_after    TEXT   NOT NULL,
    PRIMARY KEY (revision, part)
);
CREATE INDEX audit_id ON audit (id, revision);
CREATE INDEX audit_instance_id ON audit (instance_id, revision);

-- +goose Down
DROP TABLE audit;
DROP TABLE tombstones;

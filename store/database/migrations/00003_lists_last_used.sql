-- +goose Up
CREATE TABLE last_used (
    binding_id TEXT PRIMARY KEY REFERENCES bindings (id) ON DELETE CASCADE,
    used_at    BIGINT NOT NULL
);

CREATE INDEX instances_created_at ON instances (created_at, id);
CREATE INDEX instances_org ON instances (org);
CREATE INDEX instances_space ON instances (space);
CREATE INDEX bindings_created_at ON bindings (created_at, id);
CREATE INDEX audit_made_at ON audit (made_at);
CREATE INDEX audit_made_by ON audit (made_by, revision);

-- +goose Down
DROP INDEX audit_made_by;
DROP INDEX audit_made_at;
DROP INDEX bindings_created_at;
DROP INDEX instances_space;
DROP INDEX instances_org;
DROP INDEX instances_created_at;
DROP TABLE last_used;

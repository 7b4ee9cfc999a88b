-- +goose Up
-- What sources by name stand for, so that all gateways decide alike and a restart
-- needs no Cloud Controller. id is a digest of the reference.
CREATE TABLE resolutions (
    id        TEXT   NOT NULL PRIMARY KEY,
    reference TEXT   NOT NULL,
    found     TEXT   NOT NULL,
    version   BIGINT NOT NULL
);
-- Who looks names up next, and (in row 0) the version of the newest row.
CREATE TABLE resolution_turns (
    id       INTEGER NOT NULL PRIMARY KEY,
    version  BIGINT  NOT NULL,
    taken_at BIGINT  NOT NULL
);
INSERT INTO resolution_turns (id, version, taken_at) VALUES (0, 0, 0), (1, 0, 0), (2, 0, 0);

-- +goose Down
DROP TABLE resolution_turns;
DROP TABLE resolutions;

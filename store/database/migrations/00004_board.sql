-- +goose Up
-- What gateways tell one another: each fact until its time is over.
CREATE TABLE board (
    kind    TEXT   NOT NULL,
    name    TEXT   NOT NULL,
    value   TEXT   NOT NULL,
    made_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
);
CREATE INDEX board_ends_at ON board (ends_at);

-- +goose Down
DROP TABLE board;

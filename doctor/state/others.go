package state

import (
	"context"
	"time"

	"github.com/mtls-authz/mtls-authz/store/board"
	"github.com/mtls-authz/mtls-authz/store/sightings"
)

// timeout bounds each reading.
const timeout = 5 * time.Second

// Board is where gateways tell one another what they have found; here nothing is
// told.
type Board struct{ *board.Board }

// Post does nothing.
func (Board) Post(context.Context, string, ...board.Note) error { return nil }

// Board reads what gateways have told.
func (s *State) Board() Board {
	return Board{board.New(s.db, board.Config{Timeout: timeout, Turn: make(chan struct{}, 1), Now: time.Now})}
}

// Sightings are who called, as gateways have noted it; here nothing is noted.
func (s *State) Sightings() *sightings.Sightings {
	return sightings.New(s.db, sightings.Config{Timeout: timeout, Interval: time.Minute, Turn: make(chan struct{}, 1)})
}

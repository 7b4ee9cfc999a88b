// Package sightings is who called, with what outcome: for each binding its last
// callers with counts, and the newest refusals with what explains them. Gateways
// note what they decide in memory; in batches it comes to the database, where all
// of them read it.
//
// It is for people: nothing is decided by it. Everything is bounded, in memory and
// in the database, for each caller, for each binding, for each owner of routes and
// in all: of each bound, the newest stay. So whoever sends many requests takes the
// place of his own, and an owner of many routes that of his own: where all is too
// much, the owners with the most lose first. In memory one owner gets at most half
// of what is kept between two writes, and a tenth once that is taken; what is too
// much is counted and dropped.
// It trusts its callers to name as caller only who was verified, and to keep
// secrets out: no query, no header comes here.
package sightings

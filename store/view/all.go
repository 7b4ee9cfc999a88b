package view

import "github.com/mtls-authz/mtls-authz/grants"

// All calls yield with what applies to each binding, in no order, until it
// returns false. It takes no lock: what changes meanwhile may be in it or not.
func (v *View) All(yield func(*grants.Access) bool) {
	v.access.Range(func(_, access any) bool { return yield(access.(*grants.Access)) })
}

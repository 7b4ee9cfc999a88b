// Package cache remembers decisions: it is a decider in front of the policy,
// with a tier in memory and one in Redis that all instances share.
//
// A key holds what the decision depends on and nothing else: the policy, the
// binding with its unexpired grants, and the parts of the request that the
// compiled policy can read for such grants. The tier in memory makes the speed;
// Redis serves policies that cost more than asking it.
//
// It trusts nothing that it reads back from Redis: every entry is bound to its
// key and its end by a MAC, and what does not verify is a miss. Redis is never
// an authority; without it, or with a slow one, decisions cost time only. It
// fails closed: errors are not remembered, an entry never outlives a grant that
// it may rest on, and Go confirms every remembered allow against the grants.
package cache

// Package activation keeps the policy in force: it follows the source of the
// operator's bundle, takes what comes through the gate, and swaps a good policy
// for the one before, at once for all later requests.
//
// It trusts neither the source nor the folder where it keeps the last good
// bundle. It fails towards what is in force: a bundle that is refused, or a
// source that is away, changes nothing. Before a first good bundle there is no
// policy, which denies; never the built-in one in place of what is configured.
package activation

// Package changes tells which recorded requests two policies decide in different
// ways, and groups them by what that means.
//
// It reads requests one by one and keeps counts and a few examples, whatever the
// number of requests. It trusts no line of what it reads. It fails loudly: what
// one of the policies reads and was not recorded is unknown, a line that cannot be
// read is unreadable, and neither is ever counted as unchanged.
package changes

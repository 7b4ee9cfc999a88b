// Package bundle reads the operator's bundle: Rego and data, from a directory
// or a .tar.gz archive, signed or not.
//
// It trusts nothing of what it reads. Sizes are bounded before anything is
// unpacked, and nothing is passed over that could have been a check: links,
// special files, names that OPA would skip, and files that a signature does not
// cover are refused. It fails closed: there is a whole [Bundle], or an error
// that lists what is wrong, with file and line.
package bundle

// Package census asks lists of Cloud Controller about places: which names are borne
// by what in an org or in a space. It asks few questions for many names, and what
// cannot be told of one place does not keep the others from being told.
//
// It trusts an answer for what is in it and not for being what was asked for: what
// it finds is filed under where it says that it is. It fails by not knowing.
package census

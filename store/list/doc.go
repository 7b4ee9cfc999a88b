// Package list reads the state in pages, as people and their tools look at it:
// instances, bound routes, the audit.
//
// It trusts no filter: values are parameters of a query and never text in it,
// and one that nothing has selects nothing. What is damaged is left out and
// named in the error; the rest of the page is returned with it.
package list

// Package explain says why a request was decided as it was, for the author of a
// policy: which grants match and why others do not, and at which condition each
// rule of a check that denies came to its end, with the values that it saw.
//
// It decides nothing and is never asked on the way of a request. It evaluates
// again, step by step, and boils what happened down to the rules that an author
// wrote. What it cannot tell it leaves out.
package explain

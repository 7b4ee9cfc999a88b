package rego

// DecisionOf is where results of the evaluator become a decision; the built-in
// policy gives no malformed ones to try it with.
var DecisionOf = decisionOf

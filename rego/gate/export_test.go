package gate

// AllowedBuiltins is the list that the tests hold against all that OPA has.
var AllowedBuiltins = allowedBuiltins

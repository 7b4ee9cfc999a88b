// Package policies is the Rego that ships with the gateway, as a file system:
// the decision that every request passes, and the place where the operator's
// checks are composed into it. The package trusts nothing and decides nothing
// by itself; package rego compiles it, and Go confirms what it allows.
package policies

import "embed"

// Files holds the built-in bundle without its tests. mtls/site.rego is the
// composition of no checks at all; package rego replaces it where the operator
// configured a bundle.
//
//go:embed mtls/authz.rego mtls/site.rego schemas/input.json schemas/grants.json
var Files embed.FS

// InputSchema is the path in Files of the JSON schema of the input. It is closed:
// a check that reads what is not there does not compile.
const InputSchema = "schemas/input.json"

// GrantsSchema is the path in Files of the JSON schema of the operator's grants,
// data.site.grants.
const GrantsSchema = "schemas/grants.json"

// SiteModule is the path in Files that composes the operator's checks.
const SiteModule = "mtls/site.rego"

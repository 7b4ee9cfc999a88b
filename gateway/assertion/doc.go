// Package assertion signs the caller assertion: the header by which an app can
// tell that the gateway allowed a request and that it did not go around. It makes
// the keys, rotates them and publishes their public halves. What is signed and
// how, and how apps verify it, is package callerassertion.
//
// The keys come from seeds in the store, one for each period by its name, so that
// all gateways that share a store sign with the same key and publish the same
// keys, without talking to each other. The package trusts the store and the clock.
// It fails closed: without the key of the present period nothing is signed, and
// the caller must not send the request on.
package assertion

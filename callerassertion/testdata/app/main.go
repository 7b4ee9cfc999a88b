package main

import (
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/mtls-authz/mtls-authz/callerassertion"
)

func main() {
	verifier, err := callerassertion.New(callerassertion.Config{
		Gateway: os.Getenv("GATEWAY_URL"),          // https://mtls-authz.apps.example.com
		Hosts:   []string{"backend.apps.identity"}, // of this app's bound routes
		Refused: func(_ *http.Request, err error) { log.Print(err) },
	})
	if err != nil {
		log.Fatal(err)
	}
	hello := func(w http.ResponseWriter, r *http.Request) {
		caller, _ := callerassertion.FromContext(r.Context())
		fmt.Fprintln(w, "hello, app", caller.CallerApp)
	}
	http.Handle("/", verifier.Middleware(http.HandlerFunc(hello)))
	log.Fatal(http.ListenAndServe(":"+os.Getenv("PORT"), nil))
}

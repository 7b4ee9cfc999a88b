package osb

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"code.cloudfoundry.org/brokerapi/v13/domain"
)

// MaxBody is the most that a request may have, in bytes.
const MaxBody = 1 << 20

// checkBody accepts the body of a PUT or PATCH that is one JSON object of the
// types that OSB demands, and puts it back for brokerapi. Other requests have
// none: brokerapi would read a form of any size from a DELETE.
func checkBody(r *http.Request) error {
	if r.Method != http.MethodPut && r.Method != http.MethodPatch {
		r.Body = http.NoBody
		return nil
	}
	if given := r.Header.Get("Content-Type"); given != "" {
		if media, _, err := mime.ParseMediaType(given); err != nil || media != "application/json" {
			return fmt.Errorf("content type %.64q: expected application/json", given)
		}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	switch {
	case err != nil:
		return errors.New("the body could not be read")
	case len(body) > MaxBody:
		return fmt.Errorf("the body has more than %d bytes", MaxBody)
	}
	if err := checkObject(body, r); err != nil {
		return err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

func checkObject(body []byte, r *http.Request) error {
	var members struct {
		Parameters  json.RawMessage `json:"parameters"`
		Predecessor json.RawMessage `json:"predecessor_binding_id"`
	}
	if first := bytes.TrimLeft(body, " \t\r\n"); len(first) == 0 || first[0] != '{' || json.Unmarshal(body, &members) != nil {
		return errors.New("the body is not one JSON object")
	}
	if p := members.Parameters; len(p) > 0 && p[0] != '{' && string(p) != "null" {
		return errors.New("parameters: expected a JSON object")
	}
	if p := members.Predecessor; binds(r) && len(p) > 0 && string(p) != "null" {
		return errors.New("predecessor_binding_id: bindings of this service cannot be rotated; bind the route anew")
	}
	var mismatch *json.UnmarshalTypeError
	if err := json.Unmarshal(body, details(r)); errors.As(err, &mismatch) {
		found, _, _ := strings.Cut(mismatch.Value, " ") // "number", without the number
		return fmt.Errorf("%.64s: expected %s, found a JSON %s", mismatch.Field, jsonType(mismatch), found)
	} else if err != nil {
		return errors.New("the body is not of the form that the Open Service Broker API demands")
	}
	return nil
}

// details is what brokerapi will decode the body into.
func details(r *http.Request) any {
	switch {
	case r.Method == http.MethodPatch:
		return &domain.UpdateDetails{}
	case binds(r):
		return &domain.BindDetails{}
	}
	return &domain.ProvisionDetails{}
}

func binds(r *http.Request) bool { return strings.Contains(r.URL.Path, "/service_bindings/") }

func jsonType(mismatch *json.UnmarshalTypeError) string {
	switch mismatch.Type.Kind().String() {
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	}
	return "an object"
}

package osb

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"

	"code.cloudfoundry.org/brokerapi/v13/domain/apiresponses"
)

// Refuse is an error with its status; the text is one line for the developer.
func Refuse(status int, format string, args ...any) error {
	return apiresponses.NewFailureResponse(fmt.Errorf(format, args...), status, "refused")
}

// BadRequest is a 400: never 422, after which Cloud Controller deletes.
func BadRequest(format string, args ...any) error {
	return Refuse(http.StatusBadRequest, format, args...)
}

// NotFound is the 404 of a thing that the request names.
func NotFound(what, id string) error {
	return Refuse(http.StatusNotFound, "%s %.128q does not exist in this broker", what, id)
}

// idGrammar are ids as Cloud Controller makes them and OSB recommends them.
var idGrammar = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~-]{0,127}$`)

// CheckIDs refuses the id of an instance or binding that is not plain in a URL.
func CheckIDs(ids ...string) error {
	for _, id := range ids {
		if !idGrammar.MatchString(id) {
			return BadRequest("id %.128q: expected 1 to 128 letters, digits or any of . _ ~ -", id)
		}
	}
	return nil
}

// CheckContext refuses the context of a request that names another org or
// space than these. It may name none.
func CheckContext(raw json.RawMessage, org, space string) error {
	if len(raw) == 0 {
		return nil
	}
	var named struct {
		Org   string `json:"organization_guid"`
		Space string `json:"space_guid"`
	}
	if err := json.Unmarshal(raw, &named); err != nil {
		return BadRequest("context: expected an object with organization_guid and space_guid as strings")
	}
	if named.Org != "" && named.Org != org || named.Space != "" && named.Space != space {
		return BadRequest("context: organization_guid and space_guid are not those of the service instance")
	}
	return nil
}

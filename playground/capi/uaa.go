package capi

import (
	"net/http"
	"strings"
	"time"
)

// token is UAA's client credentials grant, and that of a user's password.
func (c *Cloud) token(w http.ResponseWriter, r *http.Request) {
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var to bearer
	known := false
	switch r.PostFormValue("grant_type") {
	case "client_credentials":
		want, there := c.clients[id]
		to, known = bearer{client: id}, there && want == secret
	case "password":
		user, there := c.users[r.PostFormValue("username")]
		to, known = bearer{user: user.id}, there && user.password == r.PostFormValue("password")
	case "refresh_token":
		to, known = c.tokens[r.PostFormValue("refresh_token")]
	}
	if !known {
		answer(w, http.StatusUnauthorized, object{"error": "invalid_client", "error_description": "Bad credentials"})
		return
	}
	body := object{
		"access_token": c.issue(to), "token_type": "bearer", "expires_in": int(c.life.Seconds()),
		"scope": c.scope, "jti": "b9b0d5b9f1d94c6f8f9d0a5d3f1a7c55",
	}
	if to.user != "" {
		body["refresh_token"], body["scope"] = c.issue(to), "openid cloud_controller.read cloud_controller.write"
	}
	answer(w, http.StatusOK, body)
}

// prompts are what cf login asks for.
func (c *Cloud) prompts(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, object{
		"app": object{"version": "77.0.0"}, "prompts": object{"username": []string{"text", "Email"}, "password": []string{"password", "Password"}},
		"links": object{"uaa": "https://" + r.Host, "login": "https://" + r.Host}, "zone_name": "uaa", "entityID": r.Host,
	})
}

func tokenOf(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return token
}

// bearer is who calls; it answers 401 if that is nobody.
func (c *Cloud) bearer(w http.ResponseWriter, r *http.Request) (bearer, bool) {
	who, ok := c.tokens[tokenOf(r)]
	if !ok || time.Now().After(who.ends) {
		refuse(w, http.StatusUnauthorized, "")
		return bearer{}, false
	}
	return who, true
}

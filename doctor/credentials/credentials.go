// Package credentials examines the passwords of the gateway: whether somebody could
// guess one, and whether one opens more than it should.
//
// It sees secrets, and shows none of them, nor how long one is that is long enough.
package credentials

import (
	"context"
	"fmt"
	"strings"

	"github.com/mtls-authz/mtls-authz/doctor"
)

// Config configures [Checks]; all of it may be empty.
type Config struct {
	// Username, Password and Previous are the broker's.
	Username, Password, Previous string
	// ReadUsername and ReadPassword are the reader's.
	ReadUsername, ReadPassword string
	// MACKey is CACHE_MAC_KEY.
	MACKey string
}

// Checks are those of this package.
func Checks(cfg Config) []doctor.Check {
	return []doctor.Check{{Item: "credentials", Look: cfg.look}}
}

const make16 = "make one with: openssl rand -hex 16"

func (cfg Config) look(context.Context) []doctor.Finding {
	found := []doctor.Finding{cfg.broker(), cfg.reader()}
	if cfg.Previous != "" {
		found = append(found, doctor.Doubtful("BROKER_PASSWORD_PREVIOUS", "it is set: a second password opens the broker", "unset it when the rotation is over: cf update-service-broker has told Cloud Controller the new one"))
	}
	if cfg.MACKey != "" {
		found = append(found, cfg.macKey())
	}
	return found
}

func (cfg Config) broker() doctor.Finding {
	const about = "BROKER_PASSWORD"
	if why := weakness(cfg.Password, cfg.Username); why != "" {
		return doctor.Bad(about, why+": whoever guesses it changes who may call any route", make16)
	}
	return doctor.Good(about, "not easily guessed")
}

func (cfg Config) reader() doctor.Finding {
	const about = "READ_PASSWORD"
	switch cfg.ReadPassword {
	case "":
		return doctor.Unknown(about, "not set: monitors need the broker's password to read", "set READ_USERNAME and READ_PASSWORD, so that who reads cannot change")
	case cfg.Password, cfg.Previous:
		return doctor.Bad(about, "it is the broker's: who may read may change", make16)
	}
	if why := weakness(cfg.ReadPassword, cfg.ReadUsername); why != "" {
		return doctor.Bad(about, why+": whoever guesses it reads who may call what", make16)
	}
	return doctor.Good(about, "not easily guessed, and not the broker's")
}

func (cfg Config) macKey() doctor.Finding {
	const about = "CACHE_MAC_KEY"
	const fix = "unset it: then a random one is kept in the store"
	if cfg.MACKey == cfg.Password || cfg.MACKey == cfg.Previous || cfg.MACKey == cfg.ReadPassword {
		return doctor.Bad(about, "it is a password, too", fix)
	}
	if why := weakness(cfg.MACKey, ""); why != "" {
		return doctor.Bad(about, why+": whoever guesses it and reaches Redis forges decisions", fix)
	}
	return doctor.Good(about, "not easily guessed")
}

const (
	// leastLength is how many characters must remain when all that is obvious is
	// taken out; leastDifferent how many different ones.
	leastLength, leastDifferent = 12, 8
	// given is the least length of a password.
	given = 16
)

// obvious are words that people and manuals use, as they are after [flattened].
var obvious = []string{
	"mtls-authz", "mtlsauthz", "mtls", "authz", "password", "passphrase", "passwort", "secret", "changeme", "change-me", "changeit", "default", "example",
	"letmein", "welcome", "admin", "broker", "gateway", "cloudfoundry", "cloud-controller", "cloudcontroller", "foundry", "service", "operator", "reader", "monitoring",
	"qwertyuiop", "qwerty", "asdfgh", "abcdefghijklmnop", "abcdef", "0123456789", "1234567890", "123456", "987654321", "test", "this-is", "thisis", "please", "correct", "horse", "battery", "staple",
}

// flattened reads usual replacements of letters as the letters.
var flattened = strings.NewReplacer("@", "a", "4", "a", "$", "s", "5", "s", "0", "o", "1", "i", "!", "i", "3", "e", "7", "t")

// weakness is why a password may be guessed, "" if nothing speaks for it.
func weakness(password, username string) string {
	lower := strings.ToLower(password)
	different := map[rune]bool{}
	for _, r := range lower {
		different[r] = true
	}
	words := obvious
	if len(username) > 2 {
		words = append([]string{strings.ToLower(username)}, obvious...)
	}
	switch {
	case len(password) < given:
		return fmt.Sprintf("it has less than %d characters", given)
	case len(different) < leastDifferent:
		return "it has few different characters"
	case repeats(lower):
		return "it repeats itself"
	case len(without(lower, words)) < leastLength || len(without(flattened.Replace(lower), words)) < leastLength:
		return "it is made of obvious words"
	}
	return ""
}

// without takes the words out of a text, and what is between them.
func without(text string, words []string) string {
	for _, word := range words {
		text = strings.ReplaceAll(text, word, " ")
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -_.,:;!?*", r) {
			return -1
		}
		return r
	}, text)
}

// repeats reports whether a text is one part again and again.
func repeats(text string) bool {
	return len(text) > 0 && strings.Contains((text + text)[1:2*len(text)-1], text)
}

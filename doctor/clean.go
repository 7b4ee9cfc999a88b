package doctor

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

const (
	// shortest is the shortest secret that is looked for: a shorter one is a part
	// of ordinary words.
	shortest = 6
	// maxText bounds a text, in bytes: it may come from anybody who answered.
	maxText = 2 << 10
)

// cleaner returns what makes a text fit to be shown: without the secrets, however
// a URL may have written them, and without what a terminal would act on.
func cleaner(secrets []string) func(string) string {
	var forms []string
	for _, secret := range secrets {
		if len(secret) >= shortest {
			forms = append(forms, secret, url.QueryEscape(secret), url.PathEscape(secret), url.UserPassword("", secret).String()[1:])
		}
	}
	// The longest first: one secret may be a part of another.
	slices.SortFunc(forms, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	var pairs []string
	for _, form := range slices.Compact(forms) {
		pairs = append(pairs, form, "(hidden)")
	}
	hide := strings.NewReplacer(pairs...)
	return func(text string) string {
		text = strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) {
				return r
			}
			return ' '
		}, hide.Replace(text))
		if len(text) > maxText {
			text = strings.ToValidUTF8(text[:maxText], "") + " ..."
		}
		return text
	}
}

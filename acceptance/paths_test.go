package acceptance_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// What was decided on is what the app gets.
func TestTargetsArriveByteForByte(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	for _, target := range []string{
		"/", "/?", "/?a", "/a?", "/a?b=c&b=d&&", "/a?q=a+b%20c", "/a?%zz", "/a?x=//y/../z", `/a?q="<>\^{|}`, "/a?a?b", "/a;b?c;d",
		"/a%2Fb", "/a%2fb", "/a;v=1;w", "/a//b", "/a///", "/a%20b", "/a+b", "/%41", "/%7Euser", "/~user", "/caf%C3%A9", "/%e2%82%ac",
		"/!$&'()*+,;=:@", "/-._~", "/a.b", "/...", "/.hidden", "/a..b", "/%2e%2e%2e", "/:80", "/@host", "/http://other.example.com/",
		"/a%25", "/100%25", "/" + strings.Repeat("long/", 200),
	} {
		r := p.raw(t, "frontend", "GET "+target)
		if assert.Equal(t, "200 allowed", r.outcome(), target) {
			assert.Equal(t, target, p.app.last(t).target)
		}
	}
}

// A target that begins with // is a path, too. gorouter itself writes it anew.
func TestAPathThatBeginsWithTwoSlashesIsNoHost(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	for _, path := range []string{"//a/b", "//elsewhere.example.com/a"} {
		p.direct(t, leg2{caller: "frontend", forwarded: "https://" + p.host + path}).expect(t, "200 allowed")
		assert.Contains(t, p.app.last(t).target, path)
		assert.Equal(t, p.host, p.app.last(t).host)
	}
}

// Forwarded URLs that leave two readings, or that no router should send. Every
// one is malformed for every caller, in report mode too.
func TestMalformedForwardedURLsAreRefused(t *testing.T) {
	t.Parallel()
	w := common(t)
	enforced := w.protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	reported := w.protect(t, protection{parameters: `{"mode":"report"}`})
	for _, test := range []string{
		"http://$route/", "HTTPS://$route/", "https:/$route/", "https:///", "$route/", "//$route/", "https://", "https://?", "ftp://$route/",
		"https://user@$route/", "https://user:password@$route/", "https://$route@evil.example.com/", "https://$route:8443/", "https://$route:/",
		"https://$route#/", "https://$route/#fragment", "https://$route/a?b#c", `https://$route\@evil.example.com/`,
		"https://$routehttp://$route/abs", "https://$route/a\tb", "https://$route/a b", "https://127.0.0.1/", "https://[::1]/", "https://2130706433/",
		"https://$route./", "https://.$route/", "https://-$route/", "https://%72oute.apps.identity/", "https://r\u00f6ute.apps.identity/",
		"https://$route/..", "https://$route/.", "https://$route/a/../b", "https://$route/a/./b", "https://$route/%2e%2e/b", "https://$route/.%2E/b",
		"https://$route/%2e", "https://$route/a/..;/b", "https://$route/a/..;x=1/b", "https://$route/a/%2e%2e%2fb", "https://$route/a%2f..%2fb",
		"https://$route/%252e%252e/b", "https://$route/a/%252e%252e%252fb", `https://$route/a\b`, "https://$route/a%5cb", "https://$route/a%5Cb",
		"https://$route/a%255cb", "https://$route/a%00", "https://$route/a%2500", "https://$route/a%0d%0aX-Evil:%201", "https://$route/a%7f",
		"https://$route/a%1f", "https://$route/a%c3", "https://$route/a%ff%fe", "https://$route/%c0%ae%c0%ae/", "https://$route/%", "https://$route/%4",
		"https://$route/%zz", "https://$route/a|b", `https://$route/"`, "https://$route/<a>", "https://$route/[a]", "https://$route/{a}", "https://$route/^",
		"https://$route/a`b", "https://$route/caf\u00e9", "https://$route/" + strings.Repeat("a", 17<<10),
	} {
		for _, p := range []*protected{enforced, reported} {
			r := p.direct(t, leg2{caller: "frontend", forwarded: strings.ReplaceAll(test, "$route", p.route), signed: "https://" + p.route + "/"})
			assert.Equal(t, "400 malformed_request", r.outcome(), "%.100q", test)
		}
	}
}

// As a client can send them through a router.
func TestMalformedPathsAreRefusedBehindTheRouter(t *testing.T) {
	t.Parallel()
	p := common(t).protect(t, protection{parameters: `{"allow":["cf:any"]}`})
	for _, target := range []string{"/a/../b", "/%2e%2e/b", "/a/..;/b", "/a%00", "/a%5cb", "/%252e%252e/b", "/a%ff", `/a\b`, "http://$route/absolute"} {
		r := p.raw(t, "frontend", "GET "+strings.ReplaceAll(target, "$route", p.route))
		assert.Equal(t, "400 malformed_request", r.outcome(), target)
	}
}

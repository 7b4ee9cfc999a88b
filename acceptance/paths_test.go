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

package headers

import (
	"io"
	"net/http"
)

// ForwardTrailers sends the announced trailers of a request on with its body,
// without those that only the gateway may send.
func ForwardTrailers(in, out *http.Request) {
	out.Trailer = make(http.Header, len(in.Trailer))
	for name := range in.Trailer {
		if !IsForgedTrailer(name) {
			out.Trailer[name] = nil
		}
	}
	out.Body = &trailerBody{ReadCloser: out.Body, from: in, to: out.Trailer}
}

// trailerBody copies the values of trailers when the body has ended, which is
// when net/http knows them.
type trailerBody struct {
	io.ReadCloser
	from *http.Request
	to   http.Header
}

// Read implements io.Reader.
func (b *trailerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		for name := range b.to {
			b.to[name] = b.from.Trailer[name]
		}
	}
	return n, err
}

package relay

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	dialTimeout = 5 * time.Second
	idleTimeout = 90 * time.Second
	// idlePerHost is more than gorouter's 2: one machine plays all apps.
	idlePerHost = 256
)

// NewTransport makes an HTTP/1.1 transport that leaves bodies and encodings
// alone and obeys no proxy environment. config may be nil for plain HTTP.
func NewTransport(config *tls.Config) *http.Transport {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   dialTimeout,
		DisableCompression:    true,
		MaxIdleConnsPerHost:   idlePerHost,
		IdleConnTimeout:       idleTimeout,
		ExpectContinueTimeout: time.Second,
		Protocols:             HTTP1(),
	}
}

// HTTP1 is HTTP/1.1 and nothing else: the protocol of every leg.
func HTTP1() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return protocols
}

// bufferSize is that of io.Copy.
const bufferSize = 32 << 10

var bufferPool = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// buffers lends the copy buffers of all relays.
type buffers struct{}

func (buffers) Get() []byte { return bufferPool.Get().(*[bufferSize]byte)[:] }

func (buffers) Put(buffer []byte) { bufferPool.Put((*[bufferSize]byte)(buffer)) }

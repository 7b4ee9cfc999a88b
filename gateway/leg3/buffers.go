package leg3

import "sync"

// Buffers keeps the buffers by which bodies are copied. The zero value is ready.
type Buffers struct{ pool sync.Pool }

const copyBuffer = 32 << 10

// Get implements httputil.BufferPool.
func (p *Buffers) Get() []byte {
	if b, ok := p.pool.Get().(*[copyBuffer]byte); ok {
		return b[:]
	}
	return make([]byte, copyBuffer)
}

// Put implements httputil.BufferPool.
func (p *Buffers) Put(b []byte) { p.pool.Put((*[copyBuffer]byte)(b)) }

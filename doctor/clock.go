package doctor

import (
	"fmt"
	"time"
)

// How far clocks may differ: signatures and certificates are good for a minute
// around, words of the self-test for half of that.
const (
	doubtfulSkew = 5 * time.Second
	badSkew      = 30 * time.Second
)

// Ahead is how much a clock that was read between two moments is ahead of them;
// negative: behind; 0: it may be right. The clock rounds down to the resolution.
func Ahead(read, begun, ended time.Time, resolution time.Duration) time.Duration {
	if ahead := read.Sub(ended); ahead > 0 {
		return ahead
	}
	return min(read.Add(resolution).Sub(begun), 0)
}

// Skew judges how much a clock is ahead of this one.
func Skew(about string, ahead time.Duration) Finding {
	const fix = "synchronise the clocks (NTP) of the machines: signatures, certificates and assertions live for a minute"
	found := fmt.Sprintf("differs from this machine's by %s", ahead.Abs().Round(time.Millisecond))
	switch {
	case ahead.Abs() >= badSkew:
		return Bad(about, found, fix)
	case ahead.Abs() >= doubtfulSkew:
		return Doubtful(about, found, fix)
	}
	return Good(about, "agrees with this machine's")
}

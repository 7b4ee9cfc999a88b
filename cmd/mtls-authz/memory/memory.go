// Package memory has Go's garbage collector use what memory Cloud Foundry gives an
// instance, and no more. It trusts the platform's word; without one, or with one
// that does not read, Go's defaults stay.
package memory

import (
	"log/slog"
	"math"
	"runtime/debug"
	"strconv"
	"strings"
)

const (
	// ofLimit is the part of an instance's memory that Go may fill before it collects
	// more often: what is left is for the stacks of threads, SQLite, and the binary.
	ofLimit = 0.8
	// relaxed is the GOGC of a process that knows its limit. Collecting half as often
	// costs memory that is there, and saves some of the processor time of each request.
	relaxed = 200
)

// Use lets the garbage collector use the memory that Cloud Foundry gives
// the instance, and keeps it below that. Go's own variables win.
func Use(environ []string, log *slog.Logger) {
	given := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		given[name] = value
	}
	most, known := limit(given["MEMORY_LIMIT"])
	if !known {
		return
	}
	if given["GOMEMLIMIT"] == "" {
		debug.SetMemoryLimit(int64(ofLimit * float64(most)))
	}
	if given["GOGC"] == "" {
		debug.SetGCPercent(relaxed)
	}
	log.Debug("memory", slog.Int64("limit", debug.SetMemoryLimit(-1)))
}

// limit reads Cloud Foundry's MEMORY_LIMIT, such as 512m or 1G, in bytes.
func limit(text string) (bytes int64, ok bool) {
	if text == "" {
		return 0, false
	}
	shift, known := map[string]uint{"k": 10, "m": 20, "g": 30, "t": 40}[strings.ToLower(text[len(text)-1:])]
	number, err := strconv.ParseInt(text[:len(text)-1], 10, 64)
	if !known || err != nil || number <= 0 || number > math.MaxInt64>>shift {
		return 0, false
	}
	return number << shift, true
}

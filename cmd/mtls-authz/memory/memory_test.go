package memory

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMemoryLimitsOfCloudFoundry(t *testing.T) {
	for text, want := range map[string]int64{"512m": 512 << 20, "512M": 512 << 20, "1g": 1 << 30, "64k": 64 << 10, "1T": 1 << 40} {
		got, ok := limit(text)
		assert.True(t, ok, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "m", "512", "-1m", "0m", "1.5g", "9223372036854775807g", "512mb", " 512m", "512é"} {
		_, ok := limit(text)
		assert.False(t, ok, text)
	}
}

package netstack

import (
	"testing"

	"github.com/alptrace/alptrace/link"
)

// alpPair is newPair with the project's own TCP.
func alpPair(t testing.TB, tso bool) (a, b *Engine) {
	la, lb := newPipe(link.IP, tso)
	return newAlp(t, la, "10.0.0.1/24", "fd00::1/64"), newAlp(t, lb, "10.0.0.2/24", "fd00::2/64")
}

// BenchmarkAlpRoundTrip is BenchmarkRoundTrip with it.
func BenchmarkAlpRoundTrip(b *testing.B) {
	x, y := alpPair(b, true)
	benchmarkRoundTrip(b, x, y)
}

// BenchmarkAlpBulk is BenchmarkBulkTSO with it.
func BenchmarkAlpBulk(b *testing.B) {
	x, y := alpPair(b, true)
	benchmarkBulk(b, x, y, "10.0.0.2:0")
}

// BenchmarkAlpConnect is BenchmarkConnect with it.
func BenchmarkAlpConnect(b *testing.B) {
	x, y := alpPair(b, true)
	benchmarkConnect(b, x, y)
}

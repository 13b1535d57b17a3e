package sim

import "testing"

const gigabit = `
seed = 1
duration = "60s"
[host.client]
traffic = [{kind = "bulk", to = "server"}]
[host.server]
[[link]]
between = ["client", "server"]
impair = "rate=1gbit delay=1ms queue=200p"
`

const crowd = `
seed = 1
duration = "60s"
[host.client]
traffic = [{kind = "bulk", to = "server", count = 1000}]
[host.server]
[router.r1]
[router.r2]
[[link]]
between = ["client", "r1"]
impair = "rate=1gbit delay=1ms"
[[link]]
name = "bottleneck"
between = ["r1", "r2"]
impair = "rate=100mbit delay=20ms queue=1000p"
[[link]]
between = ["r2", "server"]
impair = "rate=1gbit delay=1ms"
`

func benchmark(b *testing.B, text string) {
	for b.Loop() {
		s := load(b, text, Options{})
		r, err := s.Run(0)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(r.SpeedUp(), "x")
		b.ReportMetric(float64(r.Packets)/r.Wall, "packets/s")
		b.ReportMetric(r.Wall*1e9/float64(r.Packets), "ns/packet")
		var sum float64
		for _, f := range r.Flows {
			sum += f.Goodput
		}
		b.ReportMetric(sum/1e6, "Mbit/s")
		b.Log(r.Hash)
	}
}

// BenchmarkGigabit is a flow of 1 Gbit/s for 60 s.
func BenchmarkGigabit(b *testing.B) { benchmark(b, gigabit) }

// BenchmarkCrowd is 1,000 flows through 100 Mbit/s for 60 s.
func BenchmarkCrowd(b *testing.B) { benchmark(b, crowd) }

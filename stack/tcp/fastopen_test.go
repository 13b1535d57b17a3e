package tcp_test

import (
	"testing"

	"github.com/alptrace/alptrace/stack/tcp"
	"github.com/alptrace/alptrace/stack/tcp/tcptest"
)

// TestFastOpen: RFC 7413, one rule each.
func TestFastOpen(t *testing.T) {
	// learn is the connection by which a client gets a cookie.
	const learn = `
		0 set fastopenconnect on
		0 connect
		0 > S 0:0(0) <mss *,sackOK,wscale *,FO>
		0.01 < S. 0:0(0) ack 1 <mss 1000,sackOK,wscale 7,FO 0123456789abcdef>
		0.01 > . 1:1(0) ack 1
		0.02 close
		0.02 > F. 1:1(0) ack 1`
	for _, c := range []struct{ name, before, script string }{
		{"4.1.2 a server gives a cookie and does not take the data", "", `
			0 set fastopen 5
			0 listen
			0 < S 0:100(100) <mss 1000,FO>
			0 > S. 0:0(0) ack 1 <mss *,FO *>
			0 state SYN_RECV
			0.01 < . 1:1(0) ack 1
			0.01 state ESTABLISHED
			0.01 readable 0`},
		{"4.1.2 a bad cookie", "", `
			0 set fastopen 5
			0 listen
			0 < S 0:100(100) <mss 1000,FO 0011223344556677>
			0 > S. 0:0(0) ack 1 <mss *,FO *>
			0 state SYN_RECV`},
		{"a server without Fast Open ignores the option", "", `
			0 listen
			0 < S 0:100(100) <mss 1000,FO>
			0 > S. 0:0(0) ack 1 <mss *>`},
		{"4.2.2 a good cookie: data is read and answered before the handshake ends", "", `
			0 set fastopen 5
			0 listen
			0 < S 0:100(100) <mss 1000,FO GOOD>
			0 > S. 0:0(0) ack 101 <mss *>
			0 readable 100
			0 read 100
			0 write 50
			0 > P. 1:51(50) ack 101
			0.02 < . 101:101(0) ack 51
			0.02 state ESTABLISHED
			0.02 pipe 0`},
		{"4.2.2 the SYN-ACK was lost", "", `
			0 set fastopen 5
			0 listen
			0 < S 0:100(100) <mss 1000,FO GOOD>
			0 > S. 0:0(0) ack 101
			0 read 100
			0 write 50
			0 > P. 1:51(50) ack 101
			0.3 < S 0:0(0) <mss 1000>
			0.3 > S. 0:0(0) ack 101
			0.32 < . 101:101(0) ack 1
			0.6 < . 101:101(0) ack 51
			0.6 pipe 0`},
		{"4.2.2 the SYN-ACK is sent again after the timeout", "", `
			0 set fastopen 5
			0 listen
			0 < S 0:100(100) <mss 1000,FO GOOD>
			0 > S. 0:0(0) ack 101
			1 > S. 0:0(0) ack 101
			3 > S. 0:0(0) ack 101
			3.1 < . 101:101(0) ack 1
			3.1 pipe 0`},
		{"4.1.3 a client asks for a cookie", "", learn},
		{"4.2.1 a client's SYN has the first data", learn, `
			0 set fastopenconnect on
			0 connect
			0 none
			0.1 write 100
			0.1 > S 0:100(100) <mss *,sackOK,wscale *,FO 0123456789abcdef>
			0.12 < S. 0:0(0) ack 101 <mss 1000,sackOK,wscale 7>
			0.12 > . 101:101(0) ack 1
			0.12 state ESTABLISHED
			0.12 pipe 0`},
		{"4.2.1 the data was not taken", learn, `
			0 set fastopenconnect on
			0 connect
			0 write 100
			0 > S 0:100(100)
			0.02 < S. 0:0(0) ack 1 <mss 1000,sackOK,wscale 7>
			0.02 > P. 1:101(100) ack 1
			0.04 < . 1:1(0) ack 101
			0.04 pipe 0`},
		{"4.1.3.1 a SYN sent again has neither option nor data", learn, `
			0 set fastopenconnect on
			0 connect
			0 write 100
			0 > S 0:100(100)
			1 > S 0:0(0) <mss *,sackOK,wscale *>
			1.02 < S. 0:0(0) ack 1 <mss 1000,sackOK,wscale 7>
			1.02 > P. 1:101(100) ack 1`},
		{"more than the SYN takes, and closed at once", learn, `
			0 set fastopenconnect on
			0 connect
			0 write 1500
			0 > S 0:960(960)
			0 close
			0.02 < S. 0:0(0) ack 961 <mss 1000,sackOK,wscale 7>
			0.02 > FP. 961:1501(540) ack 1
			0.04 < F. 1:1(0) ack 1502
			0.04 > . 1502:1502(0) ack 2
			0.04 state TIME_WAIT`},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := tcp.NewConfig()
			cfg.Timestamps, cfg.TLP = false, true
			if c.before != "" {
				tcptest.Run(t, cfg, c.before)
			}
			tcptest.Run(t, cfg, tcptest.WithCookie(cfg, c.script))
		})
	}
}

package tcp_test

import (
	"testing"
	"time"

	"github.com/alptrace/alptrace/stack/tcp"
	"github.com/alptrace/alptrace/stack/tcp/tcptest"
)

// TestScripts: one rule each, named by its section. Package tcptest says how
// scripts are written.
func TestScripts(t *testing.T) {
	for _, c := range []struct {
		name   string
		config func(*tcp.Config)
		script string
	}{
		{"9293 3.5 active open", nil, `
			0 connect
			0 > S 0:0(0) win 65535 <mss 1460,sackOK,wscale 7>
			0 state SYN_SENT
			0.01 < S. 0:0(0) ack 1 <mss 1000,sackOK,wscale 0>
			0.01 > . 1:1(0) ack 1
			0.01 state ESTABLISHED
			0.01 mss 1000`},
		{"9293 3.5 passive open", nil, `
			0 listen
			0 < S 0:0(0) <mss 1460>
			0 > S. 0:0(0) ack 1 <mss 1460>
			0 state SYN_RECV
			0.01 < . 1:1(0) ack 1
			0.01 state ESTABLISHED`},
		{"9293 3.5 simultaneous open", nil, `
			0 connect
			0 > S 0:0(0)
			0.01 < S 0:0(0) <mss 1460>
			0.01 > S. 0:0(0) ack 1
			0.01 state SYN_RECV
			0.02 < S. 0:0(0) ack 1 <mss 1460>
			0.02 state ESTABLISHED`},
		{"9293 3.10.7.3 SYN-SENT: unacceptable ACK", nil, `
			0 connect
			0 > S 0:0(0)
			0.01 < . 5:5(0) ack 100
			0.01 > R 100:100(0)
			0.01 state SYN_SENT`},
		{"9293 3.10.7.3 SYN-SENT: refused", nil, `
			0 connect
			0 > S 0:0(0)
			0.01 < R. 0:0(0) ack 1
			0.01 state CLOSE
			0.01 error ECONNREFUSED`},
		{"9293 3.10.7.3 SYN-SENT: a RST without ACK is ignored", nil, `
			0 connect
			0 > S 0:0(0)
			0.01 < R 0:0(0)
			0.01 state SYN_SENT`},
		{"6298 5 SYN is retransmitted with backoff", func(c *tcp.Config) { c.SYNRetries = 3 }, `
			0 connect
			0 > S 0:0(0)
			1 > S 0:0(0)
			3 > S 0:0(0)
			7 > S 0:0(0)
			15.01 state CLOSE
			15.01 error ETIMEDOUT`},
		{"9293 3.9.2.2 ICMP ends a handshake", nil, `
			0 connect
			0 > S 0:0(0)
			0.01 icmp EHOSTUNREACH
			0.01 error EHOSTUNREACH`},
		{"9293 3.9.2.2 ICMP does not end a connection", nil, `
			0 established
			0.01 icmp EHOSTUNREACH
			0.01 state ESTABLISHED`},
		{"9293 3.10.7.4 SYN-ACK is sent again for a SYN", nil, `
			0 listen
			0 < S 0:0(0) <mss 1460>
			0 > S. 0:0(0) ack 1
			0.1 < S 0:0(0) <mss 1460>
			0.1 > S. 0:0(0) ack 1`},
		{"9293 3.10.7.4 SYN-RECEIVED: unacceptable ACK", nil, `
			0 listen
			0 < S 0:0(0) <mss 1460>
			0 > S. 0:0(0) ack 1
			0.1 < . 1:1(0) ack 50
			0.1 > R 50:50(0)
			0.1 state SYN_RECV`},
		{"5961 3.2 RST exactly in place", nil, `
			0 established
			0.1 < R 1:1(0)
			0.1 error ECONNRESET`},
		{"5961 3.2 RST elsewhere in the window is challenged", nil, `
			0 established
			0.1 < R 100:100(0)
			0.1 > . 1:1(0) ack 1
			0.1 state ESTABLISHED`},
		{"5961 3.2 RST outside of the window is ignored", nil, `
			0 established
			0.1 < R 900000:900000(0)
			0.1 none
			0.1 state ESTABLISHED`},
		{"5961 4.2 SYN is challenged", nil, `
			0 established
			0.1 < S 100:100(0) <mss 1460>
			0.1 > . 1:1(0) ack 1
			0.1 state ESTABLISHED`},
		{"5961 5.2 ACK of what was never sent", nil, `
			0 established
			0.1 < . 1:1(0) ack 5000
			0.1 > . 1:1(0) ack 1`},
		{"9293 3.10.7.4 data is acknowledged after a while", nil, `
			0 established
			0.1 < P. 1:101(100) ack 1
			0.1 > . 1:1(0) ack 101
			0.1 readable 100
			0.1 read 100`},
		{"5681 4.2 every second segment", nil, `
			0 established
			0 write 1
			0 > P. 1:2(1)
			0.02 < . 1:1461(1460) ack 2
			0.03 < . 1461:2921(1460) ack 2
			0.03 > . 2:2(0) ack 2921`},
		{"9293 3.8.6.3 delayed acknowledgment", nil, `
			0 established
			0 write 1
			0 > P. 1:2(1)
			0.02 < P. 1:101(100) ack 2
			0.06 > . 2:2(0) ack 101`},
		{"2018 4 SACK of what is out of order, the latest first", nil, `
			0 established
			0.1 < . 1001:2001(1000) ack 1
			0.1 > . 1:1(0) ack 1 <sack 1001:2001>
			0.1 < . 3001:4001(1000) ack 1
			0.1 > . 1:1(0) ack 1 <sack 3001:4001 1001:2001>
			0.1 < . 5001:6001(1000) ack 1
			0.1 > . 1:1(0) ack 1 <sack 5001:6001 3001:4001 1001:2001>
			0.1 < . 2001:3001(1000) ack 1
			0.1 > . 1:1(0) ack 1 <sack 1001:4001 5001:6001>
			0.1 < . 1:1001(1000) ack 1
			0.1 > . 1:1(0) ack 4001 <sack 5001:6001>
			0.1 < . 4001:5001(1000) ack 1
			0.1 > . 1:1(0) ack 6001
			0.1 read 6000`},
		{"2883 4.1 D-SACK of what was received before", nil, `
			0 established
			0.1 < . 1:1001(1000) ack 1
			0.1 > . 1:1(0) ack 1001
			0.2 < . 1:1001(1000) ack 1
			0.2 > . 1:1(0) ack 1001 <sack 1:1001>`},
		{"2883 4.2.1 D-SACK of a duplicate out of order", nil, `
			0 established
			0.1 < . 1001:2001(1000) ack 1
			0.1 > . 1:1(0) ack 1 <sack 1001:2001>
			0.2 < . 1001:2001(1000) ack 1
			0.2 > . 1:1(0) ack 1 <sack 1001:2001 1001:2001>`},
		{"7323 3.2 timestamps are echoed", nil, `
			0 established ts
			0.1 < P. 1:101(100) ack 1 <TS 50 -100>
			0.1 > . 1:1(0) ack 101 <TS * 50>`},
		{"7323 5.3 PAWS", nil, `
			0 established ts
			0.1 < P. 1:101(100) ack 1 <TS 50 -100>
			0.1 > . 1:1(0) ack 101 <TS * 50>
			0.2 < P. 101:201(100) ack 1 <TS 49 -100>
			0.2 > . 1:1(0) ack 101
			0.2 readable 100`},
		{"9293 3.7.4 Nagle's algorithm", nil, `
			0 established
			0 write 10
			0 > P. 1:11(10)
			0 write 10
			0 none
			0.02 < . 1:1(0) ack 11
			0.02 > P. 11:21(10)`},
		{"9293 3.7.4 TCP_NODELAY", nil, `
			0 established
			0 set nodelay on
			0 write 10
			0 > P. 1:11(10)
			0 write 10
			0 > P. 11:21(10)`},
		{"tcp(7) TCP_CORK", nil, `
			0 established
			0 set cork on
			0 write 10
			0.1 write 2000
			0.1 > . 1:1461(1460)
			0.2 > P. 1461:2011(550)`},
		{"9293 3.8.6.1 zero window is probed", nil, `
			0 established win=100
			0 write 300
			0 > . 1:101(100)
			0.01 < . 1:1(0) ack 101 win 0
			0.229 > . 100:100(0)
			0.229 < . 1:1(0) ack 101 win 0
			0.666 > . 100:100(0)
			0.67 < . 1:1(0) ack 101 win 1000
			0.67 > P. 101:301(200)`},
		{"9293 3.8.6.2.1 a small window is waited for", nil, `
			0 established win=4000
			0 write 8000
			0 > . 1:1461(1460)
			0 > . 1461:2921(1460)
			0.01 < . 1:1(0) ack 2921 win 500
			0.01 none
			0.02 < . 1:1(0) ack 2921 win 1500
			0.02 > . 2921:4381(1460)`},
		{"6298 5 data is retransmitted with backoff", func(c *tcp.Config) { c.TLP = false }, `
			0 established
			0 write 100
			0 > P. 1:101(100)
			0.22 > P. 1:101(100)
			0.66 > P. 1:101(100)
			1.54 > P. 1:101(100)
			1.54 ca Loss
			1.55 < . 1:1(0) ack 101
			1.55 ca Open`},
		{"8985 7 tail loss probe", nil, `
			0 established
			0.1 write 100
			0.1 > P. 1:101(100)
			0.12 < . 1:1(0) ack 101
			0.12 write 3000
			0.12 > . 101:1561(1460)
			0.12 > . 1561:3021(1460)
			0.12 > P. 3021:3101(80)
			0.162 > P. 1641:3101(1460)
			0.18 < . 1:1(0) ack 3101`},
		{"6675 5 fast retransmit", nil, `
			0 established
			0 write 14600
			0 > . 1:1461(1460)
			0 > . 1461:2921(1460)
			0 > . 2921:4381(1460)
			0 > . 4381:5841(1460)
			0 > . 5841:7301(1460)
			0 > . 7301:8761(1460)
			0 > . 8761:10221(1460)
			0 > . 10221:11681(1460)
			0 > . 11681:13141(1460)
			0 > P. 13141:14601(1460)
			0.02 < . 1:1(0) ack 1 <sack 1461:2921>
			0.02 < . 1:1(0) ack 1 <sack 1461:4381>
			0.02 < . 1:1(0) ack 1 <sack 1461:5841>
			0.02 > . 1:1461(1460)
			0.02 ca Recovery
			0.02 ssthresh 10220
			0.04 < . 1:1(0) ack 14601
			0.04 ca Open
			0.04 cwnd 10220`},
		{"6582 3.2 fast retransmit without SACK", nil, `
			0 established nosack
			0 write 7300
			0 > . 1:1461(1460)
			0 > . 1461:2921(1460)
			0 > . 2921:4381(1460)
			0 > . 4381:5841(1460)
			0 > P. 5841:7301(1460)
			0.02 < . 1:1(0) ack 1
			0.02 < . 1:1(0) ack 1
			0.02 none
			0.02 < . 1:1(0) ack 1
			0.02 > . 1:1461(1460)
			0.04 < . 1:1(0) ack 7301
			0.04 ca Open`},
		{"9293 3.6 close, the peer after us", nil, `
			0 established
			0 close
			0 > F. 1:1(0) ack 1
			0 state FIN_WAIT1
			0.01 < . 1:1(0) ack 2
			0.01 state FIN_WAIT2
			0.02 < F. 1:1(0) ack 2
			0.02 > . 2:2(0) ack 2
			0.02 state TIME_WAIT
			30 < F. 1:1(0) ack 2
			30 > . 2:2(0) ack 2
			90.01 state CLOSE
			90.01 error 0`},
		{"9293 3.6 close, the peer first", nil, `
			0 established
			0 < F. 1:1(0) ack 1
			0 > . 1:1(0) ack 2
			0 state CLOSE_WAIT
			0.1 close
			0.1 > F. 1:1(0) ack 2
			0.1 state LAST_ACK
			0.2 < . 2:2(0) ack 2
			0.2 state CLOSE`},
		{"9293 3.6 simultaneous close", nil, `
			0 established
			0 close
			0 > F. 1:1(0) ack 1
			0.01 < F. 1:1(0) ack 1
			0.01 > . 2:2(0) ack 2
			0.01 state CLOSING
			0.02 < . 2:2(0) ack 2
			0.02 state TIME_WAIT`},
		{"9293 3.6 FIN goes with the last data", nil, `
			0 established
			0 write 2000
			0 > . 1:1461(1460)
			0 > P. 1461:2001(540)
			0 write 100
			0 none
			0 shutdown
			0 > FP. 2001:2101(100)`},
		{"1122 4.2.2.13 close with unread data is a reset", nil, `
			0 established
			0 < P. 1:101(100) ack 1
			0 > . 1:1(0) ack 101
			0 close
			0 > R. 1:1(0) ack 101
			0 state CLOSE`},
		{"1122 4.2.2.13 data for a closed connection is answered with RST", nil, `
			0 established
			0 close
			0 > F. 1:1(0) ack 1
			0.01 < . 1:1(0) ack 2
			0.02 < P. 1:101(100) ack 2
			0.02 > R 2:2(0)`},
		{"9293 3.10.5 abort", nil, `
			0 established
			0 abort
			0 > R. 1:1(0) ack 1
			0 state CLOSE`},
		{"9293 3.8.4 keep-alive", nil, `
			0 established
			0 set keepidle 10
			0 set keepintvl 2
			0 set keepcnt 2
			0 set keepalive on
			10 > . 0:0(0) ack 1
			10.1 < . 1:1(0) ack 1
			20.1 > . 0:0(0) ack 1
			22.1 > . 0:0(0) ack 1
			24.1 > R. 1:1(0) ack 1
			24.1 error ETIMEDOUT`},
		{"9293 3.8.5 urgent data", nil, `
			0 established
			0 urgent 10
			0 > PU. 1:11(10) urg 10`},
		{"3168 6.1.1 ECN is agreed on", func(c *tcp.Config) { c.ECN = tcp.ECNOn }, `
			0 connect
			0 > SEW 0:0(0)
			0 < SE. 0:0(0) ack 1 <mss 1460,sackOK,wscale 0>
			0 > . 1:1(0) ack 1
			0 < P. 1:101(100) ack 1 ce
			0 > E. 1:1(0) ack 101
			0 < PW. 101:201(100) ack 1
			0 > . 1:1(0) ack 201`},
		{"3168 6.1.2 ECE reduces once", func(c *tcp.Config) { c.ECN = tcp.ECNOn }, `
			0 connect
			0 > SEW 0:0(0)
			0.02 < SE. 0:0(0) ack 1 <mss 1460,sackOK,wscale 0>
			0.02 > . 1:1(0) ack 1
			0.02 write 2920
			0.02 > . 1:1461(1460)
			0.02 > P. 1461:2921(1460)
			0.04 < E. 1:1(0) ack 1461
			0.04 ca CWR
			0.04 ssthresh 10220
			0.04 < E. 1:1(0) ack 2921
			0.04 ssthresh 10220
			0.04 write 1460
			0.04 > PW. 2921:4381(1460)`},
		{"1191 6.5 packet too big", nil, `
			0 established
			0 write 2920
			0 > . 1:1461(1460)
			0 > P. 1461:2921(1460)
			0.01 mtu 1400 1
			0.01 > . 1:1361(1360)
			0.01 > . 1361:2721(1360)
			0.01 > P. 2721:2921(200)
			0.01 mss 1360`},
		{"5927 7.2 packet too big, forged", nil, `
			0 established
			0 write 1460
			0 > P. 1:1461(1460)
			0.01 mtu 600 5000
			0.01 mss 1460`},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := tcp.NewConfig()
			cfg.Timestamps = false
			if c.config != nil {
				c.config(cfg)
			}
			tcptest.Run(t, cfg, c.script)
		})
	}
}

// TestBlackHole: a path that drops what is large without a word. The transfer
// goes on with smaller segments, and with full ones when the path is whole.
func TestBlackHole(t *testing.T) {
	p := tcptest.NewPair(1, tcp.NewConfig(), tcp.NewConfig())
	hole := true
	p.AB.Rate = 100_000
	p.AB.Filter = func(s *tcp.Segment) bool { return !hole || s.DataLen <= 1200 }
	s := &tcptest.Stream{From: p.A, To: p.B, Size: 20_000_000}
	s.Start()
	p.Open()
	p.Run(20 * time.Second)
	if mss := p.A.Info().SndMSS; s.Read == 0 || mss > 1200 {
		t.Fatalf("%d bytes with an MSS of %d: %+v", s.Read, mss, p.A.Info())
	}
	cwnd := p.A.Info().Cwnd
	p.Run(30 * time.Second)
	if i := p.A.Info(); i.Cwnd < cwnd {
		t.Errorf("probes have cost window: %d, %d", cwnd, i.Cwnd)
	}
	hole = false
	if !p.RunUntil(15*time.Minute, func() bool { return p.A.Info().SndMSS == 1448 || s.Done }) || s.Err != nil || s.Done {
		t.Fatalf("%v, MSS %d, done %v", s.Err, p.A.Info().SndMSS, s.Done)
	}
}

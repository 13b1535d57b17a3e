package rdp

import (
	"time"
)

// host is a transport.Host whose packets go nowhere.
type host struct{}

func (*host) Now() time.Duration     { return time.Second }
func (*host) Rand() uint64           { return 0 }
func (*host) Send([]byte)            {}
func (*host) SetTimer(time.Duration) {}
func (*host) MaxPacket() int         { return 100 }
func (*host) Changed()               {}

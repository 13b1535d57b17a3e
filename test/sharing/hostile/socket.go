package main

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alptrace/alptrace/rootd/proto"
	"github.com/alptrace/alptrace/test/sharing/hostile/order"
)

func dial(path string) (*net.UnixConn, error) {
	return net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
}

// say sends messages and reads what is answered until rootd closes or is quiet
// for half a second. The errno is that of the last Failure.
func say(o *order.Order) (a order.Answer) {
	c, err := dial(o.Path)
	if err != nil {
		return fail(err)
	}
	defer func() { _ = c.Close() }()
	for _, m := range o.Packets {
		_ = c.SetDeadline(time.Now().Add(time.Second))
		if _, err := c.Write(m); err != nil {
			break
		}
		a.Count++
	}
	buf := make([]byte, proto.MaxMessage)
	for {
		_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := c.Read(buf)
		if err != nil || n == 0 {
			ne, ok := err.(net.Error)
			a.Closed = !ok || !ne.Timeout()
			return a
		}
		if _, m, err := proto.Decode(buf[:n]); err == nil {
			if f, ok := m.(proto.Failure); ok {
				a.Errno, a.Text = f.Errno, f.Text
			}
		}
	}
}

// flood sends the same request as fast as it goes and reads no reply. It comes
// again when it is thrown out.
func flood(o *order.Order) order.Answer {
	end := time.Now().Add(time.Duration(o.Millis) * time.Millisecond)
	var sent atomic.Int64
	var wg sync.WaitGroup
	for range o.N {
		wg.Go(func() {
			for time.Now().Before(end) {
				c, err := dial(o.Path)
				if err != nil {
					time.Sleep(time.Millisecond)
					continue
				}
				_ = c.SetDeadline(end)
				for {
					var err error
					for _, m := range o.Packets {
						if _, err = c.Write(m); err != nil {
							break
						}
						sent.Add(1)
					}
					if err != nil {
						break
					}
				}
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	return order.Answer{Count: int(sent.Load())}
}

// slow holds connections open that say nothing; the count is of those that
// rootd did not close at once.
func slow(o *order.Order) (a order.Answer) {
	var conns []*net.UnixConn
	for range o.N {
		c, err := dial(o.Path)
		if err != nil {
			a.Text = err.Error()
			break
		}
		conns = append(conns, c)
	}
	a.Count = len(conns)
	time.Sleep(time.Duration(o.Millis) * time.Millisecond)
	for _, c := range conns {
		_ = c.Close()
	}
	return a
}

package sim

import "github.com/alptrace/alptrace/link"

// ethernetSwitch is a learning switch (IEEE 802.1D), without spanning tree:
// loops of switches are for whoever wants a broadcast storm.
type ethernetSwitch struct {
	ports []link.Link
	from  map[[6]byte]int // the port behind which an address is
}

func (s *Sim) addSwitch(ports []link.Link) error {
	w := &ethernetSwitch{ports: ports, from: make(map[[6]byte]int)}
	for i, p := range ports {
		s.closers = append(s.closers, p.Close)
		if err := p.Start(func(pkts []link.Packet) { w.forward(i, pkts) }); err != nil {
			return err
		}
	}
	return nil
}

// forward sends frames on to where their receiver is, else to everywhere.
func (w *ethernetSwitch) forward(port int, pkts []link.Packet) {
	for i := range pkts {
		b := pkts[i].Bufs[0]
		if len(b) < 14 {
			continue
		}
		w.from[[6]byte(b[6:12])] = port
		const group = 1 // broadcast and multicast
		if to, ok := w.from[[6]byte(b[:6])]; ok && b[0]&group == 0 {
			if to != port {
				_, _ = w.ports[to].Send(pkts[i : i+1]) // a switch tells nobody
			}
			continue
		}
		for to, p := range w.ports {
			if to != port {
				_, _ = p.Send(pkts[i : i+1])
			}
		}
	}
}

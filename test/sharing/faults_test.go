package sharing_test

import (
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/nftables"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

var (
	faults    = flag.Int("faults", 200, "how many times to kill something")
	faultSeed = flag.Uint64("fault-seed", 0, "what to kill when; 0 chooses")
)

// Ports of the conversations that must survive, and of those that are killed.
const (
	stackServes  = "7001" // the peer talks to a stack
	peerServes   = "7002" // a stack talks to the peer
	stackToStack = "7003" // one stack talks to another
	kernelAlone  = "7004" // kernel to kernel, on the same addresses
	victimPeer   = "7005" // at the peer, for victims that talk
	victimFirst  = 8000   // victims serve here and above
)

// survivor is a conversation that nothing but its own end may end.
type survivor struct {
	what string
	talk *proc
	seen int64
}

// TestIntegrationFaults kills rootd, alptraces and programs at random moments
// under load, and demands that nobody else notices.
func TestIntegrationFaults(t *testing.T) {
	l := newLab(t)
	l.startRootd()
	resets := l.watchResets()
	seed := *faultSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	rnd := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)

	survivors := l.survivors()
	l.await(l.start(l.peer, false, programs.chat, "serve", peerIP+":"+victimPeer))
	lasting := len(l.mustStatus().Leases)
	kills := map[string]int{}
	for i := range *faults {
		port := fmt.Sprint(victimFirst + i)
		server := l.await(l.alptrace(programs.chat, "serve", hostIP+":"+port))
		visitor := l.await(l.start(l.peer, false, programs.chat, "talk", hostIP+":"+port))
		client := l.await(l.alptrace(programs.chat, "talk", peerIP+":"+victimPeer))
		time.Sleep(time.Duration(rnd.IntN(60)) * time.Millisecond)

		what := []string{"rootd", "alptrace of a server", "alptrace of a client", "server", "client"}[rnd.IntN(5)]
		kills[what]++
		switch what {
		case "rootd":
			l.rootd.kill()
			time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
			l.startRootd()
			l.advances(&survivor{what: "a stack's server that was there before rootd died", talk: visitor})
		case "alptrace of a server":
			l.killTracer(server)
		case "alptrace of a client":
			l.killTracer(client)
		case "server":
			l.killProgram(server)
		case "client":
			l.killProgram(client)
		}
		if t.Failed() {
			t.Fatalf("after %d kills, the last of %s", i+1, what)
		}
		for _, p := range []*proc{server, client, visitor} {
			p.kill()
		}
		// A lease ends with its connection, within a tenth of a second.
		// One that its client has not taken up again after a restart waits for that.
		within := time.Second
		if what == "rootd" {
			within = 10 * time.Second
		}
		l.leasesAre(lasting, within)
		for _, s := range survivors {
			l.advances(s)
		}
	}
	t.Logf("%d kills: %v", *faults, kills)
	if n := resets.rst.Load(); n != 0 {
		t.Errorf("%d RST in conversations that survive", n)
	}
	if resets.seen.Load() == 0 {
		t.Error("nothing of the conversations was seen at the peer")
	}
	for _, s := range survivors {
		s.talk.kill()
	}
	l.nothingLeft()
}

// survivors starts the conversations that must go on.
func (l *lab) survivors() []*survivor {
	l.t.Helper()
	talk := func(ns netns.NsHandle, addr string) *proc {
		return l.await(l.start(ns, false, programs.chat, "talk", addr))
	}
	l.await(l.alptrace(programs.chat, "serve", hostIP+":"+stackServes))
	l.await(l.start(l.peer, false, programs.chat, "serve", peerIP+":"+peerServes))
	l.await(l.alptrace(programs.chat, "serve", "0.0.0.0:"+stackToStack))
	l.await(l.start(l.host, false, programs.chat, "serve", hostIP+":"+kernelAlone))
	return []*survivor{
		{what: "the peer with a stack", talk: talk(l.peer, hostIP+":"+stackServes)},
		{what: "a stack with the peer", talk: l.await(l.alptrace(programs.chat, "talk", peerIP+":"+peerServes))},
		{what: "a stack with another", talk: l.await(l.alptrace(programs.chat, "talk", hostIP+":"+stackToStack))},
		{what: "the host's kernel with a stack", talk: talk(l.host, "127.0.0.1:"+stackToStack)},
		{what: "the peer with the host's kernel", talk: talk(l.peer, hostIP+":"+kernelAlone)},
	}
}

// advances demands that a conversation goes on.
func (l *lab) advances(s *survivor) {
	l.t.Helper()
	s.seen = s.talk.lines.Load()
	for end := time.Now().Add(8 * time.Second); s.talk.lines.Load() == s.seen; time.Sleep(5 * time.Millisecond) {
		if !s.talk.running() {
			l.t.Errorf("%s: ended: %s", s.what, s.talk.stderr.String())
			return
		}
		if time.Now().After(end) {
			l.t.Errorf("%s: stands still", s.what)
			return
		}
	}
}

// killTracer kills an alptrace; its program must die with it.
func (l *lab) killTracer(p *proc) {
	l.t.Helper()
	program := p.child()
	p.kill()
	for end := time.Now().Add(2 * time.Second); program != 0; time.Sleep(2 * time.Millisecond) {
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", program)); err != nil || exe != programs.chat {
			return
		}
		if time.Now().After(end) {
			l.t.Errorf("process %d survives its alptrace", program)
			return
		}
	}
}

// killProgram kills the program of an alptrace, which must end like it.
func (l *lab) killProgram(p *proc) {
	l.t.Helper()
	program := p.child()
	if program == 0 {
		l.t.Errorf("%s has no program", p.name)
		return
	}
	_ = unix.Kill(program, unix.SIGKILL)
	if !p.endsWithin(5 * time.Second) {
		p.signal(unix.SIGABRT) // a Go program says what it does
		l.t.Errorf("%s goes on without its program:\n%s", p.name, p.stderr.String())
	}
}

func (l *lab) mustStatus() status {
	l.t.Helper()
	s, err := l.status()
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// resets is what watchResets sees.
type resets struct {
	rst, seen atomic.Int64 // of the conversations that must survive
}

// watchResets counts, at the peer, what the host sends in the conversations that
// must survive, and the RSTs among it.
func (l *lab) watchResets() *resets {
	l.t.Helper()
	var f *os.File
	l.within(l.peer, func() (err error) {
		f, err = packetSocket(peerDev)
		return err
	})
	l.t.Cleanup(func() { _ = f.Close() })
	ports := map[string]bool{stackServes: true, peerServes: true, kernelAlone: true}
	r := &resets{}
	go func() {
		buf := make([]byte, 1<<17)
		for {
			n, err := f.Read(buf)
			if err != nil {
				return
			}
			p := gopacket.NewPacket(buf[:n], layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
			tcp, ok := p.TransportLayer().(*layers.TCP)
			if !ok || p.NetworkLayer().NetworkFlow().Src().String() != hostIP ||
				!ports[fmt.Sprint(uint16(tcp.SrcPort))] && !ports[fmt.Sprint(uint16(tcp.DstPort))] {
				continue
			}
			r.seen.Add(1)
			if tcp.RST {
				r.rst.Add(1)
			}
		}
	}()
	return r
}

// nothingLeft ends rootd and demands that the host is as it was.
func (l *lab) nothingLeft() {
	l.t.Helper()
	// Survivors' servers end with the test; their leases must go before rootd.
	for _, s := range l.mustStatus().Leases {
		_ = unix.Kill(s.PID, unix.SIGKILL)
	}
	l.leasesAre(0, 2*time.Second)
	l.rootd.signal(unix.SIGTERM)
	if l.rootd.running() {
		l.t.Fatal("rootd does not end")
	}
	if s := l.rootd.cmd.ProcessState; !s.Success() {
		l.t.Errorf("rootd: %v: %s", s, l.rootd.stderr.String())
	}
	l.within(l.host, func() error {
		ifs, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, i := range ifs {
			if i.Name != "lo" && i.Name != hostDev {
				l.t.Errorf("device %s is left", i.Name)
			}
			got, err := link.QueryPrograms(link.QueryOptions{Target: i.Index, Attach: ebpf.AttachTCXIngress})
			if err != nil {
				return fmt.Errorf("programs of %s: %w", i.Name, err)
			}
			if len(got.Programs) > 0 {
				l.t.Errorf("%d programs are left on %s", len(got.Programs), i.Name)
			}
		}
		c, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := c.ListTables()
		for _, tab := range tables {
			l.t.Errorf("nftables table %s is left", tab.Name)
		}
		return err
	})
	if _, err := os.Stat(l.pins); err == nil {
		l.t.Errorf("%s is left", l.pins)
	}
	_ = filepath.WalkDir(l.dir, func(path string, d fs.DirEntry, _ error) error {
		if !d.IsDir() && strings.HasPrefix(d.Name(), "rootd.") {
			l.t.Errorf("%s is left", path)
		}
		return nil
	})
}

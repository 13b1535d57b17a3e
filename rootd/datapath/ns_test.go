package datapath

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// The tests named TestNS run as root in a process that has a network and a
// mount namespace of its own: the host. Beside it are two more namespaces:
//
//	host eth0 10.9.0.1 --- 10.9.0.2 peer 10.9.1.1 --- (MTU 1300) 10.9.1.2 far
//	     eth1 10.9.2.1 --- 10.9.2.2
//
// and the same in fd09:0::/64, fd09:1:: and fd09:2::. All of it is gone when the
// process is.
const inNamespace = "DATAPATH_TEST_NAMESPACE"

func TestNamespace(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if err := Probe(); err != nil {
		t.Skip(err)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip(err)
	}
	run := "^TestNS"
	if r := os.Getenv("DATAPATH_TEST_RUN"); r != "" {
		run = r
	}
	cmd := exec.Command(os.Args[0], "-test.run="+run, "-test.v", "-test.timeout=150s")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(inNamespace) == "" {
		os.Exit(m.Run())
	}
	if role := os.Getenv("DATAPATH_TEST_ROLE"); role != "" {
		os.Exit(runRole(role))
	}
	if err := buildNetwork(); err != nil {
		os.Stderr.WriteString("network of the test: " + err.Error() + "\n")
		os.Exit(1)
	}
	os.Exit(m.Run())
}

const network = `
link set lo up
link add eth0 type veth peer name eth0 netns dppeer
link add eth1 type veth peer name eth1 netns dppeer
addr add 10.9.0.1/24 dev eth0
addr add fd09::1/64 dev eth0 nodad
addr add 10.9.2.1/24 dev eth1
addr add fd09:2::1/64 dev eth1 nodad
link set eth0 up
link set eth1 up
route add default via 10.9.0.2
route add default via fd09::2
`

const peerNetwork = `
link set lo up
link add far0 mtu 1300 type veth peer name eth0 netns dpfar mtu 1300
addr add 10.9.0.2/24 dev eth0
addr add fd09::2/64 dev eth0 nodad
addr add 10.9.2.2/24 dev eth1
addr add fd09:2::2/64 dev eth1 nodad
addr add 10.9.1.1/24 dev far0
addr add fd09:1::1/64 dev far0 nodad
link set eth0 up
link set eth1 up
link set far0 up
`

const farNetwork = `
link set lo up
addr add 10.9.1.2/24 dev eth0
addr add fd09:1::2/64 dev eth0 nodad
link set eth0 up
route add default via 10.9.1.1
route add default via fd09:1::1
`

func buildNetwork() error {
	// Mounts of this process alone: names of namespaces, sysfs, bpffs.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return err
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/run/netns", "tmpfs", 0, ""); err != nil {
		return err
	}
	for _, c := range []struct{ args, in string }{
		{"netns add dppeer", ""}, {"netns add dpfar", ""},
		{"-b -", network}, {"-n dppeer -b -", peerNetwork}, {"-n dpfar -b -", farNetwork},
		{"netns exec dppeer sh", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"},
	} {
		if err := ipCommand(c.args, c.in); err != nil {
			return err
		}
	}
	return nil
}

func ipCommand(args, in string) error {
	cmd := exec.Command("ip", strings.Fields(args)...)
	cmd.Stdin = strings.NewReader(in)
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.New("ip " + args + ": " + err.Error() + ": " + string(out))
	}
	return nil
}

// ip runs an ip(8) command on the host.
func ip(t *testing.T, args string) {
	t.Helper()
	if err := ipCommand(args, ""); err != nil {
		t.Fatal(err)
	}
}

// in runs f in the named network namespace; sockets that it makes stay there.
func in(t *testing.T, ns string, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		fd, err := unix.Open("/run/netns/"+ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			_ = unix.Close(fd)
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// Addresses of the test network.
var (
	host4, host6 = netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd09::1")
	peer4, peer6 = netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fd09::2")
	far4, far6   = netip.MustParseAddr("10.9.1.2"), netip.MustParseAddr("fd09:1::2")
	any4, any6   = netip.IPv4Unspecified(), netip.IPv6Unspecified()
	lo4, lo6     = netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()
)

var testConfig = Config{PinDir: bpffs + "/dptest", Prefix: "dp"}

// open opens a datapath, and checks at the end that nothing of it is left.
func open(t *testing.T, cfg Config) *Datapath {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		t.Skip("run by TestNamespace")
	}
	d, err := Open(cfg)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() {
		if err := d.Destroy(); err != nil {
			t.Error(err)
		}
		nothingLeft(t)
	})
	return d
}

func nothingLeft(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(testConfig.PinDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("pins are left: %v", err)
	}
	names, _ := filepath.Glob("/sys/class/net/dp*")
	if len(names) > 0 {
		t.Errorf("devices are left: %v", names)
	}
	eventually(t, "programs detached", func() bool { // freed after an RCU grace period
		for _, index := range []int{1, ifindex(t, "eth0"), ifindex(t, "eth1")} {
			if programs(t, index) > 0 {
				return false
			}
		}
		return true
	})
}

func programs(t *testing.T, index int) int {
	t.Helper()
	r, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: 46 /* BPF_TCX_INGRESS */})
	if err != nil {
		t.Fatal(err)
	}
	return len(r.Programs)
}

func ifindex(t *testing.T, name string) int {
	t.Helper()
	b, err := os.ReadFile("/sys/class/net/" + name + "/ifindex")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range strings.TrimSpace(string(b)) {
		n = n*10 + int(c-'0')
	}
	return n
}

// eventually waits for what the kernel or the datapath does in its own time.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}

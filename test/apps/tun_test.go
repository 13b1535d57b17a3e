package apps

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// device makes a tun or tap device for the scene's user, persistent, up, with
// the kernel's addresses, in the scene's namespace.
func device(s *scene, name string, mode netlink.TuntapMode) {
	s.t.Helper()
	err := s.ns.do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		dev := &netlink.Tuntap{LinkAttrs: attrs, Mode: mode, Owner: uint32(s.uid), Group: uint32(s.gid), Flags: netlink.TUNTAP_DEFAULTS &^ netlink.TUNTAP_MULTI_QUEUE}
		if err := netlink.LinkAdd(dev); err != nil {
			return fmt.Errorf("add %s: %w", name, err)
		}
		if err := up(name, "10.9.0.1/24"); err != nil {
			return err
		}
		return up(name, "fd09::1/64")
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// facing makes the two ends: a is served by the stack (natively by the kernel
// of another namespace), b is the kernel of the scene's namespace.
func facing(s *scene, kind string, mode netlink.TuntapMode) (a, b *scene) {
	s.t.Helper()
	b = s.at(s.ns)
	if err := s.ns.do(func() error { return up("lo", "10.8.0.1/32") }); err != nil {
		s.t.Fatal(err)
	}
	if runner.native {
		other := newNetns(s.t)
		veth(s.t, "alp0", s.ns, "10.9.0.1/24", other, "10.9.0.2/24")
		err := s.ns.do(func() error { return up("alp0", "fd09::1/64") })
		if err == nil {
			err = other.do(func() error {
				if err := up("alp0", "fd09::2/64"); err != nil {
					return err
				}
				return netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(10, 9, 0, 1)})
			})
		}
		if err != nil {
			s.t.Fatal(err)
		}
		return s.at(other), b
	}
	device(s, "alp0", mode)
	a = s.at(s.ns, "--net", kind+":alp0", "--addr", "10.9.0.2/24", "--addr", "fd09::2/64", "--gw", "10.9.0.1")
	if st, err := os.Stat("/dev/net/tun"); err != nil {
		s.t.Fatal(err)
	} else if st.Mode()&0o006 != 0o006 && s.uid != 0 {
		// Here only root may open it; for the scene it is as most systems have it.
		tun := s.dir + "/tun"
		if err := unix.Mknod(tun, unix.S_IFCHR, int(unix.Mkdev(10, 200))); err != nil {
			s.t.Fatal(err)
		}
		if err := os.Chmod(tun, 0o666); err != nil {
			s.t.Fatal(err)
		}
		a.before = []string{"unshare", "-m", "sh", "-c", `mount --bind "$D/tun" /dev/net/tun && exec "$@"`, "sh"}
	}
	return a, b
}

// TestTun and TestTap: the stack and the kernel talk over a device that the
// user may open: nginx on each side, curl on the other, 50 MB each way.
func TestTun(t *testing.T) { faceKernel(t, "tun", netlink.TUNTAP_MODE_TUN, false) }

// TestTap is TestTun on Ethernet.
func TestTap(t *testing.T) { faceKernel(t, "tap", netlink.TUNTAP_MODE_TAP, false) }

// TestTunRoot is TestTun with alptrace run by root.
func TestTunRoot(t *testing.T) { faceKernel(t, "tun", netlink.TUNTAP_MODE_TUN, true) }

func faceKernel(t *testing.T, kind string, mode netlink.TuntapMode, root bool) {
	s := newScene(t, "nginx", "curl", "ping", "socat", "unshare")
	if s.ns == nil {
		t.Skip("needs root")
	}
	user := ""
	if root {
		s.asRoot()
		user = "user root root;\n"
	}
	s.data("www/huge", 50<<20)
	s.data("www/big", 3<<20)
	s.data("post", 10<<20)
	s.mkdir("a")
	s.mkdir("b")
	for _, side := range []string{"a", "b"} {
		s.file(side+"/nginx.conf", user+nginxConfig(s.dir+"/"+side, "8080", "[::]:8080"))
		if err := os.Symlink(s.dir+"/www", s.dir+"/"+side+"/www"); err != nil {
			t.Fatal(err)
		}
	}
	a, b := facing(s, kind, mode)
	server := func(side string) []string {
		return s.script(`
cd ` + side + `
start ` + side + ` nginx -e "$PWD/nginx.err.log" -c "$PWD/nginx.conf"
nginx=$!
n=0
until [ -e ../stop.` + side + ` ]; do sleep 0.05; n=$((n + 1)); [ $n -lt 1000 ] || fail "never stopped"; done
stop $nginx QUIT
`)
	}
	client := func(me, peer, me6, peer6, side string) string {
		return `
cd ` + side + `
until_true 60 curl -sS --fail --max-time 2 -o /dev/null http://` + peer + `:8080/whoami
equal whoami "$(curl -sS http://` + peer + `:8080/whoami)" "` + me + ` ` + peer + `:8080"
equal whoami6 "$(curl -sS http://[` + peer6 + `]:8080/whoami)" "` + me6 + ` ` + peer6 + `:8080"
equal huge "$(curl -sS --fail http://` + peer + `:8080/huge | sha256sum)" "$(sha256sum <../www/huge)"
equal big6 "$(curl -sS --fail http://[` + peer6 + `]:8080/big | sha256sum)" "$(sha256sum <../www/big)"
for i in 1 2 3 4; do curl -sS --fail -o p$i http://` + peer + `:8080/big & pids[i]=$!; done
join "${pids[@]}"
for i in 1 2 3 4; do same "parallel $i" p$i ../www/big; done
curl -sS --fail -T ../post http://` + peer + `:8080/up/from-` + side + ` || fail "PUT"
same put ../www/up/from-` + side + ` ../post
curl -s -o /dev/null http://` + peer + `:9/
equal "refused" $? 7
ping -n -c 3 -i 0.2 ` + peer + ` >ping.out || fail "ping: $(cat ping.out)"
ping -n -6 -c 2 -i 0.2 ` + peer6 + ` >ping6.out || fail "ping -6: $(cat ping6.out)"
`
	}
	pa := a.start(true, server("a")...)
	r := b.start(false, s.script(client("10.9.0.1", "10.9.0.2", "fd09::1", "fd09::2", "b"))...).wait()
	s.file("stop.a", "")
	if r.code() != 0 {
		t.Logf("server: stdout %s\nstderr %s", pa.wait().out, pa.wait().err)
	}
	s.want(r, 0)
	s.want(pa.wait(), 0)
	pb := b.start(false, server("b")...)
	a.bash(client("10.9.0.2", "10.9.0.1", "fd09::2", "fd09::1", "a") + `
equal "through the gateway" "$(curl -sS http://10.8.0.1:8080/whoami)" "10.9.0.2 10.8.0.1:8080"
`)
	s.file("stop.b", "")
	s.want(pb.wait(), 0)
}

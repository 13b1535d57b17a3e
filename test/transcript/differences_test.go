package transcript

import (
	"fmt"
	"strings"
)

// difference is a line in which a traced run must differ from a native one.
type difference struct {
	program string
	engine  string // empty: every engine
	section string // the "-- " line under which it stands; empty: anywhere
	native  string // the line as a native run prints it
	traced  string // the line in its place, "" for none
	rest    bool   // traced stands also for what follows in the section
	why     string
}

// differences names every line that must differ. An entry that does not come
// true, on either side, is a failure: the table tells what is, not what was.
var differences = []difference{
	{
		program: "io_uring", native: "io_uring_setup: ok", traced: "io_uring_setup: ENOSYS",
		why: "the socket operations of io_uring pass by seccomp, so a program that could use it would leave the stack unseen",
	},
	{
		program: "mptcp", native: "socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP): ok",
		traced: "socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP): -1 EPROTONOSUPPORT",
		why:    "no engine has Multipath TCP; the errno is that of a kernel built without it, on which programs fall back to TCP",
	},

	// An unconnected stand-in is an unconnected AF_UNIX socket. What the program
	// sends and receives on it without an address goes to the kernel untrapped.
	{
		program: "msg_flags", native: `send(s, "x", 1, MSG_NOSIGNAL): -1 EPIPE`, traced: `send(s, "x", 1, MSG_NOSIGNAL): -1 ENOTCONN`,
		why: unconnected,
	},
	{program: "msg_flags", native: "recv(s, b, 1, 0): -1 ENOTCONN", traced: "recv(s, b, 1, 0): -1 EINVAL", why: unconnected},
	{
		program: "sigpipe", section: "-- never connected", native: `write(s, "x", 1): -1 EPIPE, SIGPIPE 1`,
		traced: `write(s, "x", 1): -1 ENOTCONN, SIGPIPE 0`, why: unconnected,
	},
	{
		program: "sigpipe", section: "-- never connected", native: `send(s, "x", 1, MSG_NOSIGNAL): -1 EPIPE, SIGPIPE 0`,
		traced: `send(s, "x", 1, MSG_NOSIGNAL): -1 ENOTCONN, SIGPIPE 0`, why: unconnected,
	},
	{
		program: "sigpipe", section: "-- a listener", native: `write(s, "x", 1): -1 EPIPE, SIGPIPE 1`,
		traced: `write(s, "x", 1): -1 ENOTCONN, SIGPIPE 0`, why: unconnected,
	},
	{program: "sendfile_splice", native: "sendfile(s, f, &off, 10): -1 EPIPE", traced: "sendfile(s, f, &off, 10): -1 ENOTCONN",
		section: "-- sendfile to a socket that is not connected", why: unconnected},
	{program: "disconnect", native: `send(s, "z", 1, 0): -1 EDESTADDRREQ`, traced: `send(s, "z", 1, 0): -1 EPIPE`, why: unconnected},
	{program: "udp_connected", native: `send(s, "x", 1, 0): -1 EDESTADDRREQ`, traced: `send(s, "x", 1, 0): -1 EPIPE`, why: unconnected},
	{program: "udp_connected", native: `write(s, "x", 1): -1 EDESTADDRREQ`, traced: `write(s, "x", 1): -1 EPIPE`, why: unconnected},
	{program: "udp_connected", native: `sendto(s, "x", 1, 0, NULL, 0): -1 EDESTADDRREQ`, traced: `sendto(s, "x", 1, 0, NULL, 0): -1 EPIPE`, why: unconnected},
	{program: "udp_sizes", native: "send of 65508: -1 EMSGSIZE, nothing received", traced: "send of 65508: 65508, nothing received", why: paired},
	{program: "udp_sizes", native: "send of 65527: -1 EMSGSIZE, nothing received", traced: "send of 65527: 65527, nothing received", why: paired},
	{program: "udp_sizes", native: "send of 65528: -1 EMSGSIZE, nothing received", traced: "send of 65528: 65528, nothing received", why: paired},
	{program: "udp_sizes", native: "send of 66000: -1 EMSGSIZE, nothing received", traced: "send of 66000: 66000, nothing received", why: paired},
	{program: "ping_socket", native: "send(s, m, sizeof m, 0): -1 EINVAL", traced: "send(s, m, sizeof m, 0): 16", why: paired},
	{program: "ping_socket", native: "send(s, m, 4, 0): -1 EINVAL", traced: "send(s, m, 4, 0): 4", why: paired},
	{program: "udp_connected", native: "after sends that failed: local 0.0.0.0:eph", traced: "after sends that failed: local 0.0.0.0:0", why: unconnected},
	{program: "udp_connected", native: "after sends that failed: local [::]:eph", traced: "after sends that failed: local [::]:0", why: unconnected},
	{program: "disconnect", native: "mask: OUT ERR HUP", traced: "mask: IN OUT ERR HUP RDHUP", why: "a stand-in whose connection has ended reports the end of its input too"},

	// Errors that a native call reports are those that an AF_UNIX socket has.
	{program: "udp_refused", native: "recv(s, b, sizeof b, 0): -1 ECONNREFUSED", traced: "recv(s, b, sizeof b, 0): -1 ECONNRESET", why: ownError},
	{program: "udp_refused", native: `write(s, "3", 1): -1 ECONNREFUSED`, traced: `write(s, "3", 1): -1 ECONNRESET`, why: ownError},
	{program: "udp_refused", native: "read(s, b, sizeof b): -1 ECONNREFUSED", traced: "read(s, b, sizeof b): -1 ECONNRESET", why: ownError},
	{program: "poll_udp_states", native: "recv(t, &c, 1, MSG_DONTWAIT): -1 ECONNREFUSED", traced: "recv(t, &c, 1, MSG_DONTWAIT): -1 ECONNRESET", why: ownError},
	{program: "errqueue", native: "recv(s, b, sizeof b, MSG_DONTWAIT): -1 ECONNREFUSED", traced: "recv(s, b, sizeof b, MSG_DONTWAIT): -1 ECONNRESET", why: ownError},
	{program: "gonet", native: "refused: connection refused", traced: "refused: connection reset by peer", why: ownError},
	{
		program: "connect_nonblock", section: "-- refused, the error by read", native: "read(s, &c, 1): -1 ECONNREFUSED",
		traced: "read(s, &c, 1): -1 ECONNRESET", why: ownError,
	},

	// Urgent data.
	{program: "oob", section: "-- out of line", native: `send(p[0], "!", 1, MSG_OOB): 1`, traced: `send(p[0], "!", 1, MSG_OOB): -1 EOPNOTSUPP`, rest: true, why: urgent},
	{program: "oob", section: "-- in line", native: `send(p[0], "xy", 2, MSG_OOB): 2`, traced: `send(p[0], "xy", 2, MSG_OOB): -1 EOPNOTSUPP`, rest: true, why: urgent},
	{program: "oob", section: "-- SIGURG", native: `send(p[0], "!", 1, MSG_OOB): 1`, traced: `send(p[0], "!", 1, MSG_OOB): -1 EOPNOTSUPP`, rest: true, why: urgent},

	// The user's own stack asks for no privilege.
	{program: "socket_args", engine: "linux", native: "socket(AF_INET, SOCK_RAW, IPPROTO_ICMP): EPERM", traced: "socket(AF_INET, SOCK_RAW, IPPROTO_ICMP): domain 2 type 3 protocol 1", why: ownStack},
	{program: "socket_args", engine: "linux", native: "socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6): EPERM", traced: "socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6): domain 10 type 3 protocol 58", why: ownStack},
	{program: "bind_errors", engine: "linux", native: "privileged port: -1 EACCES", traced: "privileged port: 0", why: ownStack},
	{program: "socket_args", engine: "netstack", native: "socket(AF_INET, SOCK_RAW, IPPROTO_ICMP): EPERM", traced: "socket(AF_INET, SOCK_RAW, IPPROTO_ICMP): domain 2 type 3 protocol 1", why: ownStack},
	{program: "socket_args", engine: "netstack", native: "socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6): EPERM", traced: "socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6): domain 10 type 3 protocol 58", why: ownStack},
	{program: "bind_errors", engine: "netstack", native: "privileged port: -1 EACCES", traced: "privileged port: 0", why: ownStack},
	// What netstack does differently.
	{
		program: "connect_timeout", engine: "netstack", section: "-- TCP_USER_TIMEOUT", native: "connect(s, &to.sa, to.len): -1 ETIMEDOUT",
		traced: "connect(s, &to.sa, to.len): -1 EINPROGRESS", rest: true, why: "netstack: TCP_USER_TIMEOUT does not bound the handshake",
	},
	{
		program: "connect_timeout", engine: "netstack", section: "-- TCP_SYNCNT", native: "poll(&p, 1, 5000): 1",
		traced: "poll(&p, 1, 5000): 0", why: "netstack: TCP_SYNCNT does not bound the handshake",
	},
	{program: "connect_timeout", engine: "netstack", section: "-- TCP_SYNCNT", native: "in time", why: "netstack: TCP_SYNCNT does not bound the handshake"},
	{program: "connect_timeout", engine: "netstack", section: "-- TCP_SYNCNT", native: "SO_ERROR ETIMEDOUT", traced: "SO_ERROR 0", why: "netstack: TCP_SYNCNT does not bound the handshake"},
	{
		program: "tcp_echo", engine: "netstack",
		native: "server| local 127.0.0.5:7002 peer 127.0.0.1:eph, accepted from 127.0.0.1:eph length 16",
		traced: "server| local 127.0.0.5:7002 peer 127.0.0.5:eph, accepted from 127.0.0.5:eph length 16",
		why:    sameSource,
	},
	{program: "raw_icmp", engine: "netstack", native: "28 bytes from 127.0.0.1:0: raw data", traced: "28 bytes from 127.0.0.7:0: raw data", why: sameSource},
	{program: "raw_icmp", engine: "netstack", native: "IP_HDRINCL of IPPROTO_RAW 1", traced: "IP_HDRINCL of IPPROTO_RAW 0", why: "netstack: IP_HDRINCL is not on from the start"},
	{
		program: "bind_errors", engine: "netstack", section: "-- TCP", native: "multicast: 0", traced: "multicast: -1 EADDRNOTAVAIL",
		why: "netstack: no TCP socket binds a multicast address",
	},
	{
		program: "bind_errors", engine: "netstack", section: "-- TCP", native: "[::]:7001", traced: "[::ffff:127.0.0.1]:7001",
		why: "netstack: a TCP bind that fails leaves the address of the attempt before",
	},
	{
		program: "errqueue", engine: "netstack", section: "-- a datagram that is too large: reported locally", native: "error queue: 0",
		traced: "error queue: -1 EAGAIN", rest: true, why: "netstack: a datagram beyond 65,535 bytes is not put on the error queue",
	},

	// A stand-in reports the room in its own queue.
	{program: "epoll_edge", native: "after a small write: none", traced: "after a small write: OUT", why: ownQueue},
	{program: "epoll_edge", native: "full: none", traced: "full: OUT", why: ownQueue},
	{program: "epoll_edge", native: "drained by the peer: OUT", traced: "drained by the peer: none", why: ownQueue},

	// After a reset.
	{program: "rst", section: "-- linger 0", native: `write(p[0], "x", 1): -1 ECONNRESET`, traced: `write(p[0], "x", 1): -1 EPIPE`, why: resetWrite},
	{program: "rst", section: "-- linger 0", native: "read(p[0], b, sizeof b): 0", traced: "read(p[0], b, sizeof b): -1 ECONNRESET", why: resetWrite},
	{program: "half_close", native: "read after that: 0", traced: "read after that: -1 ECONNRESET", why: resetWrite},
}

// Reasons that several lines share.
const (
	unconnected = "a native call on an unconnected AF_UNIX socket answers so; trapping it would trap every send"
	paired      = "a UDP stand-in always has the tracer's half as its peer: a send that the socket would refuse is taken, dropped, and fails the next call"
	ownError    = "the kernel's only asynchronous error of an AF_UNIX socket is ECONNRESET; poll, SO_ERROR and trapped calls are right"
	urgent      = "no engine has urgent data"
	ownStack    = "the stack is the user's own: raw sockets and low ports in it need no privilege"
	sameSource  = "netstack: a packet to another address of 127.0.0.0/8 has that address as its source"
	ownQueue    = "AF_UNIX wakes a writer whenever its reader takes what it wrote, and the tracer reads at once"
	resetWrite  = "AF_UNIX gives a pending reset to the next read and never to a write, which fails with EPIPE"
)

// expected is the transcript that a traced run must show.
func expected(program, engine string, native []string) ([]string, error) {
	want := append([]string{}, native...)
	for _, d := range differences {
		if d.program != program || d.engine != "" && d.engine != engine {
			continue
		}
		found, skip := false, false
		section := ""
		var next []string
		for _, line := range want {
			if strings.HasPrefix(line, "-- ") {
				section, skip = line, false
			}
			switch {
			case skip:
			case line != d.native || d.section != "" && d.section != section:
				next = append(next, line)
			default:
				found, skip = true, d.rest
				if d.traced != "" {
					next = append(next, d.traced)
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("the table of differences has a line that no native run prints: %q (%s)", d.native, d.why)
		}
		want = next
	}
	return want, nil
}

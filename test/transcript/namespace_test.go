package transcript

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A program runs in a network namespace of its own, in which only the loopback
// interface is up. The test binary executes itself there first (stage), sets
// the namespace up, gives up what privilege is left, and then executes the
// program.

// stageEnv holds a stage as JSON.
const stageEnv = "ALPTRACE_TRANSCRIPT_STAGE"

// nobody is the uid and gid of programs that need no privilege.
const nobody = 65534

// stage is what to do in the new namespace.
type stage struct {
	Args []string // the program, by its path, and its arguments
	Root bool     // keep the privilege that the namespace gives
}

// sysctls make a namespace's defaults those of an untuned kernel, whatever the
// machine's own are. (tcp(7), ip(7), icmp(7))
var sysctls = map[string]string{
	"net/ipv4/ping_group_range":     "0 2147483647",
	"net/ipv4/ip_local_port_range":  "32768 60999",
	"net/ipv4/tcp_rmem":             "4096 131072 6291456",
	"net/ipv4/tcp_wmem":             "4096 16384 4194304",
	"net/ipv4/tcp_syn_retries":      "6",
	"net/ipv4/tcp_keepalive_time":   "7200",
	"net/ipv4/tcp_keepalive_intvl":  "75",
	"net/ipv4/tcp_keepalive_probes": "9",
	"net/ipv4/tcp_fin_timeout":      "60",
	"net/ipv4/ip_default_ttl":       "64",
	"net/ipv4/tcp_tw_reuse":         "2",
	"net/core/somaxconn":            "4096",
}

func TestMain(m *testing.M) {
	if text := os.Getenv(stageEnv); text != "" {
		err := runStage(text)
		fmt.Fprintln(os.Stderr, "enter the namespace:", err)
		os.Exit(125)
	}
	os.Exit(m.Run())
}

// command makes the command that runs args in a fresh namespace, as leader of
// a process group of its own that ends with the test.
func command(self string, s stage) (*exec.Cmd, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode the stage: %w", err)
	}
	cmd := exec.Command(self)
	cmd.Env = []string{stageEnv + "=" + string(text), "PATH=" + os.Getenv("PATH"), "HOME=/tmp"}
	cmd.Dir = "/tmp"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Cloneflags: syscall.CLONE_NEWNET}
	if os.Getuid() != 0 {
		inside := nobody
		if s.Root {
			inside = 0
		}
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: inside, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: inside, HostID: os.Getgid(), Size: 1}}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_ADMIN}
	}
	return cmd, nil
}

// runStage is the child's side of command; it returns only on failure.
func runStage(text string) error {
	var s stage
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return fmt.Errorf("decode the stage: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	for name, value := range sysctls {
		// Some are not there in every kernel, or not to be set without root.
		_ = os.WriteFile("/proc/sys/"+name, []byte(value), 0)
	}
	// In a user namespace only a group that it maps may be named (icmp(7)).
	gid := strconv.Itoa(os.Getgid())
	if os.Getuid() != 0 || s.Root {
		_ = os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte(gid+" "+gid), 0)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("limit core files: %w", err)
	}
	if err := dropPrivilege(s.Root); err != nil {
		return err
	}
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=/tmp", "LC_ALL=C"}
	return fmt.Errorf("execute %s: %w", s.Args[0], syscall.Exec(s.Args[0], s.Args, env))
}

// loopbackUp sets the loopback interface up (netdevice(7)).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket for the loopback interface: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// dropPrivilege becomes nobody, unless the program needs root, and clears the
// ambient capabilities, so that the next execve leaves none (capabilities(7)).
func dropPrivilege(keep bool) error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	if keep || os.Getuid() != 0 {
		return nil
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("drop groups: %w", err)
	}
	if err := syscall.Setgid(nobody); err != nil {
		return fmt.Errorf("become gid %d: %w", nobody, err)
	}
	if err := syscall.Setuid(nobody); err != nil {
		return fmt.Errorf("become uid %d: %w", nobody, err)
	}
	return nil
}

package linux

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack/linux/internal/proto"
	"github.com/alptrace/alptrace/stack/linux/vhost"
)

// kernel is a running kernel.
type kernel struct {
	dir     string // of its sockets; removed once it has booted
	log     *klog
	pid     int           // of the kernel
	alive   io.Closer     // the end of a pipe whose closing kills it
	ended   chan struct{} // closed when they have
	card    chan *net.UnixConn
	port    chan *net.UnixConn
	removal sync.Once
}

// moduleDirs are where the modules of a kernel may be; its release is put in
// place of the star.
var moduleDirs = []string{"/usr/lib/uml/modules/*", "/lib/modules/*"}

// boot starts the kernel's process.
func boot(cfg *Config) (*kernel, error) {
	path, err := exec.LookPath(cfg.Kernel)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", cfg.Kernel, errors.Unwrap(err))
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("the agent: %w", err)
	}
	if strings.ContainsAny(self, " \t\"") {
		return nil, fmt.Errorf("the agent: a kernel cannot be told of %q", self)
	}
	k := &kernel{log: &klog{to: cfg.Log}, ended: make(chan struct{})}
	if k.dir, err = os.MkdirTemp("", "alptrace-linux-"); err != nil {
		return nil, err
	}
	ok := false
	defer func() {
		if !ok {
			k.tidy()
		}
	}()
	if k.port, err = k.listen("port"); err != nil {
		return nil, err
	}
	args := []string{
		"mem=" + fmt.Sprint(cfg.Memory) + "M", "umid=k", "uml_dir=" + k.dir + "/",
		"rootfstype=hostfs", "root=/dev/root", "rootflags=/", "ro", "init=" + self,
		"con=null", "con0=null,fd:1", "panic=-1", "oops=panic", "quiet", "random.trust_bootloader=on",
		proto.EnvAgent + "=" + strings.Join(moduleDirs, ":"), "GODEBUG=asyncpreemptoff=1", "GOTRACEBACK=none",
		fmt.Sprintf("virtio_uml.device=%s/port:%d", k.dir, vhost.IDConsole),
	}
	if cfg.Link != nil {
		if k.card, err = k.listen("card"); err != nil {
			return nil, err
		}
		args = append(args, fmt.Sprintf("virtio_uml.device=%s/card:%d", k.dir, vhost.IDNet))
	}
	// HOME must be there, and TMPDIR is where the guest's memory is a file for a moment.
	env := []string{"HOME=" + k.dir, "TMPDIR=" + memoryDir(), "PATH=/usr/bin:/bin"}
	if err := k.start(path, append(args, cfg.Arguments...), env); err != nil {
		return nil, fmt.Errorf("kernel %s: %w", path, err)
	}
	ok = true
	return k, nil
}

// memoryDir is a directory in memory, if there is one for us.
func memoryDir() string {
	const shm = "/dev/shm"
	if unix.Access(shm, unix.W_OK|unix.X_OK) == nil {
		return shm
	}
	return os.TempDir()
}

// listen waits for a device's driver.
func (k *kernel) listen(name string) (chan *net.UnixConn, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(k.dir, name), Net: "unix"})
	if err != nil {
		return nil, err
	}
	c := make(chan *net.UnixConn, 1)
	go func() {
		<-k.ended
		l.Close()
	}()
	go func() {
		defer l.Close()
		if conn, err := l.AcceptUnix(); err == nil {
			c <- conn
		}
	}()
	return c, nil
}

// keeper is the shell that starts the kernel and, when this process has ended in
// whatever way, kills it with its helpers, which a death signal of the kernel's
// own process would leave behind. $HOME is the directory of the sockets. The kernel makes a process group of its own. Its first line of output is the kernel's pid.
const keeper = `"$@" </dev/null & p=$!; echo $p; exec >/dev/null 2>&1; read _; rm -rf "$HOME"; kill -KILL -$p $p 0`

// start starts the process, on one processor: a guest's system call is several
// switches between its own processes, which are dear between processors.
func (k *kernel) start(path string, args, env []string) error {
	cmd := exec.Command("/bin/sh", append([]string{"-c", keeper, "sh", path}, args...)...)
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	alive, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = w, w
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // and not unlocked: the thread ends pinned
		pin()
		started <- cmd.Start()
	}()
	err = <-started
	w.Close()
	if err != nil {
		r.Close()
		close(k.ended)
		return err
	}
	k.alive = alive
	out := bufio.NewReader(r)
	line, _ := out.ReadString('\n')
	k.pid, _ = strconv.Atoi(strings.TrimSpace(line))
	go func() {
		_, _ = io.Copy(k.log, out) // to its end, which is the kernel's
		r.Close()
		alive.Close()
		_ = cmd.Wait()
		close(k.ended)
	}()
	return nil
}

// pin keeps this thread, and what it starts, on one of the processors.
func pin() {
	var set, one unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil || set.Count() < 2 {
		return
	}
	n := (os.Getpid() + 1) % set.Count()
	for i := range len(set) * 64 {
		if !set.IsSet(i) {
			continue
		}
		if n == 0 {
			one.Set(i)
			_ = unix.SchedSetaffinity(0, &one)
			return
		}
		n--
	}
}

// tidy removes the directory.
func (k *kernel) tidy() { k.removal.Do(func() { os.RemoveAll(k.dir) }) }

// kill ends the process, and waits until it has ended.
func (k *kernel) kill() {
	_ = k.alive.Close()
	<-k.ended
	k.tidy()
}

// stopped reports whether a debugger holds the kernel, or it was stopped by a
// signal.
func (k *kernel) stopped() bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", k.pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "State:"); ok {
			v = strings.TrimSpace(v)
			return strings.HasPrefix(v, "T") || strings.HasPrefix(v, "t")
		}
	}
	return false
}

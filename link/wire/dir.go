package wire

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	suffix   = ".sock"
	tempMark = ".new-"          // before the name of a socket that does not listen yet
	tempAge  = 10 * time.Second // after which such a socket is stale if it refuses
	nameLen  = 32               // 128 random bits in hexadecimal
)

// directory is a wire's directory, held open: paths through its descriptor stay
// within it if it is renamed, and fit in a sockaddr_un however long it is.
type directory struct {
	f *os.File
}

// openDir opens the directory, made if missing, and checks that others cannot
// remove what is in it.
func openDir(path string) (*directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &st); err == nil {
		err = checkDir(&st, uint32(os.Geteuid()))
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &directory{f}, nil
}

func checkDir(st *unix.Stat_t, uid uint32) error {
	switch {
	case st.Uid != uid && st.Uid != 0:
		return fmt.Errorf("the directory belongs to user %d, who could remove what is in it: %w", st.Uid, unix.EPERM)
	case st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0:
		return fmt.Errorf("others may write in the directory (mode %#o): make it 0700: %w", st.Mode&0o7777, unix.EPERM)
	}
	return nil
}

// sockaddr is the address of the socket file in the directory.
func (d *directory) sockaddr(file string) *unix.SockaddrUnix {
	return &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/%s", d.f.Fd(), file)}
}

func (d *directory) unlink(file string) { _ = unix.Unlinkat(int(d.f.Fd()), file, 0) }

func (d *directory) close() { _ = d.f.Close() }

// listen makes this member's listening socket and shows it to the others.
func (d *directory) listen() (fd int, name string, err error) {
	var random [nameLen / 2]byte
	_, _ = rand.Read(random[:]) // never fails
	name = hex.EncodeToString(random[:])
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, "", fmt.Errorf("socket: %w", err)
	}
	if err = unix.Bind(fd, d.sockaddr(tempMark+name)); err != nil {
		err = fmt.Errorf("bind: %w", err)
	} else if err = unix.Listen(fd, backlog); err != nil {
		err = fmt.Errorf("listen: %w", err)
	} else if err = unix.Renameat(int(d.f.Fd()), tempMark+name, int(d.f.Fd()), name+suffix); err != nil {
		err = fmt.Errorf("rename: %w", err)
	}
	if err != nil {
		d.unlink(tempMark + name)
		_ = unix.Close(fd)
		return -1, "", err
	}
	return fd, name, nil
}

// members lists the names of the members, and removes what members that died
// while they joined have left.
func (d *directory) members() ([]string, error) {
	if _, err := d.f.Seek(0, 0); err != nil {
		return nil, err
	}
	files, err := d.f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range files {
		if n, ok := strings.CutSuffix(f, suffix); ok && isName(n) {
			names = append(names, n)
		} else if n, ok := strings.CutPrefix(f, tempMark); ok && isName(n) {
			d.sweepTemp(f)
		}
	}
	return names, nil
}

func isName(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == nameLen/2
}

// sweepTemp removes the socket of a member that died before it listened.
func (d *directory) sweepTemp(file string) {
	var st unix.Stat_t
	if unix.Fstatat(int(d.f.Fd()), file, &st, unix.AT_SYMLINK_NOFOLLOW) != nil ||
		time.Since(time.Unix(st.Mtim.Unix())) < tempAge {
		return
	}
	fd, err := d.dial(file)
	if errors.Is(err, unix.ECONNREFUSED) {
		d.unlink(file)
	} else if err == nil {
		_ = unix.Close(fd)
	}
}

// dial connects to a socket file. Errors: ECONNREFUSED if nobody listens,
// ENOENT, EAGAIN if the member does not accept now, EPERM if it is another
// user's.
func (d *directory) dial(file string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err = unix.Connect(fd, d.sockaddr(file)); err == nil {
		err = prepare(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("connect %s: %w", file, err)
	}
	return fd, nil
}

// prepare checks that a connection's other end is the same user's, and gives it
// room for a few packets of 64 KiB.
func prepare(fd int) error {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return err
	}
	if cred.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("member of user %d: %w", cred.Uid, unix.EPERM)
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sndbuf) // capped by net.core.wmem_max
}

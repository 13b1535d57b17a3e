package launch

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers and structs of <linux/seccomp.h>.
const (
	notifRecv    = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV
	notifSend    = 0xc0182101 // SECCOMP_IOCTL_NOTIF_SEND
	flagContinue = 1          // SECCOMP_USER_NOTIF_FLAG_CONTINUE
)

type seccompNotif struct {
	id    uint64
	pid   uint32
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

type seccompNotifResp struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// continueAll is the least tracer: it lets every trapped call continue, until
// the last filtered process has ended, and counts calls by number.
func continueAll(fd int) map[int32]int {
	runtime.LockOSThread()
	all := allSignals
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &all, nil)
	calls := map[int32]int{}
	for {
		pfd := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(pfd, -1); err != nil {
			continue
		}
		if pfd[0].Revents&unix.POLLIN == 0 {
			return calls
		}
		var n seccompNotif
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifRecv, uintptr(unsafe.Pointer(&n))); e != 0 {
			continue
		}
		calls[n.nr]++
		r := seccompNotifResp{id: n.id, flags: flagContinue}
		_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), notifSend, uintptr(unsafe.Pointer(&r)))
	}
}

// runMain is a whole small alptrace: it runs argv until its last descendant
// has ended, and ends as argv did.
func runMain(argv []string) {
	ws, err := runContinue(argv)
	var le *Error
	switch {
	case errors.As(err, &le):
		fmt.Fprintf(os.Stderr, "alptrace: %v\n", err)
		os.Exit(le.ExitCode())
	case err != nil:
		fmt.Fprintf(os.Stderr, "alptrace: %v\n", err)
		os.Exit(125)
	}
	ExitLike(ws)
}

func runContinue(argv []string) (unix.WaitStatus, error) {
	p, err := Start(Config{Argv: argv})
	if err != nil {
		return 0, err
	}
	fd, err := p.Listener()
	if errors.Is(err, ErrEnded) {
		return p.Wait()
	}
	if err != nil {
		return 0, err
	}
	go continueAll(fd)
	if err := p.Run(); errors.Is(err, ErrEnded) {
		return p.Wait()
	} else if err != nil {
		return 0, err
	}
	ws, err := p.Wait()
	<-p.Done()
	return ws, err
}

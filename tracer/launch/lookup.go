package launch

import (
	"strings"

	"golang.org/x/sys/unix"
)

// defaultPath is where execvp(3) looks if there is no PATH.
const defaultPath = "/bin:/usr/bin"

// lookPath finds a program as execvp(3) does: by itself if the name has a
// slash, else in the folders of PATH, an empty one being the current. It
// returns the path for execve(2), or an errno: EACCES if there was a file but
// none that can be executed, else ENOENT.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	path := defaultPath
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
			break
		}
	}
	denied := false
	for dir := range strings.SplitSeq(path, ":") {
		file := name
		if dir != "" {
			file = dir + "/" + name
		}
		switch executable(file) {
		case nil:
			return file, nil
		case unix.EACCES:
			denied = true
		}
	}
	if denied {
		return "", unix.EACCES
	}
	return "", unix.ENOENT
}

// executable says whether execve(2) would take the file, as far as its mode
// tells: nil or an errno.
func executable(file string) error {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.EACCES
	}
	return unix.Faccessat(unix.AT_FDCWD, file, unix.X_OK, unix.AT_EACCESS)
}

// strerror is the text of an error number as the C library has it: unlike
// Go's, it begins with a capital.
func strerror(e unix.Errno) string {
	text := e.Error()
	if text == "" {
		return text
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

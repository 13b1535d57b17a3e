package apps

import (
	"os"
	"os/user"
	"strconv"
	"strings"
	"testing"
)

// sshdConfig is a server on port 2222 with keys of its own.
const sshdConfig = `
Port 2222
ListenAddress 127.0.0.1
ListenAddress ::1
HostKey @D@/host_key
PidFile @D@/sshd.pid
AuthorizedKeysFile @D@/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
UseDNS no
MaxStartups 100
Subsystem sftp internal-sftp
`

// sshScript logs in, checks commands' output and status, copies a file both
// ways, and forwards ports both ways through the connection.
const sshScript = `
ssh-keygen -q -t ed25519 -N '' -f host_key
ssh-keygen -q -t ed25519 -N '' -f id
cp id.pub authorized_keys
{ printf '[127.0.0.1]:2222 '; cat host_key.pub; printf '[::1]:2222 '; cat host_key.pub; } >known
cat >ssh.conf <<END
Host *
  Port 2222
  User $(id -un)
  IdentityFile $D/id
  IdentitiesOnly yes
  UserKnownHostsFile $D/known
  StrictHostKeyChecking yes
  BatchMode yes
  LogLevel ERROR
END
start sshd /usr/sbin/sshd -D -e -f "$D/sshd.conf"
sshd=$!
listening 2222
go() { ssh -F ssh.conf "$@"; }
equal "remote id" "$(go 127.0.0.1 id -u)" "$(id -u)"
equal "remote address" "$(go ::1 'echo $SSH_CONNECTION' | cut -d' ' -f1,3,4)" "::1 ::1 2222"
go 127.0.0.1 'exit 42'
equal "remote status" $? 42
go 127.0.0.1 cat <sent >back || fail "cat through ssh"
same "through ssh" back sent
scp -q -F ssh.conf sent "127.0.0.1:$D/put" || fail "scp to"
same "scp to" put sent
scp -q -O -F ssh.conf "127.0.0.1:$D/sent" got || fail "scp from"
same "scp from" got sent
if [ $(id -u) = 0 ]; then # another user may not give the terminal away
	go -tt 127.0.0.1 'stty size; tty' </dev/null | tr -d '\r' >tty.out || fail "remote terminal"
grep -q /dev/pts/ tty.out || fail "no remote terminal: $(cat tty.out)"
fi
for i in 1 2 3 4 5; do go 127.0.0.1 "echo number $i; sha256sum $D/sent" >n$i & pids[i]=$!; done
join "${pids[@]}"
for i in 1 2 3 4 5; do equal "login $i" "$(cat n$i)" "number $i
$(sha256sum $D/sent)"; done
# -L: a port here leads to the server's own port 2222; log in through it.
start tunnel ssh -F ssh.conf -N -L 127.0.0.1:2223:127.0.0.1:2222 -R 127.0.0.1:2224:127.0.0.1:2222 127.0.0.1
tunnel=$!
listening 2223
equal "through -L" "$(go -p 2223 -o HostKeyAlias=[127.0.0.1]:2222 127.0.0.1 echo inner)" inner
listening 2224
equal "through -R" "$(go -p 2224 -o HostKeyAlias=[127.0.0.1]:2222 127.0.0.1 echo reverse)" reverse
stop $tunnel
go -o PubkeyAuthentication=no 127.0.0.1 true 2>/dev/null
equal "without a key" $? 255
stop $sshd
`

// TestSSH: sshd of an unprivileged user who has a shell.
func TestSSH(t *testing.T) {
	s := newScene(t, "sshd", "ssh", "scp", "ssh-keygen")
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres") // a system user with a shell
		if err != nil {
			t.Fatalf("%v: it comes with the Debian package postgresql", err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.as(uid, gid)
	}
	s.data("sent", 5<<20)
	s.file("sshd.conf", strings.ReplaceAll(sshdConfig, "@D@", s.dir))
	s.bash(sshScript)
}

// TestSSHRoot: sshd of root, with privilege separation: chroot, another uid
// and a seccomp filter of its own for the process that talks to the network.
func TestSSHRoot(t *testing.T) {
	s := newScene(t, "sshd", "ssh", "scp", "ssh-keygen")
	s.asRoot()
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // compiled into sshd
		t.Fatal(err)
	}
	s.data("sent", 5<<20)
	s.file("sshd.conf", strings.ReplaceAll(sshdConfig, "@D@", s.dir))
	s.bash(sshScript)
}

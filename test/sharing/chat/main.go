// Command chat keeps a TCP connection busy and says so: its tests kill what
// serves it, or its neighbours, and look who goes on.
//
//	chat serve ADDR:PORT    echo, every connection
//	chat talk ADDR:PORT     send numbers and check their echo, until the end
//
// talk prints a line for every hundredth number, and exits 1 when the
// connection fails.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: chat serve|talk ADDR:PORT")
		os.Exit(2)
	}
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve(os.Args[2])
	case "talk":
		err = talk(os.Args[2])
	default:
		err = fmt.Errorf("no such verb: %s", os.Args[1])
	}
	fmt.Fprintln(os.Stderr, "chat:", err)
	os.Exit(1)
}

func serve(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}()
	}
}

// pause is the time between two numbers.
const pause = 2 * time.Millisecond

func talk(addr string) error {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var out, in [1024]byte
	for n := uint64(1); ; n++ {
		binary.BigEndian.PutUint64(out[:], n)
		if _, err := c.Write(out[:]); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, in[:]); err != nil {
			return fmt.Errorf("echo %d: %w", n, err)
		}
		if in != out {
			return fmt.Errorf("echo %d is %d", n, binary.BigEndian.Uint64(in[:]))
		}
		if n%100 == 0 {
			fmt.Println(n)
		}
		time.Sleep(pause)
	}
}

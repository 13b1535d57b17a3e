// Gopair is an HTTP server and its client, for the test of static Go programs.
//
//	gopair server|client FILE
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	if os.Args[1] == "server" {
		serve(os.Args[2])
		return
	}
	big, err := os.ReadFile(os.Args[2])
	check("read the file", err)
	plain(big)
	http2(big)
	packets(big)
	raw(big)
}

func check(what string, err error) {
	if err != nil {
		log.Fatalf("%s: %v", what, err)
	}
}

// serve serves FILE (by sendfile), sums of what is posted, and an echo on
// port 8001 (by splice); SIGTERM shuts it down gracefully.
func serve(file string) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /big", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })
	mux.HandleFunc("POST /sum", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		_, _ = io.Copy(h, r.Body)
		_, _ = w.Write(h.Sum(nil))
	})
	mux.HandleFunc("GET /who", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) })
	echo, err := net.Listen("tcp", "127.0.0.1:8001")
	check("listen", err)
	go func() {
		for {
			c, err := echo.Accept()
			check("accept", err)
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	srv := &http.Server{Addr: ":8000", Handler: mux}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	done := make(chan error, 1)
	go func() {
		<-stop
		done <- srv.Close()
	}()
	if err := srv.ListenAndServe(); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	check("close", <-done)
}

// plain fetches with many connections over both families.
func plain(big []byte) {
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			host := []string{"127.0.0.1", "[::1]", "localhost"}[i%3]
			r, err := http.Get("http://" + host + ":8000/big")
			check("get", err)
			defer r.Body.Close()
			b, err := io.ReadAll(r.Body)
			check("read the body", err)
			if !bytes.Equal(b, big) {
				log.Fatalf("body of %d bytes differs", len(b))
			}
			part := big[:i*20000]
			r, err = http.Post("http://"+host+":8000/sum", "application/octet-stream", bytes.NewReader(part))
			check("post", err)
			defer r.Body.Close()
			sum, err := io.ReadAll(r.Body)
			check("read the sum", err)
			if want := sha256.Sum256(part); !bytes.Equal(sum, want[:]) {
				log.Fatalf("sum of %d bytes differs", len(part))
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for range 50 {
		r, err := http.Get("http://127.0.0.1:8000/who")
		check("get", err)
		b, err := io.ReadAll(r.Body)
		check("read", err)
		r.Body.Close()
		seen[string(b)] = true
	}
	if len(seen) > 2 { // the pool keeps two idle ones (http.DefaultMaxIdleConnsPerHost)
		log.Fatalf("50 requests in a row used %d connections", len(seen))
	}
	fmt.Println("http ok")
}

// http2 runs a TLS server with HTTP/2 in the client's own process.
func http2(big []byte) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Proto", r.Proto)
		_, _ = w.Write(big)
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			r, err := srv.Client().Get(srv.URL)
			check("get by TLS", err)
			defer r.Body.Close()
			b, err := io.ReadAll(r.Body)
			check("read by TLS", err)
			if p := r.Header.Get("X-Proto"); p != "HTTP/2.0" || !bytes.Equal(b, big) {
				log.Fatalf("%s, %d bytes", p, len(b))
			}
		})
	}
	wg.Wait()
	fmt.Println("http2 ok")
}

// packets exchanges datagrams, with deadlines.
func packets(big []byte) {
	a, err := net.ListenPacket("udp", "127.0.0.1:0")
	check("listen", err)
	b, err := net.Dial("udp", a.LocalAddr().String())
	check("dial", err)
	buf := make([]byte, 65536)
	for i := range 30 {
		_, err := b.Write(big[:i*200])
		check("write", err)
		check("deadline", a.SetReadDeadline(time.Now().Add(5*time.Second)))
		n, from, err := a.ReadFrom(buf)
		check("read", err)
		if from.String() != b.LocalAddr().String() || !bytes.Equal(buf[:n], big[:i*200]) {
			log.Fatalf("datagram %d: %d bytes from %v", i, n, from)
		}
	}
	check("deadline", a.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	if _, _, err := a.ReadFrom(buf); err == nil || !err.(net.Error).Timeout() {
		log.Fatalf("read past the deadline: %v", err)
	}
	fmt.Println("udp ok")
}

// raw speaks to the echo server, with half-close, and closes under a reader.
func raw(big []byte) {
	c, err := net.Dial("tcp", "127.0.0.1:8001")
	check("dial", err)
	go func() {
		_, err := c.Write(big)
		check("write", err)
		check("half-close", c.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(c)
	check("read", err)
	if !bytes.Equal(got, big) {
		log.Fatalf("echo of %d bytes differs", len(got))
	}
	check("close", c.Close())
	c, err = net.Dial("tcp", "127.0.0.1:8001")
	check("dial", err)
	go func() {
		time.Sleep(50 * time.Millisecond)
		c.Close()
	}()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		log.Fatal("read from a closed connection succeeded")
	}
	if _, err := net.Dial("tcp", "127.0.0.1:1"); err == nil {
		log.Fatal("connected to nothing")
	}
	fmt.Println("tcp ok")
}

// Gohttp is an HTTP server and many clients of it in one static program, over
// IPv4, IPv6 and a Unix-domain socket, with keep-alive, large bodies, aborted
// requests and a graceful end.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	time.AfterFunc(25*time.Second, func() { fmt.Println("too slow"); os.Exit(9) })
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		if err := run(address); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})
	mux.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(bytes.Repeat([]byte("0123456789abcdef"), 64<<10))
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	})
	return mux
}

func run(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: handler()}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	base := "http://" + l.Addr().String()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 10 * time.Second}

	var good atomic.Int64
	var wg sync.WaitGroup
	for g := range 50 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 20 {
				text := fmt.Sprintf("goroutine %d request %d", g, i)
				if body, err := post(client, base+"/echo", text); err == nil && body == text {
					good.Add(1)
				}
			}
		}()
	}
	wg.Wait()
	fmt.Println("echoed:", good.Load(), "of 1000")

	resp, err := client.Get(base + "/big")
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(h, resp.Body)
	resp.Body.Close()
	fmt.Printf("big: %d bytes, %x, %v\n", n, h.Sum(nil)[:8], err)

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/slow", nil)
	if err != nil {
		return err
	}
	resp, err = client.Do(req)
	if err == nil {
		resp.Body.Close()
	}
	fmt.Println("slow request given up:", err != nil && ctx.Err() == context.DeadlineExceeded)

	client.CloseIdleConnections()
	end, stop := context.WithTimeout(context.Background(), 5*time.Second)
	defer stop()
	fmt.Println("graceful end:", srv.Shutdown(end), <-done)
	_, err = net.Dial("tcp", l.Addr().String())
	fmt.Println("dial afterwards refused:", err != nil)
	return nil
}

func post(c *http.Client, url, text string) (string, error) {
	resp, err := c.Post(url, "text/plain", bytes.NewBufferString(text))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

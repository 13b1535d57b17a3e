package ui

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Config says what a server shows and where.
type Config struct {
	Addr  netip.AddrPort // on loopback; see ParseAddr
	Title string         // of the page: what runs
	Log   *slog.Logger   // diagnostics; nil is silent
}

// Server serves the page.
type Server struct {
	cfg   Config
	log   *slog.Logger
	token string
	ln    net.Listener
	http  *http.Server
	start time.Time

	mu    sync.Mutex // guards the lists while hosts and links are added
	hosts []*Host
	links []*Link

	pages  pages
	finish chan string   // how the run ended
	done   chan struct{} // closed when the server's goroutine has ended

	// Of the server's goroutine.
	tick int
	end  string // how the run ended
}

// Listen begins to serve. Errors are those of listen(2): the address is in use.
func Listen(cfg Config) (*Server, error) {
	ln, err := listen(cfg.Addr)
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, token: newToken(), ln: ln, start: time.Now(),
		finish: make(chan string, 1), done: make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	go func() { _ = s.http.Serve(ln) }()
	go s.loop()
	return s, nil
}

// URL is the page's, with the token.
func (s *Server) URL() string {
	return "http://" + s.ln.Addr().String() + "/" + s.token + "/"
}

// addHost and addLink show a host and a link.
func (s *Server) addHost(h *Host) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.id = len(s.hosts)
	s.hosts = append(s.hosts, h)
	s.pages.restart()
}

func (s *Server) addLink(l *Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.id = len(s.links)
	s.links = append(s.links, l)
	s.pages.restart()
}

// Watched tells whether a page is open.
func (s *Server) Watched() bool { return s.pages.count() > 0 }

// Close ends the server. Pages that are open show the last state, and how the
// run ended ("exit status 0"); they are given a moment to receive that.
func (s *Server) Close(how string) {
	s.finish <- how
	<-s.done
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	s.pages.drain(ctx)
	_ = s.http.Close()
}

// closeTime is how long open pages may take to receive the last state.
const closeTime = 500 * time.Millisecond

// loop takes the state, tick by tick.
func (s *Server) loop() {
	defer close(s.done)
	t := time.NewTicker(time.Second / ticksPerSecond)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case s.end = <-s.finish:
			s.update()
			return
		}
		s.update()
	}
}

// update takes the state and tells the pages.
func (s *Server) update() {
	s.mu.Lock()
	hosts, links := s.hosts, s.links
	s.mu.Unlock()
	f := frame{Tick: s.tick, At: time.Since(s.start).Seconds(), End: s.end}
	for _, h := range hosts {
		f.Hosts = append(f.Hosts, h.update(s.tick, time.Since(s.start), s.end != ""))
	}
	for _, l := range links {
		l.update(time.Since(s.start))
		lf := linkFrame{linkRow: l.row, New: l.collect()}
		l.name(lf.New, hosts)
		f.Links = append(f.Links, lf)
	}
	s.tick++
	s.pages.send(&f, func() any { return s.hello(hosts, links) })
}

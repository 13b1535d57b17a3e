package ui

import (
	"crypto/subtle"
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

//go:embed page
var pageFiles embed.FS

// policy lets the page use what is its own and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// handler answers requests: see the package comment on who may.
func (s *Server) handler() http.Handler {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil {
		panic(err) // the name of an embedded folder
	}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServerFS(files))
	mux.HandleFunc("GET /events", s.events)
	mux.HandleFunc("POST /impair", s.post(func(o *order) error {
		l, err := s.link(o.Link)
		if err != nil {
			return err
		}
		return l.set(o.Dir, o.Spec)
	}))
	mux.HandleFunc("POST /link", s.post(func(o *order) error {
		l, err := s.link(o.Link)
		if err != nil {
			return err
		}
		return l.control(o.Do, o.Dir)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		if !loopbackHost(r.Host) {
			http.Error(w, "this page is served to loopback only", http.StatusForbidden)
			return
		}
		token, rest, slash := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		if subtle.ConstantTimeCompare([]byte(token), []byte(s.token)) != 1 {
			http.Error(w, "the token in the URL is missing or wrong: alptrace prints the whole URL when it starts", http.StatusForbidden)
			return
		}
		if !slash {
			http.Redirect(w, r, "/"+token+"/", http.StatusMovedPermanently)
			return
		}
		if !sameSite(r) {
			http.Error(w, "asked for by another site", http.StatusForbidden)
			return
		}
		r2 := r.Clone(r.Context())
		r2.URL = &url.URL{Path: "/" + rest, RawQuery: r.URL.RawQuery}
		mux.ServeHTTP(w, r2)
	})
}

// sameSite tells whether the request does not come from another site's page, as
// far as the browser tells (Fetch Metadata, Origin).
func sameSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site": // another port of this machine is "same-site"
		return r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate"
	}
	origin := r.Header.Get("Origin")
	return origin == "" || origin == "http://"+r.Host
}

// order is the body of a POST.
type order struct {
	Link string `json:"link"`
	Dir  string `json:"dir"`  // in, out or both
	Spec string `json:"spec"` // impairments
	Do   string `json:"do"`   // pause, resume, step or drop
}

// post answers a POST of an order in JSON: with 204, or the error as text.
func (s *Server) post(f func(*order) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
			http.Error(w, "want application/json", http.StatusUnsupportedMediaType)
			return
		}
		var o order
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 8<<10))
		d.DisallowUnknownFields()
		if err := d.Decode(&o); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		switch err := f(&o); {
		case errors.Is(err, errNothing):
			http.Error(w, err.Error(), http.StatusConflict)
		case err != nil:
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	}
}

// link finds a link by its name.
func (s *Server) link(name string) (*Link, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		if l.cfg.Name == name {
			return l, nil
		}
	}
	return nil, errors.New("there is no such link")
}

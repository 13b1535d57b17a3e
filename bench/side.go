package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/vishvananda/netns"

	"github.com/alptrace/alptrace/bench/result"
)

// side is one of the two that are compared: a stack that serves the subject,
// and the way from there to the peer, which always uses the kernel's stack.
type side struct {
	name    string
	wrap    []string // what stands before the subject's command
	ns      netns.NsHandle
	subject string // the subject's address
	peer    string // the peer's address as the subject sees it
}

// bench is what every measurement needs.
type bench struct {
	ctx      context.Context
	lab      *lab
	load     string  // path of the load program
	alptrace string  // path of alptrace, empty when it is not what is measured
	rootd    *daemon // of -link host
	kernel   side
	tested   side
	port     int // the last port given out
}

// nextPort gives each run a port of its own, so that none meets what another
// left in TIME_WAIT.
func (b *bench) nextPort() int {
	b.port++
	return b.port
}

// startSubject starts the load program on a side; startPeer at the other end.
func (b *bench) startSubject(s side, args []string) (*process, error) {
	return start(b.ctx, s.ns, append(append([]string{}, s.wrap...), append([]string{b.load}, args...)...))
}

func (b *bench) startPeer(args []string) (*process, error) {
	return start(b.ctx, b.lab.peer, append([]string{b.load}, args...))
}

// endpoints says which load runs where in a pair of one server, which
// listens, and one client.
type endpoints struct {
	server, client   []string // load and flags, without the address
	subjectIsServer  bool
	readServerResult bool // the server's result is the one that counts
}

// pair runs a server and a client, one under test on the side s and one at the
// peer, to their ends.
func (b *bench) pair(s side, e endpoints) (result.Load, error) {
	serverIP, clientStart := s.peer, func(a []string) (*process, error) { return b.startSubject(s, a) }
	serverStart := b.startPeer
	if e.subjectIsServer {
		serverIP = s.subject
		serverStart, clientStart = clientStart, b.startPeer
	}
	addr := serverIP + ":" + strconv.Itoa(b.nextPort())
	server, err := serverStart(append(append([]string{}, e.server...), "-listen", addr))
	if err != nil {
		return result.Load{}, err
	}
	defer server.stop()
	if err := server.expect("ready"); err != nil {
		return result.Load{}, fmt.Errorf("server: %w", err)
	}
	client, err := clientStart(append(append([]string{}, e.client...), "-connect", addr))
	if err != nil {
		return result.Load{}, err
	}
	defer client.stop()
	return b.finish(server, client, e.readServerResult)
}

// udpPair runs a sink and a source of datagrams and returns what the sink saw.
func (b *bench) udpPair(s side, subjectSends bool, flags []string) (result.Load, error) {
	subject := s.subject + ":" + strconv.Itoa(b.nextPort())
	peer := s.peer + ":" + strconv.Itoa(b.nextPort())
	subjectArgs := append([]string{"udp-sink", "-listen", subject, "-peer", peer}, flags...)
	peerArgs := append([]string{"udp-source", "-listen", peer, "-peer", subject}, flags...)
	startSubject := func(a []string) (*process, error) { return b.startSubject(s, a) }
	sinkStart, sinkArgs, sourceStart, sourceArgs := startSubject, subjectArgs, b.startPeer, peerArgs
	if subjectSends {
		subjectArgs[0], peerArgs[0] = "udp-source", "udp-sink"
		sinkStart, sinkArgs, sourceStart, sourceArgs = b.startPeer, peerArgs, startSubject, subjectArgs
	}
	sink, err := sinkStart(sinkArgs)
	if err != nil {
		return result.Load{}, err
	}
	defer sink.stop()
	if err := sink.expect("ready"); err != nil {
		return result.Load{}, fmt.Errorf("sink: %w", err)
	}
	source, err := sourceStart(sourceArgs)
	if err != nil {
		return result.Load{}, err
	}
	defer source.stop()
	return b.finish(sink, source, true)
}

// finish waits for both ends and returns the result of one of them.
func (b *bench) finish(server, client *process, readServer bool) (result.Load, error) {
	clientErr := client.wait()
	if clientErr != nil {
		server.stop()
		return result.Load{}, errors.Join(clientErr, b.ctx.Err())
	}
	if err := server.wait(); err != nil {
		return result.Load{}, err
	}
	if readServer {
		return server.load, nil
	}
	return client.load, nil
}

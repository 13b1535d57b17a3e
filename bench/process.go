package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netns"

	"github.com/alptrace/alptrace/bench/result"
)

// runLimit bounds the time of any one process of a measurement.
const runLimit = 30 * time.Second

// process is a running load program, natively or under alptrace.
type process struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	words  chan string // lines of standard output that are no result
	done   chan error  // how it ended
	load   result.Load // set once done
	stderr bytes.Buffer
	cancel context.CancelFunc
}

// start runs argv in the namespace ns. The process dies with ctx, with the
// thread that started it, and after runLimit.
func start(ctx context.Context, ns netns.NsHandle, argv []string) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	p := &process{words: make(chan string, 16), done: make(chan error, 1), cancel: cancel}
	p.cmd = exec.CommandContext(ctx, argv[0], argv[1:]...)
	p.cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
	p.cmd.Stderr = &p.stderr
	p.cmd.WaitDelay = time.Second
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		cancel()
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	// A process dies with the thread that started it (PDEATHSIG), so this one
	// stays for as long as the process does.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		err := within(ns, func() error {
			err := p.cmd.Start()
			started <- err
			if err != nil {
				return nil
			}
			p.listen(out)
			return p.end(argv)
		})
		select {
		case started <- err: // the namespace could not be entered
		default:
		}
		p.done <- err
		cancel()
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", strings.Join(argv, " "), err)
	}
	return p, nil
}

// listen reads standard output to its end: results into p.load, words into p.words.
func (p *process) listen(out io.Reader) {
	defer close(p.words)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "{") {
			if err := json.Unmarshal(lines.Bytes(), &p.load); err == nil {
				continue
			}
		}
		select {
		case p.words <- lines.Text():
		default: // nobody listens to so many words
		}
	}
}

// end waits for the process, and makes its last words part of the error.
func (p *process) end(argv []string) error {
	err := p.cmd.Wait()
	if err == nil {
		return nil
	}
	if text := strings.TrimSpace(p.stderr.String()); text != "" {
		if len(text) > 400 {
			text = "..." + text[len(text)-400:]
		}
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, text)
	}
	return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
}

// expect waits until the process says the word.
func (p *process) expect(word string) error {
	for w := range p.words {
		if w == word {
			return nil
		}
	}
	err := p.wait()
	if err == nil {
		err = errors.New("it ended")
	}
	return fmt.Errorf("waiting for %q: %w", word, err)
}

// tell writes a line to the process's standard input.
func (p *process) tell(line string) error {
	_, err := io.WriteString(p.in, line+"\n")
	return err
}

// wait waits for the process to end by itself.
func (p *process) wait() error {
	err := <-p.done
	p.done <- err
	return err
}

// stop ends the process, by force if it still runs.
func (p *process) stop() {
	p.cancel()
	_ = p.wait()
}

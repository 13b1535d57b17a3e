package ui

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/alptrace/alptrace/fdtable"
)

// Bounds of what is shown of processes.
const (
	maxProcesses = 200
	maxExited    = 50
)

// processRow is a process as the page has it.
type processRow struct {
	PID     int     `json:"pid"`
	Parent  int     `json:"ppid"`
	Name    string  `json:"name"` // comm
	Command string  `json:"cmd"`
	State   string  `json:"state"` // as proc(5) has it; "" when it has ended
	CPU     float64 `json:"cpu"`   // seconds, user and system
	RSS     int     `json:"rss"`   // bytes
	Threads int     `json:"threads"`
}

// processes follows a tree of processes.
type processes struct {
	parents map[int]int // of the roots: whoever started them, and inherits orphans
	rows    map[int]*processRow
	exited  []int       // oldest first
	groups  map[int]int // process by thread
	found   bool        // a process, beside update
}

func newProcesses() *processes {
	return &processes{parents: map[int]int{}, rows: map[int]*processRow{}, groups: map[int]int{}}
}

// update looks at the roots and their descendants, orphans that their parents
// inherited included, and reports whether anything changed.
func (p *processes) update(firsts []int) (changed bool) {
	changed, p.found = p.found, false
	alive := map[int]bool{}
	var roots []int
	for _, pid := range firsts {
		if p.parents[pid] == 0 {
			if st, ok := readStat(pid); ok {
				p.parents[pid] = st.parent
			}
		}
		if parent := p.parents[pid]; parent != 0 {
			roots = append(roots, childrenOf(parent)...)
		}
	}
	for i := 0; i < len(roots) && len(alive) < maxProcesses; i++ {
		pid := roots[i]
		if alive[pid] {
			continue
		}
		st, ok := readStat(pid)
		if !ok {
			continue
		}
		alive[pid] = true
		row := processRow{PID: pid, Parent: st.parent, Name: st.name, State: st.state, CPU: st.cpu, RSS: st.rss, Threads: st.threads}
		if was := p.rows[pid]; was != nil && was.Name == row.Name && was.Command != "" {
			row.Command = was.Command
		} else {
			row.Command = commandLine(pid)
		}
		if was := p.rows[pid]; was == nil || *was != row {
			p.rows[pid] = &row
			changed = true
		}
		roots = append(roots, childrenOf(pid)...)
	}
	for pid, row := range p.rows {
		if !alive[pid] && row.State != "" {
			row.State = ""
			p.exited = append(p.exited, pid)
			changed = true
		}
	}
	for len(p.exited) > maxExited {
		if row := p.rows[p.exited[0]]; row != nil && row.State == "" {
			delete(p.rows, p.exited[0])
		}
		p.exited = p.exited[1:]
	}
	if len(p.groups) > 4096 {
		clear(p.groups)
	}
	return changed
}

// end marks all as ended.
func (p *processes) end() {
	for _, row := range p.rows {
		row.State = ""
	}
}

func (p *processes) all() []processRow {
	rows := make([]processRow, 0, len(p.rows))
	for _, r := range p.rows {
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(a, b processRow) int { return a.PID - b.PID })
	return rows
}

// of is the process of a thread.
func (p *processes) of(tid int) int {
	if pid, ok := p.groups[tid]; ok {
		return pid
	}
	pid, err := fdtable.Tgid(tid)
	if err != nil {
		pid = tid // it has ended
	}
	p.groups[tid] = pid
	if p.rows[pid] == nil && len(p.parents) > 0 { // it may be gone when update looks
		if st, ok := readStat(pid); ok {
			p.rows[pid] = &processRow{PID: pid, Parent: st.parent, Name: st.name, Command: commandLine(pid), State: st.state, CPU: st.cpu, RSS: st.rss, Threads: st.threads}
			p.found = true
		}
	}
	return pid
}

// process is the process of a thread.
func (h *Host) process(tid int) int {
	if h.procs == nil || tid == 0 {
		return tid
	}
	return h.procs.of(tid)
}

// stat is what /proc/PID/stat says (proc(5)).
type stat struct {
	name, state  string
	parent       int
	cpu          float64
	threads, rss int
}

func readStat(pid int) (stat, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, false
	}
	return parseStat(string(b))
}

// Fields of /proc/PID/stat behind the name, counted from its state, and
// USER_HZ.
const (
	statState, statParent, statUser, statSystem, statThreads, statRSS = 0, 1, 11, 12, 17, 21

	userHZ = 100
)

func parseStat(s string) (stat, bool) {
	open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
	if open < 0 || end < open {
		return stat{}, false
	}
	f := strings.Fields(s[end+1:])
	if len(f) <= statRSS {
		return stat{}, false
	}
	n := func(i int) int { v, _ := strconv.Atoi(f[i]); return v }
	return stat{
		name: s[open+1 : end], state: f[statState], parent: n(statParent),
		cpu:     float64(n(statUser)+n(statSystem)) / userHZ,
		threads: n(statThreads), rss: n(statRSS) * os.Getpagesize(),
	}, true
}

// childrenOf lists the children of the threads of a process, or of the first of
// very many threads.
func childrenOf(pid int) (all []int) {
	dir := "/proc/" + strconv.Itoa(pid) + "/task"
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	threads, _ := d.Readdirnames(100) // none: it has just ended
	for _, t := range threads {
		b, err := os.ReadFile(dir + "/" + t + "/children")
		if err != nil {
			continue
		}
		for _, w := range bytes.Fields(b) {
			if n, err := strconv.Atoi(string(w)); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}

// commandLine is what the process was started with, as far as it is short.
func commandLine(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return ""
	}
	return clip(string(bytes.ReplaceAll(bytes.TrimRight(b, "\x00"), []byte{0}, []byte{' '})), 200)
}

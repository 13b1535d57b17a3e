package lab_test

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestLabPage: the page of a lab shows every host with its sockets and processes,
// and every link, whose impairment it changes.
func TestLabPage(t *testing.T) {
	b := newBench(t, "curl", "python3")
	page := newBrowser(t)
	c := b.command("up", "--ui", "0", "-q", "-o", "run", "dumbbell.toml")
	errs, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	lines := bufio.NewScanner(errs)
	url := ""
	for url == "" && lines.Scan() {
		url = regexp.MustCompile(`http://\S+`).FindString(lines.Text())
	}
	if url == "" {
		t.Fatal("no page")
	}
	page.run(chromedp.Navigate(url))
	options := func(sel string) []string {
		return eval[[]string](page, `[...document.querySelectorAll('`+sel+` option')].map(o => o.innerText)`)
	}
	choose := func(sel, text string) {
		eval[bool](page, `(s => { s.value = [...s.options].find(o => o.innerText.includes("`+text+`")).value; s.dispatchEvent(new Event("change", {bubbles: true})); return true })(document.querySelector("`+sel+`"))`)
	}
	page.until(10*time.Second, "the hosts", func() bool {
		hosts := strings.Join(options("#host"), " ")
		return strings.Contains(hosts, "client1") && strings.Contains(hosts, "server4")
	})
	if links := options("#link"); len(links) < 9 || !slices.ContainsFunc(links, func(s string) bool { return strings.Contains(s, "bottleneck") }) {
		t.Errorf("links %q", links)
	}
	for host, program := range map[string]string{"client2": "curl", "server3": "python3"} {
		choose("#host", host)
		page.until(5*time.Second, program+" of "+host, func() bool {
			return strings.Contains(page.text("#sockets"), program) && strings.Contains(page.text("#processes"), program)
		})
	}
	choose("#link", "bottleneck")
	page.until(5*time.Second, "the bottleneck's impairment", func() bool {
		return eval[string](page, `document.querySelector("#spec").value`) == "delay=10ms rate=20mbit queue=40p"
	})
	page.shot("lab")
	eval[bool](page, `(s => { s.value = "rate=200mbit delay=1ms"; s.dispatchEvent(new Event("input", {bubbles: true})); return true })(document.querySelector("#spec"))`)
	eval[bool](page, `(document.querySelector("#apply").click(), true)`)
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(filepath.Join(b.dir, "run", "summary.txt")); err != nil || !regexp.MustCompile(`bottleneck .* delay=1ms rate=200mbit`).Match(got) {
		t.Errorf("the link was not changed (%v):\n%s", err, got)
	}
	page.until(5*time.Second, "the end", func() bool { return page.text("#status") == "ended: all programs have ended" })
}

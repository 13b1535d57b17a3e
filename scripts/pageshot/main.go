// Command pageshot makes a picture of a run's live page, a while after it was
// opened: pageshot URL PNG.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/chromedp/chromedp"
)

func main() {
	after := flag.Duration("after", 3*time.Second, "how long to look at the page before")
	host := flag.String("host", "", "the host to choose")
	link := flag.String("link", "", "the link to choose")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: pageshot [flags] URL PNG")
		os.Exit(2)
	}
	if err := shoot(flag.Arg(0), flag.Arg(1), *after, map[string]string{"#host": *host, "#link": *link}); err != nil {
		fmt.Fprintln(os.Stderr, "pageshot:", err)
		os.Exit(1)
	}
}

// shoot opens the page, chooses, looks at it, and writes the picture.
func shoot(url, file string, after time.Duration, choices map[string]string) error {
	profile, err := os.MkdirTemp("", "pageshot-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(profile)
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(1280, 800), chromedp.UserDataDir(profile))
	alloc, cancelAlloc := chromedp.NewExecAllocator(context.Background(), opts...)
	defer cancelAlloc()
	ctx, cancel := chromedp.NewContext(alloc)
	defer cancel()
	ctx, cancelTime := context.WithTimeout(ctx, after+30*time.Second)
	defer cancelTime()
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 800), chromedp.Navigate(url)); err != nil {
		return err
	}
	time.Sleep(after / 3) // hosts and links appear
	for sel, name := range choices {
		if name == "" {
			continue
		}
		js := fmt.Sprintf(`(s => { s.value = [...s.options].find(o => o.innerText.includes(%q)).value; s.dispatchEvent(new Event("change", {bubbles: true})); return true })(document.querySelector(%q))`, name, sel)
		if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](js)); err != nil {
			return fmt.Errorf("choose %s: %w", name, err)
		}
	}
	time.Sleep(after - after/3)
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		return err
	}
	return os.WriteFile(file, png, 0o644)
}

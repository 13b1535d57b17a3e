// Command rdptrace is alptrace(1) with one more transport protocol. What
// "alplab build --with" makes is the same.
package main

import (
	"github.com/alptrace/alptrace/command"

	_ "github.com/alptrace/alptrace/examples/rdp"
)

func main() { command.Main() }

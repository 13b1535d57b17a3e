// Command mytrace is alptrace(1) with one more congestion control. What
// "alplab build --with" makes is the same.
package main

import (
	"github.com/alptrace/alptrace/command"

	_ "github.com/alptrace/alptrace/examples/mycc"
)

func main() { command.Main() }

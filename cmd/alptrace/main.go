// Command alptrace runs a program with its network sockets served by a
// user-space stack. See alptrace(1).
package main

import "github.com/alptrace/alptrace/command"

func main() { command.Main() }

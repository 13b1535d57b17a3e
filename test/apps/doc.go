// Package apps tests alptrace with real programs: servers and clients from
// Debian and from the toolchains of other languages, unmodified.
//
// A test is a scene: a directory, a fresh network namespace (so that nothing
// can meet the host's own servers), and a bash script that starts a server,
// waits until it accepts connections, runs clients and compares what they got,
// byte for byte, with what they should have got. The whole script runs under
// one alptrace, whose stack's loopback all its processes share; the tests of
// links (relay, publish, wire, tun) run one part under alptrace and the other
// on the host's kernel. A scene ends with no process left in its namespace, or
// the test fails.
//
// Scenes run as an unprivileged user where the programs allow it. The tests
// themselves want root, for the namespaces; without root they run without
// namespaces, and those that cannot are skipped.
//
// The environment chooses what runs the programs:
//
//	ALPTRACE_RUNNER        "native": nothing, the kernel's stack serves them;
//	                       a path: that alptrace; empty: alptrace is built
//	ALPTRACE_FLAGS         flags added to every alptrace ("--engine host")
//
// A program that is not installed fails its test with the name of the Debian
// package that has it; packages.txt lists them all.
package apps

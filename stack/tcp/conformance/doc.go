// Package conformance holds what package tcp has to do, RFC by RFC, as scripts of
// segments in virtual time. It has no code but its tests.
//
// A script is a file testdata/RFC/NAME.pkt in the notation of tcptest.Script,
// which is packetdrill's as far as that serves. Its first line is a comment that
// names the section which it checks, and says what it asks for:
//
//	# RFC 5961 3.2: a RST that is in the window but not exactly next is challenged
//	--sack=off
//	0 established
//	...
//
// Lines that begin with -- are settings of tcp.Config, by the names that
// Config.Set knows and a few more. --known=REASON is a known difference: the
// script must fail, and one that passes is an error, so that the entry goes.
package conformance

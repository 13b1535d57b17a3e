// Package plot draws what TCP connections did, from captures (pcapng, pcap) and
// from the logs of --tcp-log: time-sequence graphs after tcptrace's
// conventions, congestion windows, round-trip times, throughput and goodput,
// and the queues of impaired links, as SVG, PNG or PDF fit for print, or as
// numbers (CSV).
//
// Files are read twice and never held in memory: the first pass finds the
// connections and the time that they take, the second follows those that are
// drawn ([demux], [tracker]). As the shown time is known by then, each series
// is reduced while it is read to what a printed picture resolves ([line],
// [bars], [dots]), so that memory and the size of the picture depend on the
// picture and not on the capture. Retransmissions, segments out of order, SYN,
// FIN, RST, drops and ECN marks are kept one by one; two of them are drawn as
// one only where they would fall on the same eighth of a point, and legends
// count all of them.
package plot

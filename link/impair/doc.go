// Package impair is a link around a link that behaves like a worse network:
// slower, longer, lossy, out of order. The network is described in words
// ([Parse]); docs/impair.md lists them.
//
// # The pipeline
//
// A real path has a bottleneck, where packets wait and are dropped on purpose
// or for want of room, and behind it a medium, where they are lost by chance.
// Each direction has both, in this order:
//
//		split GSO > queue (RED, CoDel...) > rate > down > loss > dup > corrupt > delay, jitter, reorder > coalesce
//
//	 1. A packet still to be cut (GSO) is cut into segments of the link's MTU, so
//	    that a loss is one segment's loss and a queue of 100 packets holds 100.
//	 2. Without a rate there is no queue. With one, the packet joins the queue,
//	    whose discipline may drop it or mark it (ECN); it leaves when all before
//	    it have been serialised at the rate, or in the delivery opportunities of
//	    a trace.
//	 3. What has been serialised enters the medium. While the link is down all of
//	    it is lost, as is what reaches the queue. Then chance decides, in this
//	    order: loss, duplication, corruption. A lost packet has used up the rate,
//	    as on a real link.
//	 4. Each packet (the duplicate on its own) gets the delay, with its own draw
//	    of the jitter. A packet never overtakes another one unless reordering was
//	    asked for: one that drew less waits for the one in front, so jitter much
//	    larger than the packets' spacing raises the mean delay.
//	 5. Neighbouring segments of one packet that depart at the same time are made
//	    one packet again, which changes nothing but the cost.
//
// # Time
//
// All of that is [Core], which has no goroutine and knows no clock: it is told
// the time. Decisions fall at computed times, the queue's at the instant the
// line becomes free, not when somebody came to look; a driver that is late
// delivers late, but shifts nothing that comes after. Given the same packets at
// the same times and the same seed, a Core does the same on every machine:
// each model draws from its own stream of random numbers, so changing one
// leaves the others' draws as they were.
//
// [Wrap] drives two Cores by a [Clock]. The default clock is real: one
// goroutine for the link, blocked on a timer descriptor (timerfd_create(2)),
// none when the delay is nothing. An idle link costs nothing.
package impair

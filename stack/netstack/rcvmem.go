package netstack

import (
	"reflect"
	"unsafe"

	"gvisor.dev/gvisor/pkg/atomicbitops"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// widenRcvBuf makes up for memory that netstack counts twice and gives back
// once: that of the segment which both completes a passive handshake and brings
// the first bytes, for it is queued again on the endpoint that it already
// belongs to. On a link with large segments that is half of the buffer for ever,
// the window stays below the threshold of a window update, and the connection
// stands still.
//
// It is for connections just accepted. Where nothing was counted twice the
// buffer is wider by what has come before accept.
func widenRcvBuf(e tcpip.Endpoint) {
	ep, ok := e.(*tcp.Endpoint)
	if !ok {
		return
	}
	if used := rcvMemUsed(ep); used > 0 {
		so := ep.SocketOptions()
		so.SetReceiveBufferSize(so.GetReceiveBufferSize()+used, false)
	}
}

// rcvMemUsed is the memory that received segments take, bytes. An atomic
// counter, so that no lock guards it.
func rcvMemUsed(ep *tcp.Endpoint) int64 {
	index := findTCPFields().rcvMem
	if index == nil {
		return 0
	}
	ep.LockUser() // the handshake is over
	defer ep.UnlockUser()
	v := reflect.ValueOf(ep).Elem().FieldByIndex(index)
	if v.Type() != reflect.TypeFor[atomicbitops.Int32]() {
		return 0
	}
	return int64((*atomicbitops.Int32)(unsafe.Pointer(v.UnsafeAddr())).Load())
}

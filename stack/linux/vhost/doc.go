// Package vhost is the device side of virtio: it serves devices to a kernel in
// another process over the vhost-user protocol, through memory that the two
// share.
//
// The protocol is QEMU's (docs/interop/vhost-user.rst), as the virtio_uml driver
// of User-Mode Linux speaks it; the queues are split virtqueues (VIRTIO 1.2,
// section 2.7). A [Device] has some [Queue]s; the driver puts buffers into a
// queue, and the device takes each as a [Chain], reads or fills it, and gives it
// back.
//
// What the driver says is not trusted: an address outside of the shared memory,
// or a ring that makes no sense, ends the device.
package vhost

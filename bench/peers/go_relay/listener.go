package main

import (
	"net"
	"net/netip"
	"runtime"
)

// listener is one SO_REUSEPORT socket and the flows the kernel gives it. Only its own goroutine
// touches the map: no lock.
type listener struct {
	conn        *net.UDPConn
	routes      map[string]netip.AddrPort
	flows       map[netip.AddrPort]*net.UDPConn
	bufferBytes int
}

func newListener(conn *net.UDPConn, routes map[string]netip.AddrPort, bufferBytes int) *listener {
	return &listener{conn, routes, make(map[netip.AddrPort]*net.UDPConn, 4096), bufferBytes}
}

// serve forwards every datagram of known clients to their backend; a STUN Binding Request of an
// unknown client opens a flow.
func (l *listener) serve(lock bool) {
	if lock {
		runtime.LockOSThread()
	}
	buffer := make([]byte, datagramBytes)
	for {
		length, client, err := l.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			continue
		}
		upstream, known := l.flows[client]
		if !known {
			if upstream = l.open(client, buffer[:length]); upstream == nil {
				continue
			}
		}
		_, _ = upstream.Write(buffer[:length])
	}
}

// open makes the flow of a client whose first datagram names a routed ufrag, else returns nil.
func (l *listener) open(client netip.AddrPort, datagram []byte) *net.UDPConn {
	backend, found := l.routes[string(serverUfrag(datagram))]
	if !found {
		return nil
	}
	upstream, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(backend))
	if err != nil {
		return nil
	}
	setBuffers(upstream, l.bufferBytes)
	l.flows[client] = upstream
	go l.replies(upstream, client)
	return upstream
}

// replies carries a flow's datagrams back to its client, for the life of the process.
func (l *listener) replies(upstream *net.UDPConn, client netip.AddrPort) {
	buffer := make([]byte, datagramBytes)
	for {
		length, err := upstream.Read(buffer)
		if err != nil {
			continue
		}
		_, _ = l.conn.WriteToUDPAddrPort(buffer[:length], client)
	}
}

// A reference relay in Go, built the way the published one describes itself: SO_REUSEPORT listener
// sockets with one goroutine each on a locked thread, preallocated buffers, a flow map keyed by
// netip.AddrPort, no allocation per datagram. It routes by the server ufrag of the first STUN
// Binding Request of a client address and decrypts nothing. Standard library only.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
)

const (
	datagramBytes = 2048
	soReusePort   = 15 // SO_REUSEPORT on Linux; package syscall does not name it everywhere
)

func main() {
	listen := flag.String("listen", "127.0.0.1:3478", "client address:port")
	routesFile := flag.String("routes", "", "file of lines `UFRAG ADDRESS:PORT`")
	listeners := flag.Int("listeners", 1, "SO_REUSEPORT listener sockets, one goroutine each")
	procs := flag.Int("procs", 1, "GOMAXPROCS")
	lock := flag.Bool("lock", true, "runtime.LockOSThread in each listener goroutine")
	gcPercent := flag.Int("gc", 400, "GC percent (debug.SetGCPercent)")
	bufferBytes := flag.Int("buffer", 16<<20, "socket buffers asked for, in bytes")
	flag.Parse()

	runtime.GOMAXPROCS(*procs)
	debug.SetGCPercent(*gcPercent)
	routes, err := readRoutes(*routesFile)
	if err != nil {
		fail("routes: %v", err)
	}
	for i := 0; i < *listeners; i++ {
		conn, err := openListener(*listen, *bufferBytes)
		if err != nil {
			fail("listen %s: %v", *listen, err)
		}
		go newListener(conn, routes, *bufferBytes).serve(*lock)
	}
	fmt.Printf("ready %s\n", *listen)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "go_relay: "+format+"\n", arguments...)
	os.Exit(1)
}

// readRoutes reads the route table: one `UFRAG ADDRESS:PORT` a line. Never changed afterwards, so
// listeners share it without a lock.
func readRoutes(path string) (map[string]netip.AddrPort, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	routes := make(map[string]netip.AddrPort)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		ufrag, backend, found := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		if !found {
			continue
		}
		address, err := netip.ParseAddrPort(backend)
		if err != nil {
			return nil, err
		}
		routes[ufrag] = address
	}
	return routes, nil
}

func openListener(address string, bufferBytes int) (*net.UDPConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failure error
		err := raw.Control(func(fd uintptr) {
			failure = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soReusePort, 1)
		})
		if err != nil {
			return err
		}
		return failure
	}}
	conn, err := config.ListenPacket(context.Background(), "udp4", address)
	if err != nil {
		return nil, err
	}
	udp := conn.(*net.UDPConn)
	setBuffers(udp, bufferBytes)
	return udp, nil
}

// setBuffers asks for the same buffers as the relay it is compared with; where not permitted the
// kernel's limit (rmem_max) holds for both.
func setBuffers(conn *net.UDPConn, bytes int) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, bytes) != nil {
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, bytes)
		}
	})
}

package main

import (
	"bytes"
	"encoding/binary"
)

// serverUfrag returns what stands before ':' in the USERNAME of a STUN Binding Request (RFC 8489
// section 5 and 14.3), or nil. It aliases the datagram.
func serverUfrag(datagram []byte) []byte {
	const headerBytes, cookie, usernameType = 20, 0x2112A442, 0x0006
	if len(datagram) < headerBytes || binary.BigEndian.Uint16(datagram) != 0x0001 ||
		binary.BigEndian.Uint32(datagram[4:]) != cookie ||
		int(binary.BigEndian.Uint16(datagram[2:])) != len(datagram)-headerBytes {
		return nil
	}
	for rest := datagram[headerBytes:]; len(rest) >= 4; {
		kind, length := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		padded := (length + 3) &^ 3
		if 4+padded > len(rest) {
			return nil
		}
		if kind == usernameType {
			if end := bytes.IndexByte(rest[4:4+length], ':'); end > 0 {
				return rest[4 : 4+end]
			}
			return nil
		}
		rest = rest[4+padded:]
	}
	return nil
}

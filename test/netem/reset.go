//go:build linux

package netem

import (
	"encoding/binary"
	"slices"
)

// The offsets of fields in headers. RFC 791 and RFC 9293.
const (
	ipLength, ipProtocol, ipChecksum, ipSource, ipTarget = 2, 9, 10, 12, 16
	tcpSequence, tcpAcknowledgment, tcpOffset, tcpFlags  = 4, 8, 12, 13
	tcpWindow, tcpChecksum, tcpHeader                    = 14, 16, 20

	protocolTCP      = 6
	flagRST, flagACK = 0x04, 0x10
)

// resets returns the two resets by which a middlebox answers a packet of an unknown
// connection: back to the sender, and on in place of the packet. ok is false for packets
// without TCP data.
func resets(packet []byte) (back, on []byte, ok bool) {
	if len(packet) < 20 || packet[0]>>4 != 4 || packet[ipProtocol] != protocolTCP {
		return nil, nil, false
	}
	header := int(packet[0]&15) * 4
	if len(packet) < header+tcpHeader {
		return nil, nil, false
	}
	tcp := packet[header:]
	if int(tcp[tcpOffset]>>4)*4 >= len(tcp) || tcp[tcpFlags]&flagACK == 0 {
		return nil, nil, false
	}
	on = slices.Clone(packet[:header+tcpHeader])
	back = slices.Clone(on)
	copy(back[ipSource:], packet[ipTarget:ipTarget+4])
	copy(back[ipTarget:], packet[ipSource:ipSource+4])
	behind := back[header:]
	copy(behind[0:], tcp[2:4]) // the ports are swapped
	copy(behind[2:], tcp[0:2])
	copy(behind[tcpSequence:], tcp[tcpAcknowledgment:tcpAcknowledgment+4]) // the sequence number that the sender expects
	for _, reset := range [][]byte{back, on} {
		finish(reset, header)
	}
	return back, on, true
}

// finish makes a packet a reset without data, options or window.
func finish(packet []byte, header int) {
	binary.BigEndian.PutUint16(packet[ipLength:], uint16(len(packet)))
	tcp := packet[header:]
	tcp[tcpOffset], tcp[tcpFlags] = tcpHeader/4<<4, flagRST|flagACK
	binary.BigEndian.PutUint16(tcp[tcpWindow:], 0)

	clear(packet[ipChecksum : ipChecksum+2])
	binary.BigEndian.PutUint16(packet[ipChecksum:], checksum(packet[:header]))
	clear(tcp[tcpChecksum : tcpChecksum+2])
	pseudo := slices.Concat(packet[ipSource:ipTarget+4], []byte{0, protocolTCP, 0, byte(len(tcp))}, tcp)
	binary.BigEndian.PutUint16(tcp[tcpChecksum:], checksum(pseudo))
}

// checksum returns the Internet checksum (RFC 1071). b has an even length.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

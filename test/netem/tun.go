//go:build linux

package netem

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// mtu is the MTU of networks within a region of AWS.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/network_mtu.html
const mtu = 9001

// openTUN makes a point-to-point device in the namespace of the calling thread. It is
// removed when it is closed.
func openTUN(name, from, to string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: /dev/net/tun: %w", ErrNotPermitted, err)
	}
	if err := bringUp(fd, name, from, to); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netem: the device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func bringUp(fd int, name, from, to string) error {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return err
	}
	control, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(control)
	for _, set := range []struct {
		request uint
		address string
	}{{unix.SIOCSIFADDR, from}, {unix.SIOCSIFDSTADDR, to}} {
		address := netip.MustParseAddr(set.address).As4()
		if err := request.SetInet4Addr(address[:]); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(control, set.request, request); err != nil {
			return err
		}
	}
	request.SetUint32(mtu)
	if err := unix.IoctlIfreq(control, unix.SIOCSIFMTU, request); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(control, unix.SIOCGIFFLAGS, request); err != nil {
		return err
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(control, unix.SIOCSIFFLAGS, request)
}

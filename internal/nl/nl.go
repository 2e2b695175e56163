// SPDX-License-Identifier: Apache-2.0

// Package nl reads the kernel's network state so that what it returns is true.
//
// The kernel answers a dump in several messages. If the list changes between
// two of them, it marks the answer as interrupted: entries may be missing or
// stand in it twice. netlink returns such an answer together with
// netlink.ErrDumpInterrupted, which is easily taken for a complete one by who
// ignores the error, and for a failure by who does not. The functions here read
// again instead. A linter forbids the dumps of netlink elsewhere; what is no
// dump (adding, deleting, netlink.LinkByIndex) is called there directly.
//
// They work in the network namespace of the calling thread, as netlink does;
// WithNetNS is the way into another one.
package nl

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// MaxAttempts bounds how often a dump is read before Retry gives up. A dump of
// some thousand entries takes a few milliseconds: being interrupted that often
// in a row means that something rewrites the list without pause.
const MaxAttempts = 20

// Retry calls dump until its result was not interrupted, MaxAttempts times at
// most. Any other error ends it. It is for dumps that have no function here.
func Retry[T any](dump func() (T, error)) (T, error) {
	var err error
	for range MaxAttempts {
		var list T
		list, err = dump()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return list, err
		}
	}
	// What was read last is incomplete: nobody gets to see it.
	var none T
	return none, fmt.Errorf("gave up after %d attempts: %w", MaxAttempts, err)
}

// list is Retry with the subject in the error.
func list[T any](subject string, dump func() ([]T, error)) ([]T, error) {
	entries, err := Retry(dump)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", subject, err)
	}
	return entries, nil
}

// LinkList lists the network devices (ip link show).
func LinkList() ([]netlink.Link, error) {
	return list("links", netlink.LinkList)
}

// ErrLinkNotFound is the cause of LinkByName's error where no device has the name.
var ErrLinkNotFound = errors.New("no such network device")

// LinkByName finds one device by its name or alternative name (ip link show
// dev NAME), without a dump. Test the error for one that does not exist with
// IsNotFound.
func LinkByName(name string) (netlink.Link, error) {
	// The kernel answers EINVAL to a malformed name. netlink takes that for the
	// answer of an old kernel and would search by dump from then on.
	if name == "" || len(name) > maxName {
		return nil, fmt.Errorf("find link %q: %w", name, ErrLinkNotFound)
	}
	link, err := Retry(func() (netlink.Link, error) { return netlink.LinkByName(name) })
	if IsNotFound(err) {
		err = ErrLinkNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("find link %q: %w", name, err)
	}
	return link, nil
}

// maxName is the kernel's ALTIFNAMSIZ without the final zero.
const maxName = 127

// IsNotFound says whether the error is about a device that does not exist. It
// knows the errors of netlink.LinkByIndex and netlink.LinkByName as well.
func IsNotFound(err error) bool {
	return errors.Is(err, ErrLinkNotFound) || errors.As(err, new(netlink.LinkNotFoundError))
}

// AddrList lists the addresses of a family on a device, or on all devices where
// link is nil (ip address show).
func AddrList(link netlink.Link, family int) ([]netlink.Addr, error) {
	return list("addresses", func() ([]netlink.Addr, error) { return netlink.AddrList(link, family) })
}

// RouteListFiltered lists the routes of a family that agree with the filter in
// each field that the mask names (netlink.RT_FILTER_*). Without a table in the
// mask, it is the main table (ip route show).
func RouteListFiltered(family int, filter *netlink.Route, mask uint64) ([]netlink.Route, error) {
	return list("routes", func() ([]netlink.Route, error) { return netlink.RouteListFiltered(family, filter, mask) })
}

// NeighList lists the neighbour entries of a family on the device of that
// index, or on all where it is 0 (ip neighbour show).
func NeighList(linkIndex, family int) ([]netlink.Neigh, error) {
	return list("neighbours", func() ([]netlink.Neigh, error) { return netlink.NeighList(linkIndex, family) })
}

// QdiscList lists the queueing disciplines of a device, or of all where link is
// nil (tc qdisc show).
func QdiscList(link netlink.Link) ([]netlink.Qdisc, error) {
	return list("qdiscs", func() ([]netlink.Qdisc, error) { return netlink.QdiscList(link) })
}

// FilterList lists the filters below a parent on a device (tc filter show dev
// LINK parent PARENT; netlink.HANDLE_MIN_INGRESS and HANDLE_MIN_EGRESS are the
// two sides of clsact).
func FilterList(link netlink.Link, parent uint32) ([]netlink.Filter, error) {
	return list("filters", func() ([]netlink.Filter, error) { return netlink.FilterList(link, parent) })
}

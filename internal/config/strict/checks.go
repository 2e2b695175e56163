// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"net/netip"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What names must look like (RFC 1123), in words that say what to write.
const (
	SubdomainRule = "use lower case letters, digits, '-' and '.', with a letter or digit at both ends of each part, 253 characters at most"
	LabelRule     = "use lower case letters, digits and '-', with a letter or digit at both ends, 63 characters at most"
)

// Header checks that a file says what it is.
func Header(apiVersion, wantVersion, kind, wantKind string) field.ErrorList {
	var errs field.ErrorList
	for _, h := range []struct{ key, got, want string }{
		{"apiVersion", apiVersion, wantVersion},
		{"kind", kind, wantKind},
	} {
		switch h.got {
		case h.want:
		case "":
			errs = append(errs, field.Required(field.NewPath(h.key), "add "+h.key+": "+h.want))
		default:
			errs = append(errs, field.NotSupported(field.NewPath(h.key), h.got, []string{h.want}))
		}
	}
	return errs
}

// CIDR checks that a prefix is one that the kernel would show the same way.
func CIDR(p *field.Path, cidr netip.Prefix) *field.Error {
	switch {
	case !cidr.IsValid():
		return field.Required(p, "use a CIDR")
	case cidr.Addr().Is4In6():
		v4 := netip.PrefixFrom(cidr.Addr().Unmap(), max(0, cidr.Bits()-96)).Masked()
		return field.Invalid(p, cidr.String(), "an IPv4 address in IPv6 form: use "+v4.String())
	case cidr != cidr.Masked():
		return field.Invalid(p, cidr.String(), "host bits are set: use "+cidr.Masked().String())
	}
	return nil
}

// Address checks that an address is one that a packet can be sent to.
func Address(p *field.Path, a netip.Addr) *field.Error {
	switch {
	case !a.IsValid():
		return field.Required(p, "use an IP address")
	case a.Zone() != "":
		return field.Invalid(p, a.String(), "an address with a zone: use "+a.WithZone("").String())
	case a.Is4In6():
		return field.Invalid(p, a.String(), "an IPv4 address in IPv6 form: use "+a.Unmap().String())
	case a.IsUnspecified():
		return field.Invalid(p, a.String(), "the unspecified address: use one that packets can be sent to")
	case a.IsLoopback():
		return field.Invalid(p, a.String(), "a loopback address: use one that other nodes reach")
	case a.IsMulticast():
		return field.Invalid(p, a.String(), "a multicast address: use a unicast address")
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return field.Invalid(p, a.String(), "the broadcast address: use a unicast address")
	}
	return nil
}

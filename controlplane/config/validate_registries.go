// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// AnyRegistry is the host that stands for all registries without an entry.
const AnyRegistry = "*"

// dockerHosts are what Docker Hub is called beside its name in image references.
var dockerHosts = []string{"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "hub.docker.com"}

func (c *Config) validateRegistries() field.ErrorList {
	var errs field.ErrorList
	list := field.NewPath("containerRuntime", "registries")
	first := map[string]int{}
	for i := range c.ContainerRuntime.Registries {
		r, p := &c.ContainerRuntime.Registries[i], list.Index(i)
		errs = append(errs, r.validate(p)...)
		if j, again := first[r.Host]; again && r.Host != "" {
			e := field.Duplicate(p.Child("host"), r.Host)
			e.Detail = fmt.Sprintf("%s is of the same host: put both into one", list.Index(j))
			errs = append(errs, e)
			continue
		}
		first[r.Host] = i
	}
	return errs
}

func (r *Registry) validate(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	host := p.Child("host")
	switch {
	case r.Host == "":
		errs = append(errs, field.Required(host, "use the registry's name in image references, as in docker.io, or \"*\" for all others"))
	case slices.Contains(dockerHosts, r.Host):
		errs = append(errs, field.Invalid(host, r.Host, "image references say docker.io: use that"))
	case strings.Contains(r.Host, "://"):
		errs = append(errs, field.Invalid(host, r.Host, "use the name alone, without a scheme"))
	case r.Host != AnyRegistry && !isHost(r.Host):
		errs = append(errs, field.Invalid(host, r.Host, "use a DNS name or an address, with a port if image references have it, as in registry.example.com:5000"))
	}
	errs = append(errs, r.validateCredentials(p)...)
	errs = append(errs, trust(p, r.CAFile, r.SkipVerify)...)
	for i := range r.Mirrors {
		errs = append(errs, r.Mirrors[i].validate(p.Child("mirrors").Index(i))...)
	}
	return errs
}

// validateCredentials never shows what it looks at.
func (r *Registry) validateCredentials(p *field.Path) field.ErrorList {
	switch {
	case r.Username == "" && r.Password == "" && r.PasswordFile == "":
		return nil
	case r.Host == AnyRegistry:
		return field.ErrorList{field.Forbidden(p.Child("username"), "every registry would be told: give each its own entry")}
	case r.Username == "":
		return field.ErrorList{field.Required(p.Child("username"), "a password needs a user name")}
	case r.Password != "" && r.PasswordFile != "":
		return field.ErrorList{field.Forbidden(p.Child("passwordFile"), "there is a password already: keep one of them")}
	case r.Password == "" && r.PasswordFile == "":
		return field.ErrorList{field.Required(p.Child("passwordFile"), "a user name needs a password: write it to a file and name that")}
	case strings.Contains(r.Username, ":"), strings.ContainsFunc(r.Username+r.Password.Reveal(), isControl):
		return field.ErrorList{field.Forbidden(p.Child("username"), "user names hold no colons, and neither they nor passwords control characters: take them out")}
	}
	if r.PasswordFile != "" {
		return absolute(p.Child("passwordFile"), r.PasswordFile)
	}
	return nil
}

// isControl says whether a rune is one that HTTP's Basic authentication cannot carry.
func isControl(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }

func (m *Mirror) validate(p *field.Path) field.ErrorList {
	errs := trust(p, m.CAFile, m.SkipVerify)
	for i, capability := range m.Capabilities {
		if known := []string{"pull", "resolve"}; !slices.Contains(known, capability) {
			errs = append(errs, field.NotSupported(p.Child("capabilities").Index(i), capability, known))
		}
	}
	at := p.Child("url")
	if m.URL == "" {
		return append(errs, field.Required(at, "use a URL, as in https://mirror.example.com"))
	}
	if strings.Contains(m.URL, "@") { // and not shown: it may hold a password
		return append(errs, field.Forbidden(at, "a URL with credentials: give the mirror's host an entry in containerRuntime.registries with them"))
	}
	u, err := url.Parse(m.URL)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", !isHost(u.Host), u.RawQuery != "", u.Fragment != "":
		errs = append(errs, field.Invalid(at, m.URL, "use http or https, a host, and a path if it has one, as in https://mirror.example.com/hub"))
	case u.Scheme == "http" && (m.SkipVerify || m.CAFile != ""):
		errs = append(errs, field.Invalid(at, m.URL, "http has no certificate to verify: use https, or remove skipVerify and caFile"))
	}
	return errs
}

func trust(p *field.Path, caFile string, skipVerify bool) field.ErrorList {
	switch {
	case caFile == "":
		return nil
	case skipVerify:
		return field.ErrorList{field.Forbidden(p.Child("skipVerify"), "no certificate would be verified by caFile: keep one of them")}
	}
	return absolute(p.Child("caFile"), caFile)
}

// isHost says whether the text is a DNS name or an address, with or without a port.
func isHost(s string) bool {
	if _, err := netip.ParseAddrPort(s); err == nil {
		return true
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		a, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return err == nil && a.Is6() && strings.HasSuffix(inner, "]")
	}
	name, port, hasPort := strings.Cut(s, ":")
	if n, err := strconv.ParseUint(port, 10, 16); hasPort && (err != nil || n == 0) {
		return false
	}
	return len(validation.IsDNS1123Subdomain(name)) == 0
}

// SPDX-License-Identifier: Apache-2.0

package runtime

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"text/template"
)

// AllRegistries is the name under which mirrors stand for all registries that are
// not named themselves.
const AllRegistries = "*"

// allRegistriesDir is containerd's name for the same.
const allRegistriesDir = "_default"

// Registry says how the images of a registry are reached. Its mirrors are asked in
// their order, the registry itself last.
type Registry struct {
	// Name is the first part of its images' names, with the port if there is one:
	// docker.io, registry.example.com:5000. Or AllRegistries.
	Name string
	// Mirrors may be empty.
	Mirrors []Endpoint
	// Server is the registry itself. Its URL may be empty: https and the name. That
	// of AllRegistries has neither URL nor credentials, as each is another.
	Server Endpoint
}

// Endpoint is a server of images.
type Endpoint struct {
	// URL has a scheme, http or https, and a host. If it has a path, that comes
	// before what the protocol adds (/v2), unless OverridePath says that the path
	// is all of it, as in https://cache.example.com/v2/upstream.
	URL          string
	OverridePath bool
	// Capabilities are what a mirror is asked for: pull (content by its digest),
	// resolve (the digest of a tag). Empty: both.
	Capabilities []string
	// CAFile holds the certificates (PEM) that its own may be signed with, beside
	// the system's. Empty: none.
	CAFile string
	// SkipVerify trusts whoever answers.
	SkipVerify bool
	// Username and Password are sent to this server, and to whom it names for
	// tokens, and to no other. Empty: none.
	Username, Password string
}

//go:embed hosts.toml.tmpl
var hostsText string

var hostsTemplate = template.Must(template.New("hosts.toml").Funcs(template.FuncMap{
	"toml": tomlValue,
}).Parse(hostsText))

// TOML is what containerd reads in the registry's folder: hosts.toml. It may hold
// passwords.
func (r Registry) TOML() ([]byte, error) {
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("registry %q: %w", r.Name, err)
	}
	var b bytes.Buffer
	if err := hostsTemplate.Execute(&b, r); err != nil {
		return nil, fmt.Errorf("registry %q: %w", r.Name, err)
	}
	return b.Bytes(), nil
}

func (r Registry) validate() error {
	// The name is a folder's.
	if r.Name == "" || r.Name == allRegistriesDir || r.Name == "." || r.Name == ".." || strings.ContainsAny(r.Name, "/@ ") {
		return errors.New("not a registry's name: write host or host:port, as images' names start with")
	}
	if r.Name == AllRegistries && (r.Server.URL != "" || r.Server.Username != "") {
		return errors.New("all registries have neither one URL nor one password: name each, or mirrors")
	}
	if r.Server.URL != "" {
		if err := validateURL(r.Server.URL); err != nil {
			return err
		}
	}
	for _, e := range append([]Endpoint{r.Server}, r.Mirrors...) {
		if e.Username == "" && e.Password != "" {
			return errors.New("a password without a user name: add the name, which may be any where the password is a token")
		}
		if strings.Contains(e.Username, ":") {
			return errors.New("a user name with a colon: such cannot be sent")
		}
		if e.CAFile != "" && !filepath.IsAbs(e.CAFile) {
			return fmt.Errorf("CA file %q: not an absolute path", e.CAFile)
		}
	}
	seen := make(map[string]bool)
	for _, m := range r.Mirrors {
		if err := validateURL(m.URL); err != nil {
			return fmt.Errorf("mirror: %w", err)
		}
		for _, c := range m.Capabilities {
			if c != "pull" && c != "resolve" {
				return fmt.Errorf("mirror: capability %q: write pull or resolve", c)
			}
		}
		if seen[m.URL] {
			return fmt.Errorf("mirror: URL %q: it is there already", m.URL)
		}
		seen[m.URL] = true
	}
	return nil
}

func validateURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("not a URL: %w", err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("URL %q: write https://HOST[:PORT] or, without encryption, http://HOST[:PORT]", u.Redacted())
	case u.User != nil:
		return fmt.Errorf("URL %q: with a password in it: write it into fields of its own", u.Redacted())
	case u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("URL %q: more than a scheme, a host and a path", u.Redacted())
	}
	return nil
}

// dir is the folder that containerd looks for.
func (r Registry) dir() string {
	if r.Name == AllRegistries {
		return allRegistriesDir
	}
	return r.Name
}

// Asked is what a mirror is asked for.
func (e Endpoint) Asked() []string {
	if len(e.Capabilities) == 0 {
		return []string{"pull", "resolve"}
	}
	return e.Capabilities
}

// Authorization is the HTTP header with name and password. A registry that asks for
// tokens gets it, too: then it goes with the request for one.
func (e Endpoint) Authorization() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(e.Username+":"+e.Password))
}

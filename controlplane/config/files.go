// SPDX-License-Identifier: Apache-2.0

package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// checkFiles checks that the files that are named can be read and hold what they
// should, as far as that can be said here.
func (c *Config) checkFiles() field.ErrorList {
	var errs field.ErrorList
	check := func(p *field.Path, path string, wrong func([]byte) string) {
		if path == "" {
			return
		}
		b, err := os.ReadFile(path)
		if err != nil {
			errs = append(errs, field.Invalid(p, path, fmt.Sprintf("%v: name a file that can be read", cause(err))))
		} else if what := wrong(b); what != "" {
			errs = append(errs, field.Invalid(p, path, what))
		}
	}
	list := field.NewPath("containerRuntime", "registries")
	for i, r := range c.ContainerRuntime.Registries {
		check(list.Index(i).Child("passwordFile"), r.PasswordFile, passwordWrong)
		check(list.Index(i).Child("caFile"), r.CAFile, certificatesWrong)
		for j, m := range r.Mirrors {
			check(list.Index(i).Child("mirrors").Index(j).Child("caFile"), m.CAFile, certificatesWrong)
		}
	}
	if p := field.NewPath("audit", "policyFile"); c.Audit.PolicyFile != "" {
		if wrong := absolute(p, c.Audit.PolicyFile); len(wrong) > 0 {
			errs = append(errs, wrong...)
		} else if c.Audit.Enabled {
			check(p, c.Audit.PolicyFile, policyWrong)
		}
	}
	return errs
}

// cause is the system's error alone: the path is told beside it.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

func passwordWrong(b []byte) string {
	text := strings.TrimRight(string(b), "\r\n")
	if text == "" || strings.ContainsFunc(text, isControl) {
		return "must hold a password in one line: write one"
	}
	return ""
}

func certificatesWrong(b []byte) string {
	if !x509.NewCertPool().AppendCertsFromPEM(b) {
		return "holds no certificate: use a file in PEM form"
	}
	return ""
}

func policyWrong(b []byte) string {
	if !strings.Contains(string(b), "audit.k8s.io/v1") {
		return "not an audit policy: write one of apiVersion audit.k8s.io/v1, kind Policy"
	}
	return ""
}

// checkOwnMode checks that a configuration file with a password in it is not for
// everyone to read.
func (c *Config) checkOwnMode(path string) field.ErrorList {
	i := slices.IndexFunc(c.ContainerRuntime.Registries, func(r Registry) bool { return r.Password != "" })
	info, err := os.Stat(path)
	if i < 0 || err != nil || info.Mode().Perm()&0o004 == 0 {
		return nil
	}
	p := field.NewPath("containerRuntime", "registries").Index(i).Child("password")
	return field.ErrorList{field.Forbidden(p, fmt.Sprintf("everyone can read %s: chmod 600 it, or use passwordFile", path))}
}

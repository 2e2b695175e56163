// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// Ensure makes what is missing, renews what is not as the spec says, and repairs
// permissions. It may be repeated at any time, and after an interruption at any
// point. The changes are those made, also where there is an error.
//
// A CA or a service account key that is missing or wrong, and a clock before a
// CA's time, are errors, and nothing is written. One certificate that cannot be
// written leaves the others to be.
func Ensure(spec Spec, now time.Time) (changes []Change, err error) {
	return ensure(spec, now, &store{})
}

func ensure(spec Spec, now time.Time, s *store) ([]Change, error) {
	spec = spec.withDefaults()
	if err := spec.validate(); err != nil {
		return nil, fmt.Errorf("make certificates: %w", err)
	}
	if now.Before(earliest) {
		return nil, fmt.Errorf("the clock says %s, which is before this program was made: set the clock", stamp(now))
	}
	r := &run{store: s, spec: spec, now: now, cas: make(map[string]*authority)}
	err := r.all()
	return r.changes, err
}

// run is one call of Ensure.
type run struct {
	*store
	spec Spec
	now  time.Time
	cas  map[string]*authority // by file name of the certificate
}

func (r *run) all() error {
	for _, dir := range []string{r.spec.Layout.PKIDir(), r.spec.Layout.KubeconfigDir()} {
		if err := r.folder(dir); err != nil {
			return err
		}
	}
	if err := r.roots(); err != nil {
		return err
	}
	var errs []error
	for _, l := range leaves(r.spec) {
		errs = append(errs, r.leaf(l))
	}
	return errors.Join(append(errs, r.kubeconfigs())...)
}

// roots reads what is made once, and makes it if none of it is in a doubtful
// state.
func (r *run) roots() error {
	cas := authorities()
	noKey, err := r.loadServiceAccountKey()
	errs := []error{err}
	for _, a := range cas {
		errs = append(errs, r.loadAuthority(a))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, a := range cas {
		if a.pair == nil {
			continue
		}
		if err := a.inTime(r.now); err != nil {
			return err // of one: a clock is wrong for all
		}
	}
	// Before the CAs: a CA's leaves are the sign that the key was made, too.
	if noKey {
		if err := r.makeServiceAccountKey(); err != nil {
			return err
		}
	}
	for _, a := range cas {
		if a.pair == nil {
			if err := r.makeAuthority(a); err != nil {
				return err
			}
		} else if err := errors.Join(r.discard(r.spec.Layout.PKI(a.crtFile)), r.discard(r.spec.Layout.PKI(a.keyFile))); err != nil {
			return err
		}
		r.cas[a.crtFile] = a
	}
	return nil
}

// leaf renews a certificate if it has to be.
func (r *run) leaf(l leaf) error {
	path, ca := r.spec.Layout.PKI(l.file), r.cas[l.ca]
	until := r.now.Add(r.spec.Lifetime).UTC().Truncate(time.Second)
	if end := ca.cert().NotAfter; until.After(end) {
		until = end
	}
	if err := errors.Join(r.discard(path), r.restrict(path, secretMode)); err != nil {
		return err
	}
	reason, err := r.whyRenew(l, path, until)
	if err != nil || reason == "" {
		return err
	}
	text, err := r.issue(l, ca, until)
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	if err := r.write(path, text, secretMode); err != nil {
		return err
	}
	r.record(path, reason, until)
	return nil
}

// whyRenew says why a certificate is to be renewed, or nothing. A damaged one is
// renewed; one that the system does not let us read is an error.
func (r *run) whyRenew(l leaf, path string, until time.Time) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "did not exist", nil
	}
	if err != nil {
		return "", fmt.Errorf("read certificate: %w", err)
	}
	have, err := parsePair(text, text)
	if err != nil {
		return "was damaged: " + err.Error(), nil
	}
	return l.stale(have.cert(), r.cas[l.ca].cert(), r.now, until, r.spec.RenewBefore), nil
}

// issue makes a key and its certificate.
func (r *run) issue(l leaf, ca *authority, until time.Time) ([]byte, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               l.subject,
		NotBefore:             r.now.Add(-skew).UTC(),
		NotAfter:              until,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           l.usage,
		BasicConstraintsValid: true,
		DNSNames:              l.sans.names,
	}
	for _, ip := range l.sans.ips {
		template.IPAddresses = append(template.IPAddresses, ip.AsSlice())
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert(), key.Public(), ca.key)
	if err != nil {
		return nil, err
	}
	keyText, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: der}), keyText...), nil
}

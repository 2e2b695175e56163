// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// authority is one of the three CAs. They are apart because what one of them
// signs means nothing to those who ask another: who may pose as any user to an
// aggregated apiserver cannot, by that, log in to this one, and no user of the
// cluster opens etcd.
type authority struct {
	title            string
	crtFile, keyFile string

	*pair // nil until read or made
}

func authorities() []*authority {
	return []*authority{
		{title: "cluster CA", crtFile: ClusterCACert, keyFile: ClusterCAKey},
		{title: "front-proxy CA", crtFile: FrontProxyCACert, keyFile: FrontProxyCAKey},
		{title: "etcd CA", crtFile: EtcdCACert, keyFile: EtcdCAKey},
	}
}

// loadAuthority reads a CA, or leaves its pair nil if it can be made: if there is
// none, and nothing that one has signed.
func (r *run) loadAuthority(a *authority) error {
	crt, key := r.spec.Layout.PKI(a.crtFile), r.spec.Layout.PKI(a.keyFile)
	if err := r.completeAuthority(crt, key); err != nil {
		return err
	}
	if err := errors.Join(r.restrict(crt, publicMode), r.restrict(key, secretMode)); err != nil {
		return err
	}
	crtText, crtErr := os.ReadFile(crt)
	keyText, keyErr := os.ReadFile(key)
	noCrt, noKey := errors.Is(crtErr, fs.ErrNotExist), errors.Is(keyErr, fs.ErrNotExist)
	switch {
	case noCrt && noKey:
		return r.neverSigned(a)
	case noCrt:
		return fmt.Errorf("read %s: %s is missing, but its key %s is there: restore the certificate from a backup", a.title, crt, key)
	case noKey:
		return fmt.Errorf("read %s: its key %s is missing, but %s is there: restore the key from a backup", a.title, key, crt)
	case crtErr != nil || keyErr != nil:
		return fmt.Errorf("read %s: %w", a.title, errors.Join(crtErr, keyErr))
	}
	p, err := parsePair(crtText, keyText)
	if err != nil {
		return fmt.Errorf("read %s: %s and %s do not go together (%w): restore both from the same backup", a.title, crt, key, err)
	}
	c := p.cert()
	if len(p.chain) > 1 {
		return fmt.Errorf("read %s: %s holds %d certificates: leave only the one of its key, as Kubernetes' signer wants it", a.title, crt, len(p.chain))
	}
	if !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return fmt.Errorf("read %s: %s is not the certificate of a CA: restore it and its key from a backup", a.title, crt)
	}
	a.pair = p
	return nil
}

// inTime says that a CA cannot sign anything at the time of the clock. What a new
// CA reaches back (skew) is not held against a clock.
func (a *authority) inTime(now time.Time) error {
	switch c := a.cert(); {
	case now.Before(c.NotBefore):
		return fmt.Errorf("the clock says %s, but the %s is valid from %s: set the clock (or, if it was wrong when the cluster was made, start with an empty data folder)",
			stamp(now), a.title, stamp(c.NotBefore))
	case now.After(c.NotAfter):
		return fmt.Errorf("the clock says %s, but the %s ended at %s: set the clock, or put a certificate of the same key and the same subject, with a later end, in the place of %s",
			stamp(now), a.title, stamp(c.NotAfter), a.crtFile)
	}
	return nil
}

// stamp is how errors tell a time.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// neverSigned says that a CA was lost, by what it has left behind.
func (r *run) neverSigned(a *authority) error {
	for _, l := range leaves(r.spec) {
		if l.ca != a.crtFile {
			continue
		}
		if _, err := os.Lstat(r.spec.Layout.PKI(l.file)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read %s: %s and %s are missing in %s, but %s, which it signed, is there: restore both from a backup; if there is none, remove the .pem files to have a new CA, which no other node knows",
				a.title, a.crtFile, a.keyFile, r.spec.Layout.PKIDir(), l.file)
		}
	}
	return nil
}

// completeAuthority ends what was interrupted between the two renames of
// makeAuthority.
func (r *run) completeAuthority(crt, key string) error {
	_, crtErr := os.Lstat(crt)
	_, keyErr := os.Lstat(key)
	noCrt, noKey := errors.Is(crtErr, fs.ErrNotExist), errors.Is(keyErr, fs.ErrNotExist)
	if !noCrt || noKey {
		return nil
	}
	crtText, err := os.ReadFile(crt + pending)
	if err != nil {
		return nil // it was not interrupted, it was lost: loadAuthority says so
	}
	keyText, err := os.ReadFile(key)
	if err != nil {
		return fmt.Errorf("read key: %w", err)
	}
	p, err := parsePair(crtText, keyText)
	if err != nil {
		return nil // of another key: as above
	}
	if err := r.commit(crt); err != nil {
		return err
	}
	r.record(crt, "was not in its place when the CA's making was interrupted", p.cert().NotAfter)
	return nil
}

// makeAuthority makes a CA. Both files are complete before either has its name, so
// that an interruption leaves no CA, or one that completeAuthority completes.
func (r *run) makeAuthority(a *authority) error {
	key, err := newKey()
	if err != nil {
		return fmt.Errorf("make %s: %w", a.title, err)
	}
	now := r.now.UTC()
	template := &x509.Certificate{
		// Two clusters' CAs are told apart by the time.
		Subject:               pkix.Name{CommonName: fmt.Sprintf("waggle-kube %s %s", a.title, now.Format("20060102T150405Z"))},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(CALifetime),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("make %s: %w", a.title, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("make %s: %w", a.title, err)
	}
	a.pair = &pair{chain: []*x509.Certificate{cert}, key: key}
	if err := r.writeAuthority(a); err != nil {
		return fmt.Errorf("make %s: %w", a.title, err)
	}
	r.record(r.spec.Layout.PKI(a.crtFile), "did not exist", cert.NotAfter)
	return nil
}

func (r *run) writeAuthority(a *authority) error {
	crt, key := r.spec.Layout.PKI(a.crtFile), r.spec.Layout.PKI(a.keyFile)
	keyText, err := a.keyPEM()
	if err != nil {
		return err
	}
	if err := r.stage(key, keyText, secretMode); err != nil {
		return err
	}
	if err := r.stage(crt, a.certPEM(), publicMode); err != nil {
		return err
	}
	if err := r.commit(key); err != nil {
		return err
	}
	return r.commit(crt)
}

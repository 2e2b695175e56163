// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// loadServiceAccountKey reads the key that signs service account tokens. It is
// absent if there is none and no sign that there was.
func (r *run) loadServiceAccountKey() (absent bool, err error) {
	path := r.spec.Layout.PKI(ServiceAccountKey)
	if err := r.restrict(path, secretMode); err != nil {
		return false, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, r.neverIssued(path)
	}
	if err != nil {
		return false, fmt.Errorf("read service account key: %w", err)
	}
	if _, err := parseKey(text); err != nil {
		return false, fmt.Errorf("read service account key %s: %w: restore it from a backup", path, err)
	}
	return false, r.discard(path)
}

// neverIssued says that the key was lost: it is made before any certificate.
func (r *run) neverIssued(path string) error {
	for _, l := range leaves(r.spec) {
		if _, err := os.Lstat(r.spec.Layout.PKI(l.file)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("read service account key: %s is missing: restore it from a backup; if there is none, remove the .pem files beside it to have a new one, which refuses every token issued so far", path)
		}
	}
	return nil
}

func (r *run) makeServiceAccountKey() error {
	path := r.spec.Layout.PKI(ServiceAccountKey)
	key, err := newKey()
	if err != nil {
		return fmt.Errorf("make service account key: %w", err)
	}
	text, err := encodeKey(key)
	if err != nil {
		return fmt.Errorf("make service account key: %w", err)
	}
	if err := r.write(path, text, secretMode); err != nil {
		return fmt.Errorf("make service account key: %w", err)
	}
	r.record(path, "did not exist", time.Time{})
	return nil
}

// parseKey reads the first private key of a text.
func parseKey(text []byte) (crypto.PrivateKey, error) {
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			return nil, errors.New("there is no private key in it")
		}
		switch block.Type {
		case "EC PRIVATE KEY":
			return x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			return x509.ParsePKCS1PrivateKey(block.Bytes)
		case "PRIVATE KEY":
			return x509.ParsePKCS8PrivateKey(block.Bytes)
		}
	}
}

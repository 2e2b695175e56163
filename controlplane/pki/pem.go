// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

const certBlock = "CERTIFICATE"

// pair is a certificate, what follows it in its chain, and its key.
type pair struct {
	chain []*x509.Certificate // at least one
	key   crypto.Signer
}

// cert is what the key belongs to.
func (p *pair) cert() *x509.Certificate { return p.chain[0] }

// parsePair reads a certificate and its key, which may be in one text.
func parsePair(certPEM, keyPEM []byte) (*pair, error) {
	c, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, err
	}
	key, ok := c.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T cannot sign", c.PrivateKey)
	}
	p := &pair{key: key}
	for _, der := range c.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		p.chain = append(p.chain, cert)
	}
	return p, nil
}

// parseCert reads the first certificate of a text.
func parseCert(text []byte) (*x509.Certificate, error) {
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			return nil, errors.New("there is no certificate in it")
		}
		if block.Type == certBlock {
			return x509.ParseCertificate(block.Bytes)
		}
	}
}

// certPEM is the chain as text.
func (p *pair) certPEM() []byte {
	var text []byte
	for _, c := range p.chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: certBlock, Bytes: c.Raw})...)
	}
	return text
}

// keyPEM is the key as text, see encodeKey.
func (p *pair) keyPEM() ([]byte, error) { return encodeKey(p.key) }

// newKey makes a key. P-256 is what all of Kubernetes takes (ES256 in tokens), and
// signs a hundred times faster than RSA.
func newKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// encodeKey writes a key. One of ECDSA is written as SEC 1, not as PKCS #8: where
// Kubernetes wants the public half of a key from a file
// (--service-account-key-file), it knows RSA alone as PKCS #8.
func encodeKey(key crypto.Signer) ([]byte, error) {
	if ec, ok := key.(*ecdsa.PrivateKey); ok {
		der, err := x509.MarshalECPrivateKey(ec)
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// SPDX-License-Identifier: Apache-2.0

// Package strict reads YAML files that people write by hand.
//
// A reader of such a file wants to know everything that is wrong with it at
// once, by the name of the field, and what to write instead. So the document is
// decoded as a tree: a mistake costs the one field that it is in, and the rest
// is still read and can still be validated. Unknown and repeated keys are
// mistakes too, as are anchors and aliases, which the file formats do not need.
//
// Decoding has no I/O and no state, and is bounded by the size of its input.
package strict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxBytes bounds a document: what people write by hand is far smaller.
const maxBytes = 16 << 20

// Decode reads the one YAML document in data into out, a pointer to a struct
// with json tags. What out holds already are the defaults: keys that are absent
// or null leave them as they are.
//
// The error is for what is no YAML document at all. Everything else is in the
// list, and out holds the rest of the document; a list element that could not
// be read is there as its zero value, so that positions stay true.
func Decode(data []byte, out any) (field.ErrorList, error) { return DecodeAt(nil, data, out) }

// DecodeAt is Decode for a document that is the value of one field, out a pointer
// to any type that a field may have. Errors name the places below p.
func DecodeAt(p *field.Path, data []byte, out any) (field.ErrorList, error) {
	if len(data) > maxBytes {
		return nil, fmt.Errorf("parse yaml: more than %d bytes", maxBytes)
	}
	root, err := document(data)
	if err != nil || root == nil {
		return nil, err
	}
	var d decoder
	d.value(p, root, reflect.ValueOf(out).Elem())
	return d.errs, nil
}

// Keys returns the paths of all keys that have a value in a document, as errors
// name them. It is empty for what is no YAML document.
func Keys(data []byte) map[string]bool {
	keys := map[string]bool{}
	if root, err := document(data); err == nil && root != nil {
		collect(root, "", keys)
	}
	return keys
}

func collect(n *yaml.Node, prefix string, keys map[string]bool) {
	if n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key, val := n.Content[i], n.Content[i+1]; !null(val) {
			keys[prefix+key.Value] = true
			collect(val, prefix+key.Value+".", keys)
		}
	}
}

// document returns the one document's root node, nil where there is none.
func document(data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	err := dec.Decode(&first)
	switch {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, parseError(err)
	}
	err = dec.Decode(&second)
	switch {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, parseError(err)
	default:
		return nil, fmt.Errorf("parse yaml: a second document begins at line %d: keep one", second.Line)
	}
	if first.Kind != yaml.DocumentNode || len(first.Content) != 1 {
		return nil, nil
	}
	return first.Content[0], nil
}

func parseError(err error) error {
	return fmt.Errorf("parse yaml: %s", strings.TrimPrefix(err.Error(), "yaml: "))
}

// Errors is everything that is wrong with a file, as one error.
type Errors field.ErrorList

// Err returns the list as an error, nil where it is empty.
func Err(list field.ErrorList) error {
	if len(list) == 0 {
		return nil
	}
	return Errors(list)
}

// maxShown is how many mistakes are shown: whoever has more has made one many
// times, and a log line has its limits.
const maxShown = 50

// Error is one line where there is one mistake; else it counts them and gives
// each a line.
func (e Errors) Error() string {
	if len(e) == 1 {
		return e[0].Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d errors:", len(e))
	for i, err := range e {
		if i == maxShown {
			fmt.Fprintf(&b, "\n  ... and %d more", len(e)-maxShown)
			break
		}
		b.WriteString("\n  " + err.Error())
	}
	return b.String()
}

// Unwrap gives errors.As the single mistakes.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, err := range e {
		out[i] = err
	}
	return out
}

// Merge adds to the errors of decoding those of validation, without what is
// only a consequence: a field that could not be read is also not valid.
func Merge(decoding, validation field.ErrorList) field.ErrorList {
	out := decoding
	for _, v := range validation {
		if !consequence(v, decoding) {
			out = append(out, v)
		}
	}
	return out
}

// consequence says whether a decoding error is about the same field as v, or
// about what holds it.
func consequence(v *field.Error, decoding field.ErrorList) bool {
	for _, d := range decoding {
		rest, ok := strings.CutPrefix(v.Field, d.Field)
		if d.Field == wholeDocument || ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
	}
	return false
}

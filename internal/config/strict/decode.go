// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// decoder walks a YAML tree and a Go value side by side and keeps what it finds wrong.
type decoder struct{ errs field.ErrorList }

// wholeDocument stands for a field's name in an error about no single field.
const wholeDocument = "(document)"

func (d *decoder) add(err *field.Error) { d.errs = append(d.errs, err) }

// value decodes n into v. It looks at v's type first and then at the node: the
// type says what should be there, and so what the remedy is.
func (d *decoder) value(p *field.Path, n *yaml.Node, v reflect.Value) {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.add(field.Forbidden(at(p), "anchors and aliases are not supported: write the value out"))
		return
	case null(n):
		return
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(p, n, v.Elem())
		return
	}
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		d.text(p, n, u)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.mapping(p, n, v)
	case reflect.Map:
		d.mapOf(p, n, v)
	case reflect.Slice:
		d.sequence(p, n, v)
	case reflect.Interface:
		d.dynamic(p, n, v)
	default:
		d.scalar(p, n, v)
	}
}

func (d *decoder) mapping(p *field.Path, n *yaml.Node, v reflect.Value) {
	known := fields(v.Type())
	d.entries(p, n, child, func(kp *field.Path, name string, val *yaml.Node) {
		index, ok := known[name]
		if !ok {
			d.add(field.Forbidden(kp, "unknown key: "+suggest(name, known)))
			return
		}
		d.value(kp, val, v.Field(index))
	})
}

// entries visits the keys of a mapping that are words, each once. The path of
// what is at a key is what path makes of p and the key.
func (d *decoder) entries(p *field.Path, n *yaml.Node, path func(*field.Path, string) *field.Path,
	visit func(kp *field.Path, name string, val *yaml.Node),
) {
	if n.Kind != yaml.MappingNode {
		d.add(wrongKind(p, n, "a mapping of keys to values"))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		name, kp := key.Value, path(p, key.Value)
		if key.Kind != yaml.ScalarNode {
			d.add(wrongKind(p, key, "a plain word as a key"))
			continue
		}
		if line, again := seen[name]; again {
			err := field.Duplicate(kp, name)
			err.Detail = fmt.Sprintf("the key is at lines %d and %d: keep one", line, key.Line)
			d.add(err)
			continue
		}
		seen[name] = key.Line
		visit(kp, name, val)
	}
}

func (d *decoder) sequence(p *field.Path, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.add(wrongKind(p, n, "a list, as in [a, b]"))
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		if null(item) {
			d.add(field.Required(index(p, i), "an empty list element: take it out"))
			continue
		}
		d.value(index(p, i), item, v.Index(i))
	}
}

// text decodes what has a text form. The scalar's tag does not matter: what
// YAML takes for a number may well be the text that is meant.
func (d *decoder) text(p *field.Path, n *yaml.Node, u encoding.TextUnmarshaler) {
	if n.Kind != yaml.ScalarNode {
		d.add(wrongKind(p, n, "one value"))
		return
	}
	if err := u.UnmarshalText([]byte(n.Value)); err != nil {
		d.add(field.Invalid(at(p), n.Value, TextRemedy(u, n.Value, err)))
	}
}

// TextRemedy words what is wrong with a text: the library's errors for
// addresses name the parser's trouble, not the reader's. The error is u's.
func TextRemedy(u encoding.TextUnmarshaler, s string, err error) string {
	switch u.(type) {
	case *netip.Prefix:
		if a, aerr := netip.ParseAddr(s); aerr == nil {
			return fmt.Sprintf("an address without a prefix length: add one, as in %s", netip.PrefixFrom(a.WithZone(""), a.BitLen()))
		}
		return "not a CIDR: write it as 10.244.1.0/24 or fd00:10:244:1::/64"
	case *netip.Addr:
		if pfx, perr := netip.ParsePrefix(s); perr == nil {
			return fmt.Sprintf("a CIDR, not an address: use %s", pfx.Addr())
		}
		return "not an IP address: write it as 192.0.2.1 or 2001:db8::1"
	}
	return err.Error()
}

func (d *decoder) scalar(p *field.Path, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.add(wrongKind(p, n, "one value"))
		return
	}
	switch tag := n.ShortTag(); v.Kind() {
	case reflect.String:
		if tag != "!!str" {
			d.add(field.Invalid(at(p), n.Value, fmt.Sprintf("not text for YAML: put quotes around it: %q", n.Value)))
			return
		}
		v.SetString(n.Value)
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if err != nil || tag != "!!bool" {
			d.add(field.Invalid(at(p), n.Value, "use true or false"))
			return
		}
		v.SetBool(b)
	case reflect.Int:
		i, err := strconv.ParseInt(n.Value, 10, v.Type().Bits())
		if err != nil || tag != "!!int" {
			d.add(field.Invalid(at(p), n.Value, "use a plain whole number"))
			return
		}
		v.SetInt(i)
	case reflect.Uint32:
		u, err := strconv.ParseUint(n.Value, 10, 32)
		if err != nil || tag != "!!int" {
			d.add(field.Invalid(at(p), n.Value, "use a plain whole number from 0 to 4294967295"))
			return
		}
		v.SetUint(u)
	default:
		panic(fmt.Sprintf("strict: no decoding for %s at %s", v.Type(), p))
	}
}

// null says whether nothing is written: the key is there, its value is not.
func null(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// fields maps the json names of a struct's fields to their positions.
func fields(t reflect.Type) map[string]int {
	out := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		out[name] = i
	}
	return out
}

// wrongKind says what is at p and what should be.
func wrongKind(p *field.Path, n *yaml.Node, want string) *field.Error {
	switch n.Kind {
	case yaml.MappingNode:
		return field.TypeInvalid(at(p), "{...}", fmt.Sprintf("a mapping, at line %d: write %s", n.Line, want))
	case yaml.SequenceNode:
		return field.TypeInvalid(at(p), "[...]", fmt.Sprintf("a list, at line %d: write %s", n.Line, want))
	}
	return field.TypeInvalid(at(p), n.Value, fmt.Sprintf("a single value, at line %d: write %s", n.Line, want))
}

// at names the place in an error, where the whole document has a name too.
func at(p *field.Path) *field.Path {
	if p == nil {
		return field.NewPath(wholeDocument)
	}
	return p
}

func child(p *field.Path, name string) *field.Path {
	if p == nil {
		return field.NewPath(name)
	}
	return p.Child(name)
}

func index(p *field.Path, i int) *field.Path { return at(p).Index(i) }

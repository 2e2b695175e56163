// SPDX-License-Identifier: Apache-2.0

package strict

import (
	"fmt"
	"math"
	"reflect"
	"strconv"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// mapOf decodes a mapping whose keys are the user's own. They stand in brackets
// in errors, save where the value may be anything: then it is a document of
// somebody else's, whose keys are as good as ours.
func (d *decoder) mapOf(p *field.Path, n *yaml.Node, v reflect.Value) {
	path := func(p *field.Path, name string) *field.Path { return at(p).Key(name) }
	anything := v.Type().Elem().Kind() == reflect.Interface
	if anything {
		path = child
	}
	m := reflect.MakeMap(v.Type())
	d.entries(p, n, path, func(kp *field.Path, name string, val *yaml.Node) {
		item := reflect.New(v.Type().Elem()).Elem()
		if null(val) { // as is {key:1}, where YAML sees no value but a longer key
			d.add(field.Required(kp, "an empty value: write one, after a colon and a blank, or take the key out"))
			return
		}
		d.value(kp, val, item)
		m.SetMapIndex(reflect.ValueOf(name), item)
	})
	if n.Kind == yaml.MappingNode {
		v.Set(m)
	}
}

// dynamic decodes what has no type of ours: to map[string]any, []any, string,
// bool, int64, or float64 for what is no whole number.
func (d *decoder) dynamic(p *field.Path, n *yaml.Node, v reflect.Value) {
	switch n.Kind {
	case yaml.MappingNode:
		var m map[string]any
		d.mapOf(p, n, reflect.ValueOf(&m).Elem())
		v.Set(reflect.ValueOf(m))
	case yaml.SequenceNode:
		var s []any
		d.sequence(p, n, reflect.ValueOf(&s).Elem())
		v.Set(reflect.ValueOf(s))
	default:
		value, remedy := scalarOf(n)
		if remedy != "" {
			d.add(field.Invalid(at(p), n.Value, remedy))
			return
		}
		v.Set(reflect.ValueOf(value))
	}
}

// scalarOf returns what a scalar means by itself, or else what to write.
func scalarOf(n *yaml.Node) (value any, remedy string) {
	switch tag := n.ShortTag(); tag {
	case "!!str", "!!timestamp":
		return n.Value, ""
	case "!!bool":
		b, err := strconv.ParseBool(n.Value)
		if err != nil {
			return nil, "use true or false"
		}
		return b, ""
	case "!!int":
		i, err := strconv.ParseInt(n.Value, 10, 64)
		if err != nil || strconv.FormatInt(i, 10) != n.Value {
			return nil, "use a plain whole number, or quotes around it where text is meant"
		}
		return i, ""
	case "!!float":
		f, err := strconv.ParseFloat(n.Value, 64)
		if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			return nil, "use a plain number, or quotes around it where text is meant"
		}
		return Number(f), ""
	default:
		return nil, fmt.Sprintf("YAML's %s is not supported: put quotes around the text", tag)
	}
}

// Number is f, as an int64 where that is the same: so a value does not change its
// type when it is written as JSON, which knows one type of number, and read again.
func Number(f float64) any {
	if f == math.Trunc(f) && math.Abs(f) < 1<<63 {
		return int64(f)
	}
	return f
}

// SPDX-License-Identifier: Apache-2.0

package option

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/waggle-net/waggle/internal/config/strict"
)

// value is the pflag.Value of an option. It reads text into a configuration
// that holds nothing but what one source said, over the defaults.
type value[C any] struct {
	Option[C]
	held *C
	set  bool
	// errs is what is wrong with YAML. It waits for Apply: there it is told by
	// field, and without the text, which may hold a password.
	errs field.ErrorList
}

// Type is what the help shows for the value.
func (v *value[C]) Type() string {
	if v.Unit == "" {
		return "bool" // pflag knows the name: it shows no value then
	}
	return v.Unit
}

// String is the value as text: the default, before the flag is set.
func (v *value[C]) String() string {
	if v.held == nil { // pflag asks a zero value for its text
		return ""
	}
	return v.Default(v.held)
}

// Set reads the value. A list or mapping adds to what the same source said before.
func (v *value[C]) Set(s string) error {
	target := reflect.ValueOf(v.Ptr(v.held)).Elem()
	if kind := target.Kind(); !v.set && (kind == reflect.Slice || kind == reflect.Map) {
		target.SetZero()
	}
	v.set = true
	switch p := v.Ptr(v.held).(type) {
	case encoding.TextUnmarshaler:
		if err := p.UnmarshalText([]byte(s)); err != nil {
			return fmt.Errorf("%s", strict.TextRemedy(p, s, err))
		}
		return nil
	case *bool:
		return parse1(p, s, strconv.ParseBool, "use true or false")
	case *int:
		return parse1(p, s, strconv.Atoi, "use a whole number")
	case *uint32:
		return parse1(p, s, parseUint32, "use a whole number from 0 to 4294967295")
	}
	switch target.Kind() {
	case reflect.String:
		target.SetString(s)
	case reflect.Slice:
		if target.Type().Elem().Kind() == reflect.Struct && !isText(target.Type().Elem()) {
			v.addYAML(target, s)
			return nil
		}
		return addTexts(target, s)
	case reflect.Map:
		if name, text, ok := strings.Cut(s, "="); ok && target.Type().Elem().Kind() == reflect.String && !strings.HasPrefix(strings.TrimSpace(s), "{") {
			put(target, reflect.ValueOf(name), reflect.ValueOf(text))
			return nil
		}
		v.addYAML(target, s)
	default:
		return fmt.Errorf("no flag for a %s", target.Type())
	}
	return nil
}

// isText says whether values of the type are read by their UnmarshalText.
func isText(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func parse1[T any](p *T, s string, parse func(string) (T, error), remedy string) error {
	v, err := parse(s)
	if err != nil {
		return fmt.Errorf("%s", remedy)
	}
	*p = v
	return nil
}

func parseUint32(s string) (uint32, error) {
	u, err := strconv.ParseUint(s, 10, 32)
	return uint32(u), err
}

// addTexts appends the texts between commas. None is how a list is cleared.
func addTexts(list reflect.Value, s string) error {
	for text := range strings.SplitSeq(s, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		item := reflect.New(list.Type().Elem())
		if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](item); ok {
			if err := u.UnmarshalText([]byte(text)); err != nil {
				return fmt.Errorf("%q: %s", text, strict.TextRemedy(u, text, err))
			}
		} else {
			item.Elem().SetString(text)
		}
		list.Set(reflect.Append(list, item.Elem()))
	}
	return nil
}

// addYAML appends to a list, or puts into a mapping, what the text says in YAML:
// [{...}] or {...}.
func (v *value[C]) addYAML(target reflect.Value, s string) {
	p := Path(v.Field)
	more := reflect.New(target.Type())
	errs, err := strict.DecodeAt(p, []byte(s), more.Interface())
	v.errs = append(v.errs, errs...)
	switch {
	case err != nil:
		v.errs = append(v.errs, field.Forbidden(p, err.Error()))
	case target.Kind() == reflect.Slice:
		target.Set(reflect.AppendSlice(target, more.Elem()))
	default:
		for key, item := range more.Elem().Seq2() {
			put(target, key, item)
		}
	}
}

func put(m, key, item reflect.Value) {
	if m.IsNil() {
		m.Set(reflect.MakeMap(m.Type()))
	}
	m.SetMapIndex(key, item)
}

// Path is the path of a field, for errors about it.
func Path(name string) *field.Path {
	first, rest, more := strings.Cut(name, ".")
	if !more {
		return field.NewPath(first)
	}
	return field.NewPath(first, strings.Split(rest, ".")...)
}

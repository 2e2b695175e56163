// SPDX-License-Identifier: Apache-2.0

// Package option puts flags and environment variables over a configuration file:
// each field of the file has one of each, named after it.
//
// A list or mapping that a flag sets replaces that of the environment, which
// replaces that of the file. Who set a field is remembered, so that an error can
// say where to look.
package option

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode"

	"github.com/spf13/pflag"

	"github.com/waggle-net/waggle/internal/config/strict"
)

// Option is a field of a configuration C that can be set beside the file.
//
// What Ptr points to is text (a string, or an encoding.TextUnmarshaler), a bool,
// an int, a uint32, a list of texts, or what takes YAML: a list of structs or a
// mapping.
type Option[C any] struct {
	Field string       // its path in the file
	Unit  string       // what the help shows for the value; empty for a bool
	Usage string       // what the help says
	Ptr   func(*C) any // where it is
}

// Flag is the name of the option's flag, without the dashes.
func (o Option[C]) Flag() string { return FlagName(o.Field) }

// Default is the option's value in a configuration, as text that its flag reads;
// empty for what is unset.
func (o Option[C]) Default(c *C) string { return textOf(reflect.ValueOf(o.Ptr(c)).Elem()) }

// Set is all options of a configuration C.
type Set[C any] struct {
	Options []Option[C]
	Default func() *C // the configuration of an empty file
	Env     string    // what the names of environment variables begin with; empty for none
}

// AddFlags adds a flag for each option to flags.
func (s *Set[C]) AddFlags(flags *pflag.FlagSet) {
	held := s.Default()
	for _, o := range s.Options {
		f := flags.VarPF(&value[C]{Option: o, held: held}, o.Flag(), "", o.Usage)
		if _, ok := o.Ptr(held).(*bool); ok {
			f.NoOptDefVal = "true"
		}
	}
}

// EnvName is the name of the environment variable for a field of the file.
func (s *Set[C]) EnvName(field string) string {
	return s.Env + strings.ToUpper(strings.ReplaceAll(FlagName(field), "-", "_"))
}

// words are those that fields spell in capitals; these are not their letters' fault.
var words = strings.NewReplacer("CIDR", "Cidr", "IP", "Ip", "SAN", "San", "MB", "Mb")

// FlagName is the name of the flag for a field of the file: its path in kebab
// case, so ipam.restTime is ipam-rest-time.
func FlagName(path string) string {
	var b strings.Builder
	for _, r := range words.Replace(path) {
		switch {
		case r == '.':
			b.WriteByte('-')
		case unicode.IsUpper(r):
			b.WriteByte('-')
			b.WriteRune(unicode.ToLower(r))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// FlagError adds the remedy to an error of parsing flags, for cobra's
// SetFlagErrorFunc: pflag does not say which flag may be meant by an unknown one.
func FlagError(flags *pflag.FlagSet, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || unknown.GetSpecifiedShortnames() != "" {
		return err
	}
	var names []string
	flags.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if best, ok := strict.Nearest(unknown.GetSpecifiedName(), names); ok {
		return fmt.Errorf("%w: did you mean --%s?", err, best)
	}
	return fmt.Errorf("%w: --help lists them", err)
}

// textOf is the text of a value, empty for a number that is zero: the usage says
// what that stands for.
func textOf(v reflect.Value) string {
	if m, ok := reflect.TypeAssert[encoding.TextMarshaler](v); ok {
		b, err := m.MarshalText()
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	switch v.Kind() {
	case reflect.Slice:
		texts := make([]string, v.Len())
		for i := range texts {
			texts[i] = textOf(v.Index(i))
		}
		return strings.Join(texts, ",")
	case reflect.Map, reflect.Int:
		if v.IsZero() {
			return ""
		}
	}
	return fmt.Sprint(v.Interface())
}

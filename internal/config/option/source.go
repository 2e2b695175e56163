// SPDX-License-Identifier: Apache-2.0

package option

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/waggle-net/waggle/internal/config/strict"
)

// Sources says who set which field of a configuration.
type Sources struct {
	over   map[string]string // by field: the flag or variable
	file   map[string]bool   // the keys of the file; nil where errors shall not name it
	fields []string          // of all options
}

// Apply puts what the environment says over c, and then the flags that were set.
// Either may be nil. The list is of what could not be read.
//
// A variable that is empty counts as unset. One that begins like ours, but is
// unknown, is a mistake where it resembles a known one or names a section of the
// file; else it is somebody else's.
func (s *Set[C]) Apply(c *C, environ []string, flags *pflag.FlagSet) (Sources, field.ErrorList) {
	src := Sources{over: map[string]string{}}
	for _, o := range s.Options {
		src.fields = append(src.fields, o.Field)
	}
	errs := s.applyEnv(c, environ, src)
	if flags == nil {
		return src, errs
	}
	flags.Visit(func(f *pflag.Flag) {
		v, ok := f.Value.(*value[C])
		if !ok { // somebody else's flag
			return
		}
		v.copyTo(c)
		// The flag replaced what could not be read, so that does not matter any more.
		errs = slices.DeleteFunc(errs, func(e *field.Error) bool { return src.option(e.Field) == v.Field })
		errs = append(errs, v.errs...)
		src.over[v.Field] = "--" + f.Name
	})
	return src, errs
}

func (s *Set[C]) applyEnv(c *C, environ []string, src Sources) field.ErrorList {
	var errs field.ErrorList
	if s.Env == "" {
		return nil
	}
	byName := map[string]Option[C]{}
	for _, o := range s.Options {
		byName[s.EnvName(o.Field)] = o
	}
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, s.Env) || text == "" {
			continue
		}
		o, ok := byName[name]
		if !ok {
			errs = append(errs, s.unknownEnv(name)...)
			continue
		}
		v := value[C]{Option: o, held: s.Default()}
		if err := v.Set(text); err != nil {
			v.errs = append(v.errs, field.Invalid(Path(o.Field), text, err.Error()))
		}
		v.copyTo(c)
		errs = append(errs, v.errs...)
		src.over[o.Field] = name
	}
	return errs
}

// copyTo copies the value to c. What could not be read is there as far as it could.
func (v *value[C]) copyTo(c *C) {
	reflect.ValueOf(v.Ptr(c)).Elem().Set(reflect.ValueOf(v.Ptr(v.held)).Elem())
}

func (s *Set[C]) unknownEnv(name string) field.ErrorList {
	var names, section []string
	for _, o := range s.Options {
		known := s.EnvName(o.Field)
		names = append(names, known)
		if first, _, nested := strings.Cut(o.Field, "."); nested && strings.HasPrefix(name, s.EnvName(first)+"_") {
			section = append(section, known)
		}
	}
	best, near := strict.Nearest(name, names)
	switch {
	case near:
		return field.ErrorList{field.Forbidden(field.NewPath(name), "unknown environment variable: did you mean "+best+"?")}
	case section != nil:
		return field.ErrorList{field.Forbidden(field.NewPath(name), "unknown environment variable: use one of "+strings.Join(section, ", "))}
	}
	return nil
}

// NameFile makes errors name the file, too, and defaults: keys are those of the
// file (strict.Keys).
func (s *Sources) NameFile(keys map[string]bool) { s.file = keys }

// FromFile says whether a field has its value from the file.
func (s Sources) FromFile(name string) bool { return s.file[name] && s.over[name] == "" }

// Repaired returns the errors of reading the file without those about fields that
// were then set over it.
func (s Sources) Repaired(errs field.ErrorList) field.ErrorList {
	return slices.DeleteFunc(errs, func(e *field.Error) bool { return s.over[s.option(e.Field)] != "" })
}

// Attribute adds to each error who set its field.
func (s Sources) Attribute(errs field.ErrorList) {
	for _, e := range errs {
		name := s.option(e.Field)
		switch {
		case name == "": // an unknown name, or a whole section
		case s.over[name] != "":
			e.Detail += fmt.Sprintf(" (set by %s)", s.over[name])
		case s.file[name]:
			e.Detail += " (set by the file)"
		case s.file != nil && e.Type != field.ErrorTypeRequired:
			e.Detail += " (the default)"
		}
	}
}

// option is the option that an error is about: its field, or what that is in.
func (s Sources) option(name string) string {
	for _, f := range s.fields {
		if rest, ok := strings.CutPrefix(name, f); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return f
		}
	}
	return ""
}

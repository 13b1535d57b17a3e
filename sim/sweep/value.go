package sweep

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// Kind is the type of a value.
type Kind uint8

// The kinds. A column that mixes Int and Float is Float; one that mixes Text and
// numbers is Text.
const (
	Null  Kind = iota // nothing was measured
	Int               // a whole number
	Float             // a real number
	Text
)

// Value is one field of a row. The zero Value is Null.
type Value struct {
	Kind Kind
	I    int64
	F    float64
	S    string
}

// IntValue is a whole number.
func IntValue(v int64) Value { return Value{Kind: Int, I: v} }

// FloatValue is a real number. What is not finite is Null: neither JSON nor most
// readers of tables know it.
func FloatValue(v float64) Value {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return Value{}
	}
	return Value{Kind: Float, F: v}
}

// TextValue is a text.
func TextValue(v string) Value { return Value{Kind: Text, S: v} }

// parseValue gives a parameter's text the narrowest kind whose text it is: "10" is a
// number, "010" and "10mbit" are not.
func parseValue(s string) Value {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil && strconv.FormatInt(i, 10) == s {
		return IntValue(i)
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && isDecimal(s) {
		return FloatValue(f)
	}
	return TextValue(s)
}

// isDecimal reports whether s is a plain decimal number ("0.5", "-3e-6"): not
// hexadecimal, "Inf" or "1_000", and no leading zeros, which only a name has.
func isDecimal(s string) bool { return json.Valid([]byte(s)) }

// String is the value as it stands in a CSV table: a float is the shortest text that
// reads back as the same number, Null is empty.
func (v Value) String() string {
	switch v.Kind {
	case Int:
		return strconv.FormatInt(v.I, 10)
	case Float:
		return strconv.FormatFloat(v.F, 'g', -1, 64)
	case Text:
		return v.S
	}
	return ""
}

// MarshalJSON keeps the kind: a Float always has a point or an exponent.
func (v Value) MarshalJSON() ([]byte, error) {
	switch v.Kind {
	case Int:
		return strconv.AppendInt(nil, v.I, 10), nil
	case Float:
		b := strconv.AppendFloat(nil, v.F, 'g', -1, 64)
		if !bytes.ContainsAny(b, ".e") {
			b = append(b, '.', '0')
		}
		return b, nil
	case Text:
		return json.Marshal(v.S)
	}
	return []byte("null"), nil
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (v *Value) UnmarshalJSON(b []byte) error {
	switch {
	case bytes.Equal(b, []byte("null")):
		*v = Value{}
		return nil
	case b[0] == '"':
		*v = Value{Kind: Text}
		return json.Unmarshal(b, &v.S)
	case bytes.ContainsAny(b, ".eE"):
		f, err := strconv.ParseFloat(string(b), 64)
		*v = FloatValue(f)
		return err
	}
	i, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return fmt.Errorf("value %s: want a number or a text", b)
	}
	*v = IntValue(i)
	return nil
}

// Cell is a measured value with the name of its column.
type Cell struct {
	Name  string
	Value Value
}

// MarshalJSON writes the cell as a pair, so that a row keeps the order of its columns.
func (c Cell) MarshalJSON() ([]byte, error) { return json.Marshal([]any{c.Name, c.Value}) }

// UnmarshalJSON is the inverse of MarshalJSON.
func (c *Cell) UnmarshalJSON(b []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(b, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("cell %s: want a name and a value", b)
	}
	if err := json.Unmarshal(pair[0], &c.Name); err != nil {
		return err
	}
	return json.Unmarshal(pair[1], &c.Value)
}
